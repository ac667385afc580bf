//! Connections to the system's service, and which has room for another program.
//!
//! One connection was measured to take about 85 programs, a process somewhat more. Neither number
//! is sure, so what counts is when a load is refused.

/// Evictions after which what was learned of limits is learned anew: another process may have
/// held the engine.
const EVICTIONS_TO_FORGET: usize = 64;

/// The connections of a process.
#[derive(Debug)]
pub(crate) struct Clients<C> {
    /// The first is the one that all models share.
    known: Vec<Known<C>>,
    /// Programs of the process when a connection without any took none.
    process_full_at: usize,
    /// Whether no more are opened, because one could not be or was of no use.
    refused: bool,
    /// Whether a program was seen to give right results through a connection of its own.
    pub(crate) proven: bool,
    evictions: usize,
}

#[derive(Debug)]
struct Known<C> {
    /// `None` for the one that all models share.
    client: Option<C>,
    loaded: usize,
    /// Programs that it had when it took no more.
    full_at: usize,
    /// The system's service answers nothing more through it.
    is_closed: bool,
}

impl<C> Known<C> {
    fn new(client: Option<C>) -> Self {
        Self { client, loaded: 0, full_at: usize::MAX, is_closed: false }
    }
}

impl<C> Clients<C> {
    /// The one that all models share.
    pub(crate) fn new() -> Self {
        Self {
            known: vec![Known::new(None)],
            process_full_at: usize::MAX,
            refused: false,
            proven: false,
            evictions: 0,
        }
    }

    /// Connections that are open, the shared one included.
    pub(crate) fn len(&self) -> usize {
        self.known.iter().filter(|k| !k.is_closed).count()
    }

    /// Programs that are loaded.
    pub(crate) fn loaded(&self) -> usize {
        self.known.iter().map(|k| k.loaded).sum()
    }

    /// A connection by its number, as the framework takes it.
    pub(crate) fn get(&self, number: usize) -> Option<&C> {
        self.known[number].client.as_ref()
    }

    /// The number of the first connection with room for a program.
    pub(crate) fn with_room(&mut self) -> Option<usize> {
        if self.loaded() == 0 {
            // Whatever refused a program then, it was not for want of room.
            self.forget_limits();
        }
        self.known.iter().position(|k| !k.is_closed && k.loaded < k.full_at)
    }

    /// Whether another connection may help.
    pub(crate) fn may_open(&self, most: usize) -> bool {
        !self.refused && self.len() < most && self.loaded() < self.process_full_at
    }

    /// Adds one, and returns its number.
    pub(crate) fn add(&mut self, client: C) -> usize {
        self.known.push(Known::new(Some(client)));
        self.known.len() - 1
    }

    /// No more are opened.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// One was closed by the system's service: nothing is loaded through it any more.
    pub(crate) fn close(&mut self, number: usize) {
        self.known[number].client = None;
        self.known[number].is_closed = true;
    }

    /// A program was loaded through one.
    pub(crate) fn took(&mut self, number: usize) {
        self.known[number].loaded += 1;
    }

    /// A program was unloaded.
    pub(crate) fn released(&mut self, number: usize) {
        self.known[number].loaded -= 1;
    }

    /// One took no program although others are loaded, so it is full; or the process is, where
    /// it was just opened, and then it is closed.
    pub(crate) fn was_full(&mut self, number: usize) {
        self.evictions = 0;
        if number > 0 && number + 1 == self.known.len() && self.known[number].loaded == 0 {
            self.known.pop();
            self.process_full_at = self.loaded();
        } else {
            self.known[number].full_at = self.known[number].loaded;
        }
    }

    /// A program is unloaded for another.
    pub(crate) fn evicts(&mut self) {
        self.evictions += 1;
        if self.evictions >= EVICTIONS_TO_FORGET {
            self.forget_limits();
        }
    }

    fn forget_limits(&mut self) {
        self.evictions = 0;
        self.process_full_at = usize::MAX;
        self.known.iter_mut().for_each(|k| k.full_at = usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_connection_is_left_alone_until_it_has_room() {
        let mut clients = Clients::new();
        (0..3).for_each(|_| clients.took(0));
        clients.was_full(0);
        assert_eq!(clients.with_room(), None);
        assert!(clients.may_open(2) && !clients.may_open(1));
        assert_eq!(clients.add("own"), 1);
        assert_eq!(
            (clients.with_room(), clients.get(0), clients.get(1)),
            (Some(1), None, Some(&"own"))
        );
        clients.took(1);
        clients.released(0);
        assert_eq!((clients.with_room(), clients.loaded()), (Some(0), 3));
    }

    #[test]
    fn a_process_is_full_when_a_new_connection_takes_nothing() {
        let mut clients = Clients::new();
        (0..3).for_each(|_| clients.took(0));
        clients.was_full(0);
        let own = clients.add("own");
        clients.was_full(own);
        assert_eq!(clients.len(), 1);
        assert!(clients.with_room().is_none() && !clients.may_open(9));
        // Fewer programs, and another may help again.
        clients.released(0);
        clients.took(0);
        assert!(!clients.may_open(9));
        clients.released(0);
        assert!(clients.may_open(9));
    }

    #[test]
    fn another_takes_the_place_of_one_that_was_closed() {
        let mut clients = Clients::new();
        clients.took(0);
        clients.close(0);
        assert_eq!((clients.with_room(), clients.len()), (None, 0));
        assert!(clients.may_open(1));
        assert_eq!(clients.add("own"), 1);
        // Nor when limits are learned anew.
        clients.released(0);
        assert_eq!((clients.with_room(), clients.len()), (Some(1), 1));
    }

    #[test]
    fn limits_are_learned_anew() {
        let mut clients = Clients::<()>::new();
        clients.took(0);
        clients.was_full(0);
        (1..EVICTIONS_TO_FORGET).for_each(|_| clients.evicts());
        assert_eq!(clients.with_room(), None);
        clients.evicts();
        assert_eq!(clients.with_room(), Some(0));
        clients.was_full(0);
        clients.released(0);
        assert_eq!(clients.with_room(), Some(0), "nothing is loaded");
    }

    #[test]
    fn what_is_of_no_use_is_not_opened_again() {
        let mut clients = Clients::<()>::new();
        assert!(clients.may_open(2));
        clients.refuse();
        assert!(!clients.may_open(2));
    }
}
