//! Counts objects and calls, and has calls fail.

use orion_ane::{Call, CallError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Objects that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Living {
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
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Model,
    Loaded,
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
        }
    }

    pub(super) fn token(self: &Arc<Self>, kind: Kind) -> Token {
        *self.lock().living.of(kind) += 1;
        Token { ledger: self.clone(), kind }
    }
}

impl Living {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Model => &mut self.models,
            Kind::Loaded => &mut self.loaded,
            Kind::Surface => &mut self.surfaces,
            Kind::Request => &mut self.requests,
        }
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
        *self.ledger.lock().living.of(self.kind) -= 1;
    }
}
