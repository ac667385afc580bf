//! Requests, kept for every set of memory that they were made for.

use std::sync::{Arc, Weak};

/// How many are kept of one program. Layers that share one have a set each, forward and backward.
const MOST: usize = 64;

/// What a request is made for: the callers' memory by ports; nothing where it is the program's.
pub(crate) type Memories = Vec<Option<Weak<()>>>;

/// Requests of one program. Making one costs about as much as a small run.
pub(crate) struct Requests<R> {
    /// The one that was used last comes last.
    known: Vec<(Memories, R)>,
}

impl<R> Requests<R> {
    pub(crate) fn new() -> Self {
        Self { known: Vec::new() }
    }

    /// The request for these memories, which are `make`'s when they are new. Requests for memory
    /// that is no more go then.
    pub(crate) fn get<E>(
        &mut self,
        memories: &[Option<&Arc<()>>],
        make: impl FnOnce() -> Result<R, E>,
    ) -> Result<&R, E> {
        let is_same = |known: &Memories| {
            let mut pairs = known.iter().zip(memories);
            known.len() == memories.len()
                && pairs.all(|pair| match pair {
                    (None, None) => true,
                    (Some(known), Some(memory)) => Weak::as_ptr(known) == Arc::as_ptr(memory),
                    _ => false,
                })
        };
        match self.known.iter().position(|(known, _)| is_same(known)) {
            Some(at) => {
                let last = self.known.len() - 1;
                self.known[at..=last].rotate_left(1);
            }
            None => {
                let lives = |memory: &Option<Weak<()>>| {
                    memory.as_ref().is_none_or(|memory| memory.strong_count() > 0)
                };
                self.known.retain(|(known, _)| known.iter().all(lives));
                if self.known.len() >= MOST {
                    self.known.remove(0);
                }
                let memories = memories.iter().map(|m| m.map(Arc::downgrade)).collect();
                self.known.push((memories, make()?));
            }
        }
        Ok(&self.known.last().expect("there is one").1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_made_once_and_go_with_their_memory() {
        let mut requests = Requests::new();
        let (a, b) = (Arc::new(()), Arc::new(()));
        let mut made = 0;
        let mut get = |requests: &mut Requests<usize>, memories: &[Option<&Arc<()>>]| {
            let made = &mut made;
            let make = || {
                *made += 1;
                Ok::<_, ()>(*made)
            };
            *requests.get(memories, make).unwrap()
        };
        assert_eq!(get(&mut requests, &[Some(&a), None]), 1);
        assert_eq!(get(&mut requests, &[Some(&b), None]), 2);
        assert_eq!(get(&mut requests, &[None, Some(&a)]), 3);
        assert_eq!(get(&mut requests, &[Some(&a), None]), 1);
        drop(b);
        let c = Arc::new(());
        assert_eq!(get(&mut requests, &[Some(&c), None]), 4);
        assert_eq!(requests.known.len(), 3);
        // The oldest goes, not the one that was used again.
        let others: Vec<Arc<()>> = (0..MOST - 2).map(|_| Arc::new(())).collect();
        for other in &others {
            get(&mut requests, &[Some(other), None]);
        }
        assert_eq!(requests.known.len(), MOST);
        let next = made_next(&requests);
        assert_eq!(get(&mut requests, &[Some(&a), None]), 1);
        assert_eq!(get(&mut requests, &[None, Some(&a)]), next);
    }

    /// The number that the next request gets.
    fn made_next(requests: &Requests<usize>) -> usize {
        requests.known.iter().map(|(_, number)| number + 1).max().unwrap_or(1)
    }
}
