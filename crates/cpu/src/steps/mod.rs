//! What a plan consists of: steps that run one after another, each with all threads.
//!
//! A step holds everything that was decided when the plan was made; running it reads and writes
//! memory and allocates nothing, except for [`Kind::Evaluate`].
#![expect(unsafe_code, reason = "hands the plan's memory to kernels")]

mod adamw;
mod attention;
mod contraction;
mod evaluate;
mod indexed;
mod map;
mod map_reduce;
mod reduce;
mod softmax;
mod statistics;
mod together;

pub(crate) use adamw::{Adamw, Scalar};
pub(crate) use attention::{Attending, Attention, AttentionGradient, HeadOffsets, Masking};
pub(crate) use contraction::{Bias, Contraction, Factor, FactorScales, Method};
pub(crate) use evaluate::Evaluate;
pub(crate) use indexed::{Gather, GatherAlongAxis, Scatter, ScatterAlongAxis};
pub(crate) use map::{Map, Moved};
pub(crate) use map_reduce::MapReduce;
pub(crate) use reduce::{Over, Reduce};
pub(crate) use softmax::Softmax;
pub(crate) use statistics::Statistics;
pub(crate) use together::Together;

use crate::kernels::Pointers;
use crate::kernels::gemm::{Lent, Workspace};
use crate::kernels::isa::Isa;
use crate::plan::view::{BufferId, View};
use crate::pool::Pool;

/// What steps run with.
pub(crate) struct Context<'a> {
    pub isa: Isa,
    pub pool: &'a Pool,
    pub pointers: &'a Pointers,
    /// As large as the largest [`Kind::workspace`].
    pub lent: Lent,
}

impl Context<'_> {
    /// Where a view begins.
    fn at<T>(&self, buffer: BufferId, offset: isize) -> *mut T {
        self.pointers.get(buffer).cast::<T>().wrapping_offset(offset)
    }

    /// A dense view's elements.
    ///
    /// # Safety
    /// The view is dense, `T` is the memory form of its type, and nothing writes it meanwhile.
    unsafe fn slice<T>(&self, view: &View) -> &[T] {
        let start: *const T = self.at(view.buffer, view.offset);
        // SAFETY: views lie inside their buffers, which are aligned; else see the contract.
        unsafe { std::slice::from_raw_parts(start, view.element_count()) }
    }
}

/// How a step computes.
#[derive(Debug)]
pub(crate) enum Kind {
    Map(Map),
    Adamw(Box<Adamw>),
    Reduce(Reduce),
    MapReduce(MapReduce),
    Contraction(Contraction),
    Attention(Attention),
    Together(Together),
    AttentionGradient(AttentionGradient),
    Softmax(Softmax),
    Statistics(Statistics),
    Gather(Gather),
    GatherAlongAxis(GatherAlongAxis),
    Scatter(Scatter),
    ScatterAlongAxis(ScatterAlongAxis),
    Evaluate(Box<Evaluate>),
}

/// One step of a plan.
#[derive(Debug)]
pub(crate) struct Step {
    /// The operations it executes, as a person would name them.
    pub label: String,
    /// The operation an error is about.
    pub place: String,
    /// Why it is not part of another step, where the planner knows; for people.
    pub reason: &'static str,
    pub kind: Kind,
    pub reads: Vec<View>,
    pub writes: Vec<View>,
}

impl Kind {
    /// Memory it needs while it runs on so many threads.
    pub(crate) fn workspace(&self, isa: Isa, threads: usize) -> Workspace {
        match self {
            Self::Map(map) => Workspace { shared: 0, per_thread: map.program.scratch_lanes() },
            Self::Reduce(reduce) => {
                Workspace { shared: 0, per_thread: reduce.reduced.program.scratch_lanes() }
            }
            Self::MapReduce(step) => Workspace { shared: 0, per_thread: step.scratch_lanes() },
            Self::Contraction(contraction) => contraction.workspace(isa, threads),
            Self::Attention(step) => Workspace { shared: 0, per_thread: step.lanes() },
            Self::AttentionGradient(step) => Workspace { shared: 0, per_thread: step.lanes() },
            Self::Together(step) => step.workspace(isa, threads),
            _ => Workspace::default(),
        }
    }

    /// Finds the places that the step computes; comes before [`Kind::run`].
    ///
    /// # Errors
    /// A place outside of its tensor.
    pub(crate) fn place(&self, pointers: &mut Pointers) -> Result<(), String> {
        match self {
            Self::Map(map) => map.place(pointers),
            Self::Together(step) => step.place(pointers),
            _ => Ok(()),
        }
    }

    /// How many tasks the step is that may run in any order, if it consists of nothing else.
    fn tasks(&self, threads: usize) -> Option<usize> {
        match self {
            Self::Map(map) => Some(map.tasks(threads)),
            Self::Attention(attention) => Some(attention.tasks(threads)),
            _ => None,
        }
    }

    /// Runs one of them. No two with the same thread number at once.
    fn task(&self, context: &Context<'_>, task: usize, thread: usize) {
        match self {
            Self::Map(map) => map.task(context, task, thread),
            Self::Attention(attention) => attention.task(context, task, thread),
            _ => unreachable!("has no tasks"),
        }
    }

    /// Runs the step.
    ///
    /// # Errors
    /// What the program computed that its operation does not allow.
    pub(crate) fn run(&self, context: &Context<'_>) -> Result<(), String> {
        let threads = context.pool.threads();
        if let Some(tasks) = self.tasks(threads) {
            context.pool.run(tasks, &|task, thread| self.task(context, task, thread));
            return Ok(());
        }
        match self {
            Self::Adamw(adamw) => adamw.run(context),
            Self::Reduce(reduce) => reduce.run(context),
            Self::MapReduce(step) => step.run(context),
            Self::Contraction(contraction) => contraction.run(context),
            Self::Together(steps) => steps.run(context),
            Self::AttentionGradient(gradient) => gradient.run(context),
            Self::Softmax(softmax) => softmax.run(context),
            Self::Statistics(statistics) => statistics.run(context),
            Self::Gather(gather) => return gather.run(context),
            Self::GatherAlongAxis(gather) => return gather.run(context),
            Self::Scatter(scatter) => return scatter.run(context),
            Self::ScatterAlongAxis(scatter) => return scatter.run(context),
            Self::Evaluate(evaluate) => return evaluate.run(context),
            Self::Map(_) | Self::Attention(_) => unreachable!("they are tasks"),
        }
        Ok(())
    }
}

/// Elements that are worth waking another thread for.
const WORTH_A_THREAD: usize = 1 << 14;

/// Cuts `count` items of `elements` elements together into pieces; returns items per piece.
fn piece(count: usize, elements: usize, threads: usize) -> usize {
    let pieces = (elements / WORTH_A_THREAD).clamp(1, threads * 4);
    count.div_ceil(pieces).max(1)
}

/// A pointer that threads may share because they write disjoint parts.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: see above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn get(self) -> *mut T {
        self.0
    }
}
