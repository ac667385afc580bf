//! The executables of parts, and schedules of them.

use super::PartSpan;
use crate::divided::SharedPrograms;
use orion_compile::partition::{Occasion, Part, Partition, Pass, Unit, Work};
use orion_mil::Weights;
use orion_runtime::{Action, Device, Error, Lane, Schedule, Span, Task};
use std::collections::HashMap;

/// The lane of everything but layers, and the lane of layers.
const HOST: usize = 0;
const ACCELERATOR: usize = 1;

/// What is compiled.
pub(super) struct Prepared {
    pub(super) lanes: [Lane; 2],
    /// What is done with each part, by its name.
    pub(super) tasks: HashMap<(Work, String), Task>,
    pub(super) schedules: HashMap<Occasion, Planned>,
}

/// A schedule and what its tasks are.
pub(super) struct Planned {
    pub(super) schedule: Schedule,
    kinds: Vec<(Work, Pass)>,
}

/// Tasks under construction, with what each is.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: Vec<Task>,
    kinds: Vec<(Work, Pass)>,
}

impl Tasks {
    pub(super) fn add(&mut self, task: Task, work: Work, pass: Pass) {
        self.tasks.push(task);
        self.kinds.push((work, pass));
    }

    pub(super) fn planned(self, lanes: &[Lane]) -> Planned {
        Planned { schedule: Schedule::new(self.tasks, lanes), kinds: self.kinds }
    }
}

impl Planned {
    pub(super) fn spans(&self, spans: Vec<Span>) -> Vec<PartSpan> {
        let tasks = self.schedule.tasks();
        let spans = spans.into_iter().map(|span| {
            let task = &tasks[span.task];
            let unit = if task.lane == HOST { Unit::Host } else { Unit::Accelerator };
            let (work, pass) = self.kinds[span.task];
            PartSpan {
                name: task.name.clone(),
                unit,
                pass,
                work,
                begin: span.begin,
                end: span.end,
                events: span.events,
                figures: span.figures,
            }
        });
        spans.collect()
    }
}

pub(super) struct Compiler<'a> {
    pub(super) partition: &'a Partition,
    pub(super) lanes: [Lane; 2],
    /// Executables by lane and program.
    pub(super) known: HashMap<(usize, usize), usize>,
}

impl Compiler<'_> {
    /// A run of a part of the accelerator, whose program others may have compiled.
    pub(super) fn shared_task(
        &mut self,
        part: &Part,
        shared: &SharedPrograms,
    ) -> Result<Task, Error> {
        let executables = &mut self.lanes[ACCELERATOR].executables;
        let executable = match self.known.get(&(ACCELERATOR, part.program)) {
            Some(&known) => known,
            None => {
                let program = &self.partition.programs[part.program];
                executables.push(Box::new(shared.get(program)?));
                self.known.insert((ACCELERATOR, part.program), executables.len() - 1);
                executables.len() - 1
            }
        };
        let ports = part.ports.iter().map(|c| (c.port.clone(), c.surface)).collect();
        let (name, action) = (part.name.clone(), Action::Run(ports));
        Ok(Task { name, lane: ACCELERATOR, executable, action })
    }

    /// A run of a part, whose program is compiled when it is new, or has constants of its own.
    pub(super) fn task(
        &mut self,
        part: &Part,
        device: &dyn Device,
        weights: &Weights,
    ) -> Result<Task, Error> {
        let lane = if part.unit == Unit::Host { HOST } else { ACCELERATOR };
        let known = self.known.get(&(lane, part.program)).copied();
        let executable = match known.filter(|_| part.constants.is_empty()) {
            Some(known) => known,
            None => {
                let program = &self.partition.programs[part.program];
                let executables = &mut self.lanes[lane].executables;
                executables.push(device.compile(program, weights)?);
                self.known.insert((lane, part.program), executables.len() - 1);
                executables.len() - 1
            }
        };
        let ports = part.ports.iter().map(|c| (c.port.clone(), c.surface)).collect();
        Ok(Task { name: part.name.clone(), lane, executable, action: Action::Run(ports) })
    }
}
