//! Writes what was found, and [`orion_mil::Op::Attention`], as steps.

use super::{FoundAttention, FoundGradient, FoundMask, Group, Stacked};
use crate::kernels::attention::Sizes;
use crate::plan::lower::Lowering;
use crate::plan::view::View;
use crate::steps::{Attending, Attention, AttentionGradient, Factor, HeadOffsets, Kind, Masking};
use orion_mil::ValueId;
use orion_tensor::{DType, element_count};

impl Lowering<'_> {
    /// Writes a group as one step.
    pub(in crate::plan) fn together(&mut self, group: &Group) {
        match group {
            Group::Attention(found) => {
                let to = self.output(found.result.id);
                let (attending, mut heads, reads) = self.attending(found);
                let to = oriented(to, found.result.exchanged);
                offsets(&mut heads, &to, &found.shape, |at, offset| at.result = offset);
                let mut writes = vec![to.clone()];
                let queries = found.shape[found.shape.len() - 2];
                let statistics = found.has_gradient.then(|| {
                    let view = self.temporary(DType::F32, &[heads.len(), 2, queries]);
                    for (at, number) in heads.iter_mut().zip(0..) {
                        at.statistics = number * 2 * queries as isize;
                    }
                    writes.push(view.clone());
                    self.attention_statistics.insert(found.softmax, view.clone());
                    view.buffer
                });
                let attention = Attention { attending, to: Factor::of(&to), statistics, heads };
                self.step(Kind::Attention(attention), reads, writes);
            }
            Group::Gradient(found) => self.gradient(found),
            Group::Unneeded(_) => {}
        }
    }

    /// [`orion_mil::Op::Attention`] of operands that may be of any float type; the result is f32.
    pub(in crate::plan) fn attention_step(
        &mut self,
        [query, key, value]: [ValueId; 3],
        mask: Option<ValueId>,
        to: &View,
    ) {
        let plain = |id| Stacked { id, exchanged: false };
        let rank = to.shape.len();
        let key_shape = self.shape(key);
        let keys = key_shape[key_shape.len() - 2];
        let width = key_shape[key_shape.len() - 1];
        let found = FoundAttention {
            members: Vec::new(),
            query: plain(query),
            key: plain(key),
            value: plain(value),
            result: plain(query),
            mask: match mask {
                None => FoundMask::Nothing,
                Some(id) if self.ty(id).dtype == DType::Bool => {
                    FoundMask::Chosen(id, f32::NEG_INFINITY)
                }
                Some(id) => FoundMask::Added(id),
            },
            factor: 1.0 / (width as f32).sqrt(),
            softmax: query,
            shape: [&to.shape[..rank - 1], &[keys]].concat(),
            has_gradient: false,
        };
        let (attending, mut heads, reads) = self.attending(&found);
        offsets(&mut heads, to, &found.shape, |at, offset| at.result = offset);
        let attention = Attention { attending, to: Factor::of(to), statistics: None, heads };
        self.step(Kind::Attention(attention), reads, vec![to.clone()]);
    }

    fn gradient(&mut self, found: &FoundGradient) {
        let FoundGradient { forward, .. } = found;
        let [to_query, to_key, to_value] = [found.to_query, found.to_key, found.to_value]
            .map(|stacked| oriented(self.output(stacked.id), stacked.exchanged));
        let (attending, mut heads, mut reads) = self.attending(forward);
        let statistics = self.attention_statistics[&forward.softmax].clone();
        let [result, gradient] = [forward.result, found.gradient]
            .map(|stacked| oriented(self.view(stacked.id), stacked.exchanged));
        let shape = &forward.shape;
        offsets(&mut heads, &result, shape, |at, offset| at.result = offset);
        offsets(&mut heads, &gradient, shape, |at, offset| at.gradient = offset);
        offsets(&mut heads, &to_query, shape, |at, offset| at.to_query = offset);
        offsets(&mut heads, &to_key, shape, |at, offset| at.to_key = offset);
        offsets(&mut heads, &to_value, shape, |at, offset| at.to_value = offset);
        for (at, number) in heads.iter_mut().zip(0..) {
            at.statistics = number * 2 * shape[shape.len() - 2] as isize;
        }
        // Stable, so that heads of one group stay in order.
        heads.sort_by_key(|at| (at.to_key, at.to_value));
        let group = heads.iter().take_while(|at| at.to_key == heads[0].to_key).count();
        reads.extend([result.clone(), gradient.clone(), statistics.clone()]);
        let writes = vec![to_query.clone(), to_key.clone(), to_value.clone()];
        let step = AttentionGradient {
            attending,
            result: Factor::of(&result),
            gradient: Factor::of(&gradient),
            statistics: statistics.buffer,
            to_query: Factor::of(&to_query),
            to_key: Factor::of(&to_key),
            to_value: Factor::of(&to_value),
            factor: found.factor,
            heads,
            group,
        };
        self.step(Kind::AttentionGradient(step), reads, writes);
    }

    /// Operands, where each head's begin, and what is read.
    fn attending(&mut self, found: &FoundAttention) -> (Attending, Vec<HeadOffsets>, Vec<View>) {
        let shape = &found.shape;
        let rank = shape.len();
        let [query, key, value] = [found.query, found.key, found.value]
            .map(|stacked| oriented(self.view(stacked.id), stacked.exchanged));
        let mut heads = vec![HeadOffsets::default(); element_count(&shape[..rank - 2])];
        offsets(&mut heads, &query, shape, |at, offset| at.query = offset);
        offsets(&mut heads, &key, shape, |at, offset| at.key = offset);
        offsets(&mut heads, &value, shape, |at, offset| at.value = offset);
        let mut reads = vec![query.clone(), key.clone(), value.clone()];
        let last = |view: &View| view.shape[view.shape.len() - 1];
        let sizes = Sizes {
            queries: shape[rank - 2],
            keys: shape[rank - 1],
            width: last(&query),
            value_width: last(&value),
        };
        let masking = match found.mask {
            FoundMask::Nothing => Masking::Nothing,
            FoundMask::Positions(id, masked) => {
                let view = self.view(id);
                let stride = view.strides[view.shape.len() - 2];
                heads.iter_mut().for_each(|at| at.mask = view.offset);
                let buffer = view.buffer;
                reads.push(view);
                Masking::Positions { buffer, stride, masked }
            }
            FoundMask::Added(id) => {
                let mut view = self.view(id);
                if view.dtype != DType::F32 {
                    let wide = self.temporary(DType::F32, &view.shape);
                    self.convert(&view, &wide);
                    view = wide;
                }
                let view = view.broadcast(shape);
                offsets(&mut heads, &view, shape, |at, offset| at.mask = offset);
                let Factor { buffer, row, column, .. } = Factor::of(&view);
                reads.push(view);
                Masking::Added { buffer, query: row, key: column }
            }
            FoundMask::Chosen(id, otherwise) => {
                let view = self.view(id).broadcast(shape);
                offsets(&mut heads, &view, shape, |at, offset| at.mask = offset);
                let Factor { buffer, row, column, .. } = Factor::of(&view);
                reads.push(view);
                Masking::Chosen { buffer, query: row, key: column, otherwise }
            }
        };
        let attending = Attending {
            sizes,
            query: Factor::of(&query),
            key: Factor::of(&key),
            value: Factor::of(&value),
            masking,
            factor: found.factor,
            precision: self.precision,
        };
        (attending, heads, reads)
    }
}

/// A view as rows and columns of the matrices it stands for.
fn oriented(view: View, exchanged: bool) -> View {
    if exchanged { view.transposed() } else { view }
}

/// Tells where a view's matrices begin, for heads in the order of the batch axes of `shape`.
fn offsets(
    heads: &mut [HeadOffsets],
    view: &View,
    shape: &[usize],
    set: impl Fn(&mut HeadOffsets, isize),
) {
    let batch = &shape[..shape.len() - 2];
    let matrix = &view.shape[view.shape.len() - 2..];
    let view = view.broadcast(&[batch, matrix].concat());
    for (number, at) in heads.iter_mut().enumerate() {
        let (mut rest, mut offset) = (number, view.offset);
        for (axis, &n) in batch.iter().enumerate().rev() {
            offset += (rest % n) as isize * view.strides[axis];
            rest /= n;
        }
        set(at, offset);
    }
}
