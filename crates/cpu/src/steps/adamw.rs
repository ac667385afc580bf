use super::{Context, Shared};
use crate::kernels::adamw::{self, Rule, State};
use crate::plan::view::View;

/// Elements that one thread updates at a time, at least, and of large parameters at most: memory
/// is fastest when every thread goes a long way.
const PIECE: usize = 1 << 15;
const LONG_PIECE: usize = 1 << 20;

/// A number that is known when the plan is made, or an element of a buffer.
#[derive(Debug, Clone)]
pub(crate) enum Scalar {
    Number(f32),
    /// f32.
    At(View),
}

/// One step of AdamW over a parameter, unless something was not finite.
#[derive(Debug)]
pub(crate) struct Adamw {
    /// Dense f32 of one size, as are `gradient` and `to`. May be the memory of `to`.
    pub from: State<View>,
    pub gradient: View,
    pub to: State<View>,
    /// Bool: where it is false, `to` gets what `from` holds.
    pub finite: View,
    pub rule: [Scalar; 8],
}

impl Adamw {
    pub(super) fn run(&self, context: &Context<'_>) {
        let count = self.gradient.element_count();
        let from = self.from.each_ref().map(|v| context.at::<f32>(v.buffer, v.offset));
        let to = self.to.each_ref().map(|v| context.at::<f32>(v.buffer, v.offset));
        let finite: *const u8 = context.at(self.finite.buffer, self.finite.offset);
        // SAFETY: views lie inside their buffers.
        if unsafe { *finite } == 0 {
            if from == to {
                return;
            }
            for i in 0..count {
                // SAFETY: as above. What is written may be another old value of the same number,
                // so all are read first.
                unsafe {
                    let old = from.map(|from| *from.add(i));
                    to.into_iter().zip(old).for_each(|(to, old)| *to.add(i) = old);
                }
            }
            return;
        }
        let [factor, first, kept, second, correction, epsilon, step, decay] =
            self.rule.each_ref().map(|scalar| match scalar {
                Scalar::Number(value) => *value,
                // SAFETY: as above.
                Scalar::At(view) => unsafe { *context.at::<f32>(view.buffer, view.offset) },
            });
        let rule = Rule { factor, first, kept, second, correction, epsilon, step, decay };
        let gradient = Shared::<f32>(context.at(self.gradient.buffer, self.gradient.offset));
        let (from, to, isa) = (from.map(Shared), to.map(Shared), context.isa);
        // Two pieces to a thread, so that one that is held up leaves something to the others.
        let share = count.div_ceil(2 * context.pool.threads()).next_multiple_of(1024);
        let piece = share.clamp(PIECE, LONG_PIECE);
        context.pool.run(count.div_ceil(piece), &|i, _| {
            let first = i * piece;
            // SAFETY: the elements from `first` on are this task's own.
            unsafe {
                let from = from.map(|s| s.get().add(first).cast_const());
                let to = to.map(|s| s.get().add(first));
                let gradient = gradient.get().add(first);
                adamw::adamw(isa, &rule, from, gradient, to, piece.min(count - first));
            }
        });
    }
}
