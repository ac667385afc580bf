use super::Context;
use crate::plan::view::View;
use crate::precision::Precision;
use orion_mil::evaluate::evaluate;
use orion_mil::{Op, TensorType};
use orion_tensor::{Bytes, Tensor};

/// An operation computed by its definition: for what is too rare to have a kernel. Slow, and
/// allocates.
#[derive(Debug)]
pub(crate) struct Evaluate {
    pub op: Op,
    /// Dense, in the order of `Op::operands`.
    pub operands: Vec<View>,
    /// Dense.
    pub outputs: Vec<View>,
    pub types: Vec<TensorType>,
    /// Of its operands, if it is a matrix product.
    pub precision: Precision,
}

impl Evaluate {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<(), String> {
        let operand = |view: &View| {
            let size = view.dtype.size_bytes();
            let start: *const u8 = context.at(view.buffer, view.offset * size as isize);
            // SAFETY: dense views lie inside their buffers; nothing writes them now.
            let bytes = unsafe { std::slice::from_raw_parts(start, view.element_count() * size) };
            let bytes = Bytes::from_elements(bytes);
            Tensor::new(view.dtype, view.shape.clone(), bytes).expect("the sizes agree")
        };
        let mut operands: Vec<Tensor> = self.operands.iter().map(operand).collect();
        self.precision.round_operands(&self.op, &mut operands);
        let results = evaluate(&self.op, &operands, &self.types)?;
        for (view, result) in self.outputs.iter().zip(results) {
            let size = view.dtype.size_bytes();
            let start: *mut u8 = context.at(view.buffer, view.offset * size as isize);
            // SAFETY: as above; nothing else uses the output now.
            unsafe { std::slice::from_raw_parts_mut(start, view.element_count() * size) }
                .copy_from_slice(result.bytes());
        }
        Ok(())
    }
}
