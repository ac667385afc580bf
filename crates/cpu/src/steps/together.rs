use super::{Context, Kind};
use crate::kernels::Pointers;
use crate::kernels::gemm::Workspace;
use crate::kernels::isa::Isa;

/// Steps that do not need each other, in one loop of all threads: each may be too small for more
/// than one thread, and together they start and stop threads once.
#[derive(Debug)]
pub(crate) struct Together(Vec<Kind>);

impl Together {
    /// Whether a step can be one of several.
    pub(crate) fn can_hold(kind: &Kind) -> bool {
        kind.tasks(1).is_some()
    }

    /// # Panics
    /// When [`Together::can_hold`] is false of one.
    pub(crate) fn new(steps: Vec<Kind>) -> Self {
        assert!(steps.iter().all(Self::can_hold), "the planner takes steps made of tasks");
        Self(steps)
    }

    pub(crate) fn steps(&self) -> &[Kind] {
        &self.0
    }

    pub(super) fn workspace(&self, isa: Isa, threads: usize) -> Workspace {
        let all = self.0.iter().map(|step| step.workspace(isa, threads));
        all.fold(Workspace::default(), Workspace::max)
    }

    pub(super) fn place(&self, pointers: &mut Pointers) -> Result<(), String> {
        self.0.iter().try_for_each(|step| step.place(pointers))
    }

    pub(super) fn run(&self, context: &Context<'_>) {
        let threads = context.pool.threads();
        let tasks = |step: &Kind| step.tasks(threads).expect("made of tasks");
        context.pool.run(self.0.iter().map(tasks).sum(), &|mut task, thread| {
            for step in &self.0 {
                let own = tasks(step);
                if task < own {
                    return step.task(context, task, thread);
                }
                task -= own;
            }
        });
    }
}
