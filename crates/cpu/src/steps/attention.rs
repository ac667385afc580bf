use super::{Context, Shared};
use crate::kernels::attention::{
    Gradients, Head, Mask, QUERIES, Sizes, Target, attend, attend_backward, attend_few,
    backward_lanes, few_lanes, forward_lanes,
};
use crate::kernels::gemm::Arithmetic;
use crate::plan::view::BufferId;
use crate::precision::Precision;
use crate::steps::Factor;
use orion_tensor::DType;

/// Fewer queries than this are handled one by one.
const FEW_QUERIES: usize = 8;

/// What is done to scores. Offsets and strides are in elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Masking {
    Nothing,
    /// int32 positions of the queries, `stride` apart.
    Positions {
        buffer: BufferId,
        stride: isize,
        masked: f32,
    },
    /// f32.
    Added {
        buffer: BufferId,
        query: isize,
        key: isize,
    },
    /// Bools.
    Chosen {
        buffer: BufferId,
        query: isize,
        key: isize,
        otherwise: f32,
    },
}

/// Operands of attention that the forward and the backward pass have in common. Rows of the
/// factors are queries and keys, columns are channels.
#[derive(Debug, Clone)]
pub(crate) struct Attending {
    pub sizes: Sizes,
    pub query: Factor,
    pub key: Factor,
    pub value: Factor,
    pub masking: Masking,
    pub factor: f32,
    pub precision: Precision,
}

/// Where each operand of a head begins, in elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HeadOffsets {
    pub query: isize,
    pub key: isize,
    pub value: isize,
    pub mask: isize,
    /// Of the result, which the forward pass writes and the backward pass reads.
    pub result: isize,
    pub gradient: isize,
    pub to_query: isize,
    pub to_key: isize,
    pub to_value: isize,
    /// Of the statistics.
    pub statistics: isize,
}

impl Attending {
    fn head(&self, context: &Context<'_>, at: &HeadOffsets) -> Head {
        Head {
            query: self.query.place(context, at.query),
            key: self.key.place(context, at.key),
            value: self.value.place(context, at.value),
            mask: match self.masking {
                Masking::Nothing => Mask::Nothing,
                Masking::Positions { buffer, stride, masked } => {
                    Mask::Positions { positions: context.at(buffer, at.mask), stride, masked }
                }
                Masking::Added { buffer, query, key } => {
                    Mask::Added { values: context.at(buffer, at.mask), query, key }
                }
                Masking::Chosen { buffer, query, key, otherwise } => {
                    Mask::Chosen { values: context.at(buffer, at.mask), query, key, otherwise }
                }
            },
            factor: self.factor,
        }
    }

    /// Pairs of a query and a key that it is likely to see.
    fn pairs(&self) -> u64 {
        let all = (self.sizes.queries * self.sizes.keys) as u64;
        let causal = matches!(self.masking, Masking::Positions { .. });
        if causal { all / 2 } else { all }
    }

    fn arithmetic(&self, context: &Context<'_>) -> Arithmetic {
        Arithmetic { isa: context.isa, precision: self.precision }
    }
}

fn target(context: &Context<'_>, factor: &Factor, offset: isize) -> Target {
    let pointer = context.at(factor.buffer, offset);
    Target { pointer, row: factor.row, column: factor.column }
}

/// `softmax(factor · Q Kᵀ, masked) V` for every head.
#[derive(Debug)]
pub(crate) struct Attention {
    pub attending: Attending,
    pub to: Factor,
    /// f32 `[2, S]` for each head, when the backward pass needs them.
    pub statistics: Option<BufferId>,
    pub heads: Vec<HeadOffsets>,
}

impl Attention {
    /// Multiplications and additions; half of them where later keys are not seen.
    pub(crate) fn flops(&self) -> u64 {
        let Sizes { width, value_width, .. } = self.attending.sizes;
        self.attending.pairs() * self.heads.len() as u64 * 2 * (width + value_width) as u64
    }

    /// Floats a thread needs.
    pub(super) fn lanes(&self) -> usize {
        let sizes = self.attending.sizes;
        if self.is_for_few() { few_lanes(sizes) } else { forward_lanes(sizes) }
    }

    /// Whether there are so few queries that blocks would be mostly empty.
    pub(crate) fn is_for_few(&self) -> bool {
        let Attending { sizes, query, key, value, .. } = &self.attending;
        let all_f32 = [query, key, value].iter().all(|f| f.dtype == DType::F32);
        sizes.queries < FEW_QUERIES && all_f32 && self.statistics.is_none()
    }

    /// Queries of a head in one task. What queries share is packed again for each.
    fn piece(&self, threads: usize) -> usize {
        let wanted = (threads * 4).div_ceil(self.heads.len());
        let queries = self.attending.sizes.queries;
        queries.div_ceil(wanted).next_multiple_of(QUERIES).max(2 * QUERIES)
    }

    /// How many tasks the step is: several for each thread.
    pub(super) fn tasks(&self, threads: usize) -> usize {
        self.heads.len() * self.attending.sizes.queries.div_ceil(self.piece(threads))
    }

    pub(super) fn task(&self, context: &Context<'_>, task: usize, thread: usize) {
        let sizes = self.attending.sizes;
        let piece = self.piece(context.pool.threads());
        let pieces = sizes.queries.div_ceil(piece);
        let at = &self.heads[task / pieces];
        // Late queries see most and come first.
        let number = pieces - 1 - task % pieces;
        let queries = number * piece..sizes.queries.min((number + 1) * piece);
        let head = self.attending.head(context, at);
        let to = target(context, &self.to, at.result);
        let statistics = self.statistics.map(|buffer| context.at(buffer, at.statistics));
        let arithmetic = self.attending.arithmetic(context);
        // SAFETY: views lie inside their buffers; a task has rows of its own, and a thread memory
        // of its own, as large as `lanes` says.
        unsafe {
            let memory = context.lent.threads.add(thread * context.lent.per_thread);
            if self.is_for_few() {
                return attend_few(arithmetic, sizes, &head, queries, to, memory);
            }
            attend(arithmetic, sizes, &head, queries, to, statistics, memory);
        }
    }
}

/// The gradients of query, key and value, given that of the result.
#[derive(Debug)]
pub(crate) struct AttentionGradient {
    pub attending: Attending,
    pub result: Factor,
    pub gradient: Factor,
    pub statistics: BufferId,
    pub to_query: Factor,
    pub to_key: Factor,
    pub to_value: Factor,
    /// What the gradients of queries and keys are multiplied by.
    pub factor: f32,
    /// Heads that share keys and values stand together.
    pub heads: Vec<HeadOffsets>,
    /// How many share keys and values.
    pub group: usize,
}

impl AttentionGradient {
    /// As for [`Attention`]; scores count once more.
    pub(crate) fn flops(&self) -> u64 {
        let Sizes { width, value_width, .. } = self.attending.sizes;
        self.attending.pairs() * self.heads.len() as u64 * 2 * (3 * width + 2 * value_width) as u64
    }

    /// Floats a thread needs.
    pub(super) fn lanes(&self) -> usize {
        backward_lanes(self.attending.sizes)
    }

    pub(super) fn run(&self, context: &Context<'_>) {
        let arithmetic = self.attending.arithmetic(context);
        let memory = Shared(context.lent.threads);
        let per_thread = context.lent.per_thread;
        context.pool.run(self.heads.len() / self.group, &|task, thread| {
            let heads = &self.heads[task * self.group..(task + 1) * self.group];
            let gradients = heads.iter().map(|at| Gradients {
                head: self.attending.head(context, at),
                result: self.result.place(context, at.result),
                gradient: self.gradient.place(context, at.gradient),
                statistics: context.at(self.statistics, at.statistics),
                to_query: target(context, &self.to_query, at.to_query),
                factor: self.factor,
            });
            let to_key = target(context, &self.to_key, heads[0].to_key);
            let to_value = target(context, &self.to_value, heads[0].to_value);
            // SAFETY: views lie inside their buffers; a task has heads of its own, and a thread
            // memory of its own, as large as `lanes` says.
            unsafe {
                let memory = memory.get().add(thread * per_thread);
                let sizes = self.attending.sizes;
                attend_backward(arithmetic, sizes, gradients, to_key, to_value, memory);
            }
        });
    }
}
