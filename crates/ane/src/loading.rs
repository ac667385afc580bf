//! Loading and unloading programs: through which connection, and which makes room for which.

use crate::programs::{Programs, Slot, State};
use crate::{Binding, CallError, Descriptor, Error, ErrorKind, Failure, Framework};
use orion_tensor::f16;
use std::collections::BTreeMap;

impl<F: Framework> Programs<F> {
    /// Loads a program. While there is no room, another connection is opened for it; where that
    /// does not help, others are unloaded. A connection that turns out to be closed is left for
    /// another, once.
    pub(crate) fn load(&self, state: &mut State<F>, slot: &mut Slot<F>) -> Result<(), Error> {
        while state.clients.loaded() >= self.options.live_programs.max(1) && self.evict(state)? {}
        let mut closed = None;
        loop {
            let Some(client) = self.client_with_room(state) else {
                if state.clients.len() == 0 {
                    let what = "every connection to the system's service was closed";
                    let error = Error::new(ErrorKind::Load, what);
                    return Err(closed.unwrap_or(error.hint(Failure::Disconnected.hint())));
                }
                if self.evict(state)? {
                    continue;
                }
                return Err(Error::new(ErrorKind::Load, "there is no room for another program"));
            };
            // The wait for it is not spent with room that others need: they are unloaded before.
            let turn = slot.directory.turn()?;
            let load =
                |state: &State<F>| self.framework.load(&slot.model, state.clients.get(client));
            let others = state.clients.loaded();
            let loaded = match load(state) {
                Err(e) if e.failure().is_transient() && others > 0 => {
                    // It may be for no reason.
                    self.pause(state, 1);
                    load(state)
                }
                loaded => loaded,
            };
            drop(turn);
            let error = match loaded {
                Ok(()) => {
                    state.clients.took(client);
                    slot.client = Some(client);
                    return Ok(());
                }
                Err(error) => error,
            };
            let failure = error.failure();
            if !failure.is_transient() || others == 0 {
                let what = "the compiled program cannot be loaded";
                let error = Error::of_call(ErrorKind::Load, what, error);
                if failure != Failure::Disconnected {
                    return Err(error);
                }
                state.clients.close(client);
                if closed.is_some() {
                    return Err(error);
                }
                closed = Some(error);
                continue;
            }
            state.clients.was_full(client);
        }
    }

    /// The number of a connection that may take a program, opened if need be.
    fn client_with_room(&self, state: &mut State<F>) -> Option<usize> {
        if let Some(client) = state.clients.with_room() {
            return Some(client);
        }
        if !state.clients.may_open(self.options.clients) {
            return None;
        }
        match self.open_client(state) {
            Ok(client) => Some(state.clients.add(client)),
            Err(_) => {
                state.clients.refuse();
                None
            }
        }
    }

    /// Whether programs run through a connection of their own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_own_client(&self) -> Result<(), Error> {
        self.open_client(&mut self.lock()).map(drop)
    }

    /// A new connection. The first has to show that programs give right results through it.
    fn open_client(&self, state: &mut State<F>) -> Result<F::Client, Error> {
        self.retried(state, |state| self.try_client(state))
    }

    fn try_client(&self, state: &mut State<F>) -> Result<F::Client, Error> {
        let what = "there is no other connection to the system's service";
        let client =
            self.framework.client().map_err(|e| Error::of_call(ErrorKind::Load, what, e))?;
        if !state.clients.proven {
            self.prove(state, &client)?;
            state.clients.proven = true;
        }
        Ok(client)
    }

    /// Runs a program through a connection. It has one row in and one row out, so that it does not
    /// matter how memory is bound.
    fn prove(&self, state: &mut State<F>, client: &F::Client) -> Result<(), Error> {
        let descriptor = Descriptor { text: PROOF.to_owned(), weights: BTreeMap::new() };
        let framework = &self.framework;
        let slot = self.slot(&descriptor)?;
        let failed = |e: CallError| {
            let what = "programs do not run through a connection of their own";
            Error::of_call(ErrorKind::Proof, what, e)
        };
        if !framework.compiled_model_exists(&slot.model).map_err(failed)? {
            self.have_compiled(state, &slot)?;
        }
        let turn = slot.directory.turn()?;
        framework.load(&slot.model, Some(client)).map_err(failed)?;
        let ran = run_proof(framework, &slot.model);
        let unloaded = framework.unload(&slot.model);
        drop(turn);
        let seen = ran.map_err(failed)?;
        unloaded.map_err(failed)?;
        let wrong = (0..32).find(|&i| seen.get(i) != Some(&f16::from_f64(2.0 * i as f64)));
        let Some(i) = wrong else { return Ok(()) };
        let found = seen.get(i).map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let message = format!(
            "a program through a connection of its own gives wrong results: element {i} is {found}, expected {}",
            2 * i
        );
        Err(Error::new(ErrorKind::Proof, message))
    }

    /// Unloads the program that has not run for the longest time. Says whether there was one.
    fn evict(&self, state: &mut State<F>) -> Result<bool, Error> {
        let loaded = state.slots.iter().filter(|(_, s)| s.client.is_some());
        let Some(id) = loaded.min_by_key(|(_, s)| s.used).map(|(&id, _)| id) else {
            return Ok(false);
        };
        let mut slot = state.slots.remove(&id).expect("just found");
        let unloaded = self.unload(state, &mut slot);
        state.slots.insert(id, slot);
        state.counts.evictions += 1;
        state.clients.evicts();
        let what = "there is no room for another program";
        unloaded.map(|()| true).map_err(|e| Error::of_call(ErrorKind::Load, what, e))
    }

    /// Unloads a program, whatever the failures say as long as attempts are left; but a call that
    /// throws is not made again, and a program whose connection is closed is gone with it.
    pub(crate) fn unload(&self, state: &mut State<F>, slot: &mut Slot<F>) -> Result<(), CallError> {
        // It would be unloaded without, too.
        let _turn = slot.directory.turn_to_remove();
        let mut attempt = 0;
        while let Err(error) = self.framework.unload(&slot.model) {
            attempt += 1;
            let failure = error.failure();
            if failure == Failure::Disconnected {
                state.clients.close(slot.client.expect("it is loaded"));
                break;
            }
            if failure == Failure::Exception || attempt >= self.options.retry.attempts {
                return Err(error);
            }
            self.pause(state, attempt);
        }
        state.clients.released(slot.client.take().expect("it is loaded"));
        Ok(())
    }

    /// Releases a program that nobody uses any more.
    pub(crate) fn discard(&self, state: &mut State<F>, mut slot: Slot<F>) {
        if slot.client.is_some() && self.unload(state, &mut slot).is_err() {
            // Releasing the object is all that is left.
            state.clients.released(slot.client.take().expect("it was not unloaded"));
        }
    }
}

/// What comes out of the proof's program for 0, 1, 2, ….
fn run_proof<F: Framework>(framework: &F, model: &F::Model) -> Result<Vec<f16>, CallError> {
    let (mut x, y) = (framework.surface(64)?, framework.surface(64)?);
    for (i, element) in framework.write(&mut x)?.chunks_exact_mut(2).enumerate() {
        element.copy_from_slice(&f16::from_f64(i as f64).to_le_bytes());
    }
    framework.finish_writing(&x)?;
    let bind = |surface| [Binding { index: 0, surface }];
    let request = framework.request(&bind(&x), &bind(&y), None)?;
    framework.evaluate(model, &request)?;
    let elements = framework.read(&y)?.chunks_exact(2);
    Ok(elements.map(|e| f16::from_le_bytes([e[0], e[1]])).collect())
}

/// `x + x`.
const PROOF: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-component-MIL", "3510.2.1"}, {"coremlc-version", "3505.4.1"}})]
{
    func main<ios18>(tensor<fp16, [1, 1, 1, 32]> a0000) {
        tensor<fp16, [1, 1, 1, 32]> z0000 = add(x = a0000, y = a0000)[name = string("z0000")];
    } -> (z0000);
}
"#;
