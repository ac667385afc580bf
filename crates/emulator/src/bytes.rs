//! Convolutions of 8-bit activations with 8-bit weights: from M4 on they are added up as whole
//! numbers, and scaled once.

use crate::compute::ByteConvolution;
use orion_device::{Chip, Generation};
use orion_mil::op::Constexpr;
use orion_mil::{Function, Op, ValueId};
use orion_tensor::Tensor;

/// Where the bytes of a convolution are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InBytes {
    x: Quantized,
    weight: Quantized,
}

/// Values that together are `scale · (data - zero)`.
#[derive(Debug, Clone, Copy)]
struct Quantized {
    data: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
}

/// The convolutions that a chip computes in bytes, by operation: activations with one scale, and
/// weights with one or with one for each output channel.
pub(crate) fn byte_convolutions(
    ops: &[Op],
    function: &Function,
    chip: Chip,
) -> Vec<Option<InBytes>> {
    if chip.generation < Generation::M4 {
        return vec![None; ops.len()];
    }
    let mut producers = vec![None; function.values.len()];
    for (op, operation) in ops.iter().zip(&function.body.operations) {
        for output in &operation.outputs {
            producers[output.index()] = Some(op);
        }
    }
    let is_one = |v: ValueId| function.ty(v).as_tensor().and_then(|t| t.element_count()) == Some(1);
    let of = |op: &Op| {
        let Op::Conv { x, weight, .. } = op else { return None };
        let x = match producers[x.index()]? {
            Op::Dequantize { x, scale, zero_point, .. } if is_one(*scale) => {
                Quantized { data: *x, scale: *scale, zero: *zero_point }
            }
            _ => return None,
        };
        let weight = match producers[weight.index()]? {
            Op::Constexpr(Constexpr::Affine { data, scale, zero_point, axis })
                if *axis == 0 || is_one(*scale) =>
            {
                Quantized { data: *data, scale: *scale, zero: Some(*zero_point) }
            }
            _ => return None,
        };
        Some(InBytes { x, weight })
    };
    ops.iter().map(of).collect()
}

/// The numbers of a convolution in bytes.
pub(crate) struct Given {
    x: (Vec<f32>, f32),
    weight: (Vec<f32>, Vec<f32>),
}

impl InBytes {
    pub(crate) fn operands(&self, values: &[Option<Tensor>]) -> Given {
        let whole = |q: &Quantized| {
            let tensor = |v: ValueId| values[v.index()].as_ref().expect("computed in order");
            let data = tensor(q.data).to_f32_vec();
            let zeros = q.zero.map_or_else(|| vec![0.0], |z| tensor(z).to_f32_vec());
            let each = data.len() / zeros.len().max(1);
            let zero = |i: usize| zeros[(i / each.max(1)).min(zeros.len() - 1)];
            let centred = data.iter().enumerate().map(|(i, d)| d - zero(i)).collect();
            (centred, tensor(q.scale).to_f32_vec())
        };
        let (x, scale) = whole(&self.x);
        Given { x: (x, scale[0]), weight: whole(&self.weight) }
    }
}

impl Given {
    /// With the shapes of the operation's own operands.
    pub(crate) fn convolution(self, operands: &[Tensor]) -> ByteConvolution<'_> {
        ByteConvolution {
            x: self.x,
            weight: self.weight,
            x_shape: operands[0].shape(),
            weight_shape: operands[1].shape(),
            bias: operands.get(2).map(Tensor::to_f32_vec),
        }
    }
}
