//! Whose turn it is with memory that the host and the engine share.
//!
//! A system may keep what the host writes from the engine until the host unlocks a surface, and
//! what the engine writes from the host until the host locks it. So the host touches bytes only
//! between locking and unlocking, and says whether it writes; the engine writes only what the host
//! does not hold, and reads only what the host does not hold for writing. Both may read at the
//! same time: nobody changes anything then.
//!
//! Locks are taken when the host looks and given back when the engine is to write, not at the
//! ends of runs: what only the engine touches is never locked at all.

use crate::{Call, CallError};

/// How the host holds memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Not at all.
    #[default]
    Free,
    /// To read it.
    Read,
    /// To read and write it.
    Write,
}

/// What the system is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The host begins to hold memory so.
    Lock(Hold),
    /// The host held it so, and ends.
    Unlock(Hold),
}

/// Whose turn it is with one surface.
#[derive(Debug, Default)]
pub struct Turns {
    host: Hold,
    engine_reads: usize,
    engine_writes: bool,
}

impl Turns {
    /// Has the host hold the memory in another way; `tell` is called for each change, and not when
    /// there is none.
    ///
    /// # Errors
    /// When the engine is at work on the memory so that the host must not; that of `tell`, behind
    /// which the host holds what was told before.
    pub fn hold(
        &mut self,
        wanted: Hold,
        tell: &mut dyn FnMut(Notice) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let meets = match wanted {
            Hold::Free => false,
            Hold::Read => self.engine_writes,
            Hold::Write => self.engine_writes || self.engine_reads > 0,
        };
        if meets {
            return Err(CallError::new(Call::Lock, "the engine is at work on the memory"));
        }
        if wanted == self.host {
            return Ok(());
        }
        if self.host != Hold::Free {
            tell(Notice::Unlock(self.host))?;
            self.host = Hold::Free;
        }
        if wanted != Hold::Free {
            tell(Notice::Lock(wanted))?;
            self.host = wanted;
        }
        Ok(())
    }

    /// How the host holds the memory.
    pub fn held(&self) -> Hold {
        self.host
    }

    /// The engine begins to read the memory, or to write it.
    ///
    /// # Errors
    /// When the host or another run holds it so that the engine must not.
    pub fn engine_begins(&mut self, writes: bool) -> Result<(), CallError> {
        let held = if writes { self.host != Hold::Free } else { self.host == Hold::Write };
        if held || self.engine_writes || (writes && self.engine_reads > 0) {
            let who = if held { "the host still holds" } else { "another run is at work on" };
            let does = if writes { "writes" } else { "reads" };
            let text = format!("{who} the memory that the run {does}");
            return Err(CallError::new(Call::Evaluate, text));
        }
        if writes {
            self.engine_writes = true;
        } else {
            self.engine_reads += 1;
        }
        Ok(())
    }

    /// The engine ends what it began.
    pub fn engine_ends(&mut self, writes: bool) {
        if writes {
            self.engine_writes = false;
        } else {
            self.engine_reads -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds memory in these ways, one after the other; what the system was told.
    fn told(turns: &mut Turns, ways: &[Hold]) -> Vec<Notice> {
        let mut notices = Vec::new();
        for &way in ways {
            let tell = &mut |notice| {
                notices.push(notice);
                Ok(())
            };
            turns.hold(way, tell).unwrap();
        }
        notices
    }

    #[test]
    fn the_system_is_told_of_changes_only_and_in_pairs() {
        use Hold::{Free, Read, Write};
        use Notice::{Lock, Unlock};
        let mut turns = Turns::default();
        assert_eq!(told(&mut turns, &[Free, Free]), []);
        assert_eq!(told(&mut turns, &[Read, Read]), [Lock(Read)]);
        assert_eq!(told(&mut turns, &[Write, Write]), [Unlock(Read), Lock(Write)]);
        assert_eq!(told(&mut turns, &[Read, Free]), [Unlock(Write), Lock(Read), Unlock(Read)]);
    }

    #[test]
    fn host_and_engine_read_together_and_write_alone() {
        let none = &mut |_| Ok(());
        for (held, reads, writes) in
            [(Hold::Free, true, true), (Hold::Read, true, false), (Hold::Write, false, false)]
        {
            for (engine_writes, may) in [(false, reads), (true, writes)] {
                let mut turns = Turns::default();
                turns.hold(held, none).unwrap();
                assert_eq!(turns.engine_begins(engine_writes).is_ok(), may, "{held:?}");
                // And the other way round.
                let mut turns = Turns::default();
                turns.engine_begins(engine_writes).unwrap();
                assert_eq!(turns.hold(held, none).is_ok(), may || held == Hold::Free, "{held:?}");
                turns.engine_ends(engine_writes);
                turns.hold(Hold::Write, none).unwrap();
            }
        }
    }

    #[test]
    fn runs_write_alone_too() {
        let mut turns = Turns::default();
        turns.engine_begins(false).unwrap();
        turns.engine_begins(false).unwrap();
        assert!(turns.engine_begins(true).unwrap_err().text.contains("another run"));
        turns.engine_ends(false);
        assert!(turns.engine_begins(true).is_err());
        turns.engine_ends(false);
        turns.engine_begins(true).unwrap();
        assert!(turns.engine_begins(false).is_err());
    }

    #[test]
    fn a_lock_that_fails_leaves_what_was_told_before() {
        let mut turns = Turns::default();
        told(&mut turns, &[Hold::Read]);
        let refuse = &mut |notice| match notice {
            Notice::Lock(_) => Err(CallError::new(Call::Lock, "no")),
            Notice::Unlock(_) => Ok(()),
        };
        assert!(turns.hold(Hold::Write, refuse).is_err());
        assert_eq!(turns.held(), Hold::Free);
    }
}
