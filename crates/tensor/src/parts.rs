use std::num::NonZero;
use std::thread;

/// Bytes that are worth a thread of their own.
const WORTH_A_THREAD: usize = 1 << 20;

/// Fills large memory with all of the machine's threads: `work(first, part)` fills the part that
/// begins at unit `first`, of units of `unit` bytes, and what it returns comes in the order of the
/// parts. Small memory is one part. What takes longest is often that the system hands out the
/// pages, which a thread does for each part.
///
/// # Panics
/// When `to` is not whole units or the work panics.
pub fn in_parts<R: Send>(
    to: &mut [u8],
    unit: usize,
    work: impl Fn(usize, &mut [u8]) -> R + Sync,
) -> Vec<R> {
    assert!(to.len().is_multiple_of(unit.max(1)), "memory is whole units");
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(to.len() / WORTH_A_THREAD).max(1);
    if threads == 1 {
        return vec![work(0, to)];
    }
    let units = (to.len() / unit).div_ceil(threads);
    thread::scope(|scope| {
        let parts = to.chunks_mut(units * unit).enumerate();
        let work = &work;
        let running: Vec<_> =
            parts.map(|(i, part)| scope.spawn(move || work(i * units, part))).collect();
        running.into_iter().map(|part| part.join().expect("the work did not panic")).collect()
    })
}

/// Looks at large memory with all of the machine's threads: `work(first, part)` gets the part that
/// begins at element `first`, and what it returns comes in the order of the parts. Small memory is
/// one part.
///
/// # Panics
/// When the work panics.
pub fn over_parts<T: Sync, R: Send>(from: &[T], work: impl Fn(usize, &[T]) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(size_of_val(from) / WORTH_A_THREAD);
    if threads <= 1 {
        return vec![work(0, from)];
    }
    let count = from.len().div_ceil(threads);
    thread::scope(|scope| {
        let work = &work;
        let parts = from.chunks(count).enumerate();
        let running: Vec<_> =
            parts.map(|(i, part)| scope.spawn(move || work(i * count, part))).collect();
        running.into_iter().map(|part| part.join().expect("the work did not panic")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_seen_once() {
        for count in [0, 3, 1 << 10, (3 << 20) + 1] {
            let from: Vec<u32> = (0..count).collect();
            let parts = over_parts(&from, |first, part| (first, part.to_vec()));
            let mut next = 0;
            for (first, part) in parts {
                assert_eq!(first, next);
                assert!(part.iter().zip(next..).all(|(&value, i)| value as usize == i));
                next += part.len();
            }
            assert_eq!(next, from.len());
        }
    }

    #[test]
    fn every_unit_is_filled_once() {
        for bytes in [0, 3, 3 << 10, 9 << 20, (9 << 20) + 3] {
            let mut to = vec![0u8; bytes];
            let counts = in_parts(&mut to, 3, |first, part| {
                for (i, unit) in part.chunks_exact_mut(3).enumerate() {
                    unit.iter_mut().for_each(|b| *b += (first + i) as u8 ^ 0x55);
                }
                (first, part.len() / 3)
            });
            assert!(to.chunks_exact(3).enumerate().all(|(i, u)| u == [i as u8 ^ 0x55; 3]));
            let mut next = 0;
            for (first, count) in counts {
                assert_eq!(first, next);
                next += count;
            }
            assert_eq!(next, bytes / 3);
        }
    }
}
