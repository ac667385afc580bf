//! In which order parts are asked for, and when each would run if its time were known.

use super::{Access, Attached, Part, PartConstant, Partition, Role, Unit};

/// What is done with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Its program runs.
    Run,
    /// Its program runs, to bring parameters into the accelerator's numbers.
    Stage,
    /// Its program gets the parameters that are constants of it.
    Renew,
    /// Its program runs, to bring parameters up to date.
    Update,
    /// Its program runs, to make gradients zero.
    Clear,
    /// Its program runs, to find how long the gradient is.
    Measure,
}

/// What a run does beside forward and backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Occasion {
    /// Parameters are others than in the run before: what the accelerator has of them is renewed.
    pub new_parameters: bool,
    /// The step before is to be finished: each parameter is brought up to date before it is read.
    pub update: bool,
    /// Gradients of another step are there, and what is added to has to be zero first.
    pub clear: bool,
    /// Gradients are complete at the end, and their norm is wanted.
    pub measure: bool,
}

/// When something would be done, in the unit of the times given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned<'a> {
    /// With which part.
    pub part: &'a Part,
    /// What.
    pub work: Work,
    /// When it begins.
    pub begin: f64,
    /// When it ends.
    pub end: f64,
}

impl Partition {
    /// One run, as each unit is asked for it: what is of one unit is done in this order. With new
    /// parameters, those of the first part that reads any come before all else, and the others
    /// right behind it, while the accelerator is at work; each behind its update, if that is to be
    /// made too.
    pub fn sequence(&self, occasion: Occasion) -> Vec<(Work, &Part)> {
        let gradients = self.gradient_sequence(occasion.new_parameters || occasion.update);
        let Some(optimizer) = &self.update else { return gradients };
        let of = |list: &[Attached], part: &Part| list.iter().position(|a| a.to == part.name);
        let mut sequence = Vec::new();
        for (work, part) in gradients {
            if occasion.update
                && work != Work::Renew
                && let Some(i) = of(&optimizer.updates, part)
            {
                sequence.push((Work::Update, &optimizer.updates[i].part));
            }
            if occasion.clear
                && let Some(i) = of(&optimizer.clears, part)
            {
                sequence.push((Work::Clear, &optimizer.clears[i].part));
            }
            sequence.push((work, part));
            if occasion.measure
                && let Some(i) = of(&optimizer.squares, part)
            {
                sequence.push((Work::Measure, &optimizer.squares[i].part));
            }
        }
        if occasion.measure {
            sequence.push((Work::Measure, &optimizer.norm));
        }
        sequence
    }

    fn gradient_sequence(&self, new_parameters: bool) -> Vec<(Work, &Part)> {
        let mut sequence = Vec::new();
        let mut staging =
            if new_parameters { self.staging.as_slice() } else { Default::default() }.iter();
        sequence.extend(staging.next().map(|part| (Work::Stage, part)));
        for part in &self.parts {
            if part.unit == Unit::Accelerator {
                sequence.extend(staging.by_ref().map(|part| (Work::Stage, part)));
            }
            let is_new = |c: &PartConstant| self.surfaces[c.surface].role != Role::Table;
            if new_parameters && part.constants.iter().any(is_new) {
                sequence.push((Work::Renew, part));
            }
            sequence.push((Work::Run, part));
        }
        sequence
    }

    /// When each part of a [`Partition::sequence`] would run, given how long each takes: a unit
    /// does one thing at a time, and nothing begins before what it reads is there.
    pub fn timeline(
        &self,
        occasion: Occasion,
        time: &dyn Fn(Work, &Part) -> f64,
    ) -> Vec<Planned<'_>> {
        let mut free = [0.0f64; 2];
        let mut written = vec![0.0f64; self.surfaces.len()];
        let mut read = written.clone();
        let sequence = self.sequence(occasion).into_iter();
        sequence
            .map(|(work, part)| {
                let constants = part.constants.iter().map(|c| (c.surface, Access::Read));
                let ports = part.ports.iter().map(|c| (c.surface, c.access));
                let used: Vec<(usize, Access)> = match work {
                    Work::Renew => constants.collect(),
                    _ => ports.collect(),
                };
                let unit = usize::from(part.unit == Unit::Accelerator);
                let mut begin = free[unit];
                for &(surface, access) in &used {
                    begin = begin.max(written[surface]);
                    if access != Access::Read {
                        begin = begin.max(read[surface]);
                    }
                }
                let end = begin + time(work, part);
                for &(surface, access) in &used {
                    let last = if access == Access::Read { &mut read } else { &mut written };
                    last[surface] = last[surface].max(end);
                }
                free[unit] = end;
                Planned { part, work, begin, end }
            })
            .collect()
    }
}
