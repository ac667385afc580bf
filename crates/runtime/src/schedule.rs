//! Tasks of several devices over shared memory, run at the same time where they do not wait for
//! each other. Chooses no order: each lane runs its tasks in the order given.

use crate::{
    Bindings, Bound, Error, ErrorKind, Executable, NumericEvents, PortKind, RunFigures, Surface,
};
use orion_mil::{WEIGHT_FILE, Weights};
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What a task does with its executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs it on surfaces: ports by name, and which surface each is.
    Run(Vec<(String, usize)>),
    /// Gives it new constants: offsets in its weight file, and which surface each is.
    UpdateWeights(Vec<(u64, usize)>),
}

/// One thing that a lane does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name, for traces and errors.
    pub name: String,
    /// Which lane does it.
    pub lane: usize,
    /// Which of the lane's executables it uses.
    pub executable: usize,
    /// What it does.
    pub action: Action,
}

/// A device's executables. Its tasks run one behind the other.
#[derive(Default)]
pub struct Lane {
    /// The executables, as tasks count them.
    pub executables: Vec<Box<dyn Executable>>,
}

/// When a task ran, since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Position of the task.
    pub task: usize,
    /// When it began.
    pub begin: Duration,
    /// When it ended.
    pub end: Duration,
    /// What it did to numbers.
    pub events: NumericEvents,
    /// What it took of the device.
    pub figures: RunFigures,
}

/// Tasks and what each waits for.
#[derive(Debug, Clone)]
pub struct Schedule {
    tasks: Vec<Task>,
    /// Earlier tasks of other lanes that each waits for.
    waits: Vec<Vec<usize>>,
    reads: Vec<Vec<usize>>,
    writes: Vec<Vec<usize>>,
}

impl Schedule {
    /// Takes tasks in an order in which they could run one behind the other. A task waits for
    /// every earlier one that writes what it reads, or reads or writes what it writes; so the
    /// results are those of that order.
    ///
    /// # Panics
    /// When a task names a lane or executable that is not there.
    pub fn new(tasks: Vec<Task>, lanes: &[Lane]) -> Self {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for task in &tasks {
            let signature = lanes[task.lane].executables[task.executable].signature();
            let (mut read, mut written) = (Vec::new(), Vec::new());
            match &task.action {
                Action::Run(ports) => {
                    for (port, surface) in ports {
                        let kind = signature.port(port).map(|p| &p.kind);
                        let list =
                            if kind == Some(&PortKind::Input) { &mut read } else { &mut written };
                        list.push(*surface);
                    }
                }
                Action::UpdateWeights(constants) => {
                    read.extend(constants.iter().map(|(_, surface)| *surface));
                }
            }
            reads.push(read);
            writes.push(written);
        }
        let meets = |a: &[usize], b: &[usize]| a.iter().any(|s| b.contains(s));
        let waits = (0..tasks.len())
            .map(|j| {
                (0..j)
                    .filter(|&i| {
                        tasks[i].lane != tasks[j].lane
                            && (meets(&writes[i], &reads[j])
                                || meets(&writes[i], &writes[j])
                                || meets(&reads[i], &writes[j]))
                    })
                    .collect()
            })
            .collect();
        Self { tasks, waits, reads, writes }
    }

    /// The tasks.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Earlier tasks of other lanes that a task waits for.
    pub fn waits(&self, task: usize) -> &[usize] {
        &self.waits[task]
    }

    /// Runs every task once. `surfaces` are what tasks count; those that are written must be
    /// [`Bound::Write`]. Returns when each task ran, in the order of tasks.
    ///
    /// # Errors
    /// The error of the earliest task that failed. Tasks that were running end, no other begins,
    /// and surfaces may hold anything.
    pub fn run(&self, lanes: &mut [Lane], surfaces: Vec<Bound<'_>>) -> Result<Vec<Span>, Error> {
        let memory: Vec<RwLock<Bound<'_>>> = surfaces.into_iter().map(RwLock::new).collect();
        let progress = Progress {
            state: Mutex::new(State { ended: vec![None; self.tasks.len()], stopped: false }),
            changed: Condvar::new(),
        };
        let begin = Instant::now();
        let mut failures: Vec<(usize, Error)> = std::thread::scope(|scope| {
            let (memory, progress) = (&memory, &progress);
            let mut lanes = lanes.iter_mut().enumerate();
            let own = lanes.next();
            let threads: Vec<_> = lanes
                .map(|(index, lane)| {
                    scope.spawn(move || self.run_lane(index, lane, memory, progress, begin))
                })
                .collect();
            let own = own.and_then(|(i, lane)| self.run_lane(i, lane, memory, progress, begin));
            let others = threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)));
            own.into_iter().chain(others.flatten()).collect()
        });
        failures.sort_by_key(|(task, _)| *task);
        if let Some((_, error)) = failures.into_iter().next() {
            return Err(error);
        }
        let state = progress.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(state.ended.into_iter().map(|span| span.expect("every task ended")).collect())
    }

    /// Runs the tasks of one lane; the task that failed, and why.
    fn run_lane(
        &self,
        index: usize,
        lane: &mut Lane,
        memory: &[RwLock<Bound<'_>>],
        progress: &Progress,
        begin: Instant,
    ) -> Option<(usize, Error)> {
        let stop = StopOnPanic(progress);
        let own = (0..self.tasks.len()).filter(|&t| self.tasks[t].lane == index);
        for task in own {
            if !progress.wait_for(&self.waits[task]) {
                break;
            }
            let from = begin.elapsed();
            let result = self.run_task(task, lane, memory);
            let executable = &lane.executables[self.tasks[task].executable];
            let (events, figures) = match &self.tasks[task].action {
                Action::Run(_) => (executable.numeric_events(), executable.run_figures()),
                Action::UpdateWeights(_) => Default::default(),
            };
            let span = Span { task, begin: from, end: begin.elapsed(), events, figures };
            let mut state = progress.lock();
            match result {
                Ok(()) => state.ended[task] = Some(span),
                Err(_) => state.stopped = true,
            }
            drop(state);
            progress.changed.notify_all();
            if let Err(error) = result {
                std::mem::forget(stop);
                return Some((task, error));
            }
        }
        std::mem::forget(stop);
        None
    }

    fn run_task(
        &self,
        task: usize,
        lane: &mut Lane,
        memory: &[RwLock<Bound<'_>>],
    ) -> Result<(), Error> {
        let Task { name, executable, action, .. } = &self.tasks[task];
        let executable = lane.executables[*executable].as_mut();
        // Nobody holds what a task writes while it runs: that is what tasks wait for.
        let read: HashMap<usize, _> = self.reads[task]
            .iter()
            .map(|&s| (s, memory[s].read().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        let surface = |s: usize| read[&s].surface();
        match action {
            Action::UpdateWeights(constants) => {
                let mut weights = Weights::new();
                for &(offset, s) in constants {
                    surface(s).ready_to_read()?;
                    weights.insert(WEIGHT_FILE, offset, surface(s).to_tensor());
                }
                executable.update_weights(&weights)
            }
            Action::Run(ports) => {
                let mut written: HashMap<usize, _> = self.writes[task]
                    .iter()
                    .map(|&s| (s, memory[s].write().unwrap_or_else(PoisonError::into_inner)))
                    .collect();
                let mut free: HashMap<usize, &mut Surface> = HashMap::new();
                for (s, bound) in &mut written {
                    let Bound::Write(surface) = &mut **bound else {
                        let message = format!("{name} writes a surface that is only to be read");
                        return Err(Error::new(ErrorKind::Binding, "schedule", message));
                    };
                    free.insert(*s, surface);
                }
                let mut bindings = Bindings::new();
                for (port, s) in ports {
                    match free.remove(s) {
                        Some(surface) => bindings.output(port, surface),
                        None => bindings.input(port, surface(*s)),
                    };
                }
                executable.run(&mut bindings)
            }
        }
    }
}

/// What lanes tell each other.
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ended: Vec<Option<Span>>,
    /// Whether a task failed.
    stopped: bool,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until tasks have ended; `false` when they never will.
    fn wait_for(&self, tasks: &[usize]) -> bool {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            if tasks.iter().all(|&t| state.ended[t].is_some()) {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Lets no lane wait for one that panicked.
struct StopOnPanic<'a>(&'a Progress);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}
