//! Counts objects and calls, and has calls fail.

use orion_ane::{Call, CallError};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Objects that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Living {
    /// Connections that were opened besides the one that all models share.
    pub clients: usize,
    /// Models.
    pub models: usize,
    /// Models that are loaded.
    pub loaded: usize,
    /// Surfaces, counted once however many hold them.
    pub surfaces: usize,
    /// Requests.
    pub requests: usize,
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// For no reason that is given.
    Transient,
    /// With these words of the system.
    Says(String),
    /// Because the connection to the system's service was interrupted.
    Interrupted,
    /// With an exception, which says this.
    Throws(String),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Client,
    Model,
    /// Through the connection of that number; 0 is the one that all models share.
    Loaded(usize),
    Surface,
    Request,
}

#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    living: Living,
    calls: Vec<Call>,
    faults: HashMap<usize, Fault>,
    /// Programs that are loaded, by connection.
    loaded: HashMap<usize, usize>,
    clients_so_far: usize,
    /// Connections that were closed.
    closed: HashSet<usize>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn living(&self) -> Living {
        self.lock().living
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub(super) fn count(&self, call: Call) -> usize {
        self.lock().calls.iter().filter(|&&c| c == call).count()
    }

    pub(super) fn fail_at(&self, number: usize, fault: Fault) {
        self.lock().faults.insert(number, fault);
    }

    /// Records a call, and fails it if that was asked for.
    pub(super) fn call(&self, call: Call) -> Result<(), CallError> {
        let mut records = self.lock();
        let number = records.calls.len();
        records.calls.push(call);
        match records.faults.get(&number) {
            None => Ok(()),
            Some(Fault::Transient) => Err(CallError::new(call, "no reason was given")),
            Some(Fault::Says(text)) => Err(CallError::new(call, text.clone())),
            Some(Fault::Interrupted) => Err(connection_error(call, 4097)),
            Some(Fault::Throws(text)) => Err(CallError::thrown(call, text)),
        }
    }

    pub(super) fn close(&self, client: usize) {
        self.lock().closed.insert(client);
    }

    /// Fails a call that goes through a connection which was closed.
    pub(super) fn reach(&self, call: Call, client: usize) -> Result<(), CallError> {
        if !self.lock().closed.contains(&client) {
            return Ok(());
        }
        Err(connection_error(call, 4099))
    }

    /// A number that no connection had yet.
    pub(super) fn next_client(&self) -> usize {
        let mut records = self.lock();
        records.clients_so_far += 1;
        records.clients_so_far
    }

    /// Programs that are loaded through a connection.
    pub(super) fn loaded_through(&self, client: usize) -> usize {
        self.lock().loaded.get(&client).copied().unwrap_or(0)
    }

    pub(super) fn token(self: &Arc<Self>, kind: Kind) -> Token {
        self.lock().counts(kind).for_each(|count| *count += 1);
        Token { ledger: self.clone(), kind }
    }
}

/// What Foundation says of connections: `NSXPCConnectionInterrupted` (4097) and `…Invalid` (4099).
fn connection_error(call: Call, code: i64) -> CallError {
    let text = "Couldn't communicate with a helper application. (NSCocoaErrorDomain)";
    CallError { call, code: Some(code), text: text.to_owned() }
}

impl Records {
    /// What counts objects of a kind.
    fn counts(&mut self, kind: Kind) -> impl Iterator<Item = &mut usize> {
        let living = &mut self.living;
        let (all, of_client) = match kind {
            Kind::Client => (&mut living.clients, None),
            Kind::Model => (&mut living.models, None),
            Kind::Loaded(client) => {
                (&mut living.loaded, Some(self.loaded.entry(client).or_default()))
            }
            Kind::Surface => (&mut living.surfaces, None),
            Kind::Request => (&mut living.requests, None),
        };
        std::iter::once(all).chain(of_client)
    }
}

/// Counts one object for as long as it exists.
#[derive(Debug)]
pub(super) struct Token {
    ledger: Arc<Ledger>,
    kind: Kind,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.ledger.lock().counts(self.kind).for_each(|count| *count -= 1);
    }
}
