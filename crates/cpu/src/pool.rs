//! A fixed set of threads that share the iterations of a loop.
//!
//! Workers spin for a short while after a loop, because the next one usually follows within
//! microseconds, and then sleep. Which thread runs which iteration depends on timing, so
//! iterations must not: each writes its own part of the output.
#![expect(unsafe_code, reason = "lends a borrowed closure to other threads for the time of a call")]

use std::cell::UnsafeCell;
use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The body of a loop: iteration number and thread number.
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

#[derive(Clone, Copy)]
struct Job {
    body: *const Body<'static>,
    iterations: usize,
}

/// Set in `Shared::state` while threads may join the loop; the bits below count those inside,
/// the bits above number the loops.
const OPEN: usize = 1 << 15;
const INSIDE: usize = OPEN - 1;
const LOOP: usize = OPEN << 1;

/// Rounds of waiting before a worker sleeps: some tens of microseconds.
const SPINS: usize = 1 << 14;

struct Shared {
    state: AtomicUsize,
    next: AtomicUsize,
    job: UnsafeCell<Job>,
    sleepers: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    mutex: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written only while the loop is closed and nobody is inside, which the owner
// of `Pool::turn` waits for; workers read it only after joining an open loop.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used only while the closure behind it is borrowed by `run`.
unsafe impl Send for Shared {}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves the loop also when the body panics, so that nobody waits for ever.
struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
        self.0.state.fetch_sub(1, Ordering::Release);
    }
}

impl Shared {
    /// Takes iterations until none is left. The caller is counted inside.
    fn work(&self, thread: usize) {
        // SAFETY: the loop is open or we are inside it, so the job is not written now.
        let job = unsafe { *self.job.get() };
        // SAFETY: `run` keeps the closure borrowed until everybody has left.
        let body = unsafe { &*job.body };
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= job.iterations {
                return;
            }
            body(i, thread);
        }
    }

    fn is_new(state: usize, seen: usize) -> bool {
        state & OPEN != 0 && state / LOOP != seen
    }

    fn worker(&self, thread: usize) {
        let mut seen = 0;
        let mut spins = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let state = self.state.load(Ordering::Acquire);
            if Self::is_new(state, seen) {
                let joined = self.state.compare_exchange_weak(
                    state,
                    state + 1,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if joined.is_ok() {
                    let inside = Inside(self);
                    self.work(thread);
                    drop(inside);
                    seen = state / LOOP;
                    spins = 0;
                }
            } else if spins < SPINS {
                spins += 1;
                hint::spin_loop();
            } else {
                let mut guard = lock(&self.mutex);
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                while !self.stop.load(Ordering::SeqCst)
                    && !Self::is_new(self.state.load(Ordering::SeqCst), seen)
                {
                    guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                spins = 0;
            }
        }
    }
}

/// The threads of one device: the caller's and `threads - 1` of its own.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of that many threads, the caller's included.
    pub(crate) fn new(threads: usize) -> Self {
        fn nothing(_: usize, _: usize) {}
        let nothing: &'static Body<'static> = &nothing;
        let shared = Arc::new(Shared {
            state: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(Job { body: nothing, iterations: 0 }),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            mutex: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads.clamp(1, INSIDE)).map(|index| {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("orion-cpu-{index}"))
                .spawn(move || shared.worker(index))
        });
        // A machine that gives fewer threads than asked for still computes.
        let workers = workers.map_while(Result::ok).collect();
        Self { shared, turn: Mutex::new(()), workers }
    }

    /// How many threads take part, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body(i, thread)` for every `i < iterations`, `thread < self.threads()`, and returns
    /// when all are done. Two iterations of the same thread number never overlap within a call.
    ///
    /// # Panics
    /// When the body panics.
    pub(crate) fn run(&self, iterations: usize, body: &Body<'_>) {
        if iterations <= 1 || self.workers.is_empty() {
            (0..iterations).for_each(|i| body(i, 0));
            return;
        }
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; everybody who uses the reference has left the loop
        // before this function returns or unwinds (`Close` waits in both cases).
        let body: *const Body<'static> = unsafe { std::mem::transmute(body as *const Body<'_>) };
        // SAFETY: we have the turn, and the last loop was closed and empty when its turn ended.
        unsafe { *shared.job.get() = Job { body, iterations } };
        shared.next.store(0, Ordering::Relaxed);
        shared.panicked.store(false, Ordering::Relaxed);
        let number = shared.state.load(Ordering::Relaxed) / LOOP + 1;
        shared.state.store((number * LOOP) | OPEN, Ordering::SeqCst);
        let close = Close(shared);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = lock(&shared.mutex);
            shared.wake.notify_all();
        }
        shared.work(0);
        drop(close);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a kernel panicked on another thread");
    }
}

/// Closes the loop and waits until everybody has left.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0usize;
        while self.0.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins.is_multiple_of(1 << 12) {
                thread::yield_now();
            }
            hint::spin_loop();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = lock(&self.shared.mutex);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker that panicked has already made its caller panic.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_iteration_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for round in 0..300 {
                let counts: Vec<AtomicU32> = (0..round).map(|_| AtomicU32::new(0)).collect();
                pool.run(round, &|i, thread| {
                    assert!(thread < pool.threads());
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn wakes_sleeping_workers() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|i, _| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(3);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|i, _| assert_ne!(i, 40));
        }));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(10, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 10);
    }
}
