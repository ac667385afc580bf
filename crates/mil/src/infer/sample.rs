//! Images between pixels, chosen boxes, random numbers.

use super::{Operands, Types, known_shape, require, require_same_dtype, show};
use crate::op::{Distribution, Random, Sample, Suppression};
use crate::{TensorType, Type};
use orion_tensor::DType;

pub(super) fn sample(op: &Sample, operands: Operands<'_>) -> Types {
    let image = |id| {
        let x: &TensorType = operands.float("x", id)?;
        let shape = known_shape("x", x)?;
        let fits = shape.len() == 4 && !shape[2..].contains(&0);
        require(fits, || format!("x must be [N, C, H, W] with pixels, it is {}", show(x)))?;
        Ok::<_, String>((x.dtype, shape))
    };
    match op {
        Sample::Points { x, coordinates, .. } => {
            let (dtype, x) = image(*x)?;
            let coordinates = operands.number("coordinates", *coordinates)?;
            let points = known_shape("coordinates", coordinates)?;
            let fits = points.len() == 4 && points[0] == x[0] && points[3] == 2;
            require(fits, || {
                format!("coordinates {} are not [{}, H, W, 2]", show(coordinates), x[0])
            })?;
            Ok(vec![Type::tensor(dtype, &[x[0], x[1], points[1], points[2]])])
        }
        Sample::Affine { x, matrix, size, .. } => {
            let (dtype, x) = image(*x)?;
            let matrix = operands.float("transform_matrix", *matrix)?;
            let shape = known_shape("transform_matrix", matrix)?;
            require(shape == [1, 6] || shape == [x[0], 6], || {
                format!("transform_matrix must be [1, 6] or [{}, 6], it is {}", x[0], show(matrix))
            })?;
            Ok(vec![Type::tensor(dtype, &[x[0], x[1], size[0], size[1]])])
        }
        Sample::Crop { x, boxes, box_indices, size, .. } => {
            let (dtype, x) = image(*x)?;
            let ty = operands.number("boxes", *boxes)?;
            let boxes = known_shape("boxes", ty)?;
            let tail = [x[1], size[0], size[1]];
            match boxes[..] {
                [n, 4] => {
                    let indices = match box_indices {
                        Some(indices) => {
                            known_shape("box_indices", operands.int("box_indices", *indices)?)?
                        }
                        None => vec![n],
                    };
                    require(indices == [n] && (box_indices.is_some() || n <= x[0]), || {
                        format!("{n} boxes need as many indices or images, not {indices:?}")
                    })?;
                    Ok(vec![Type::tensor(dtype, &[&[n], &tail[..]].concat())])
                }
                // Every image for every box, or one image for each.
                [n, 1, k @ (4 | 5), 1, 1] if box_indices.is_none() => {
                    let images = if k == 4 { x[0] } else { 1 };
                    Ok(vec![Type::tensor(dtype, &[&[n, images], &tail[..]].concat())])
                }
                _ => Err(format!("boxes must be [N, 4] or [N, 1, 4 or 5, 1, 1], not {}", show(ty))),
            }
        }
    }
}

pub(super) fn suppression(op: &Suppression, operands: Operands<'_>) -> Types {
    let (boxes, scores) =
        (operands.float("boxes", op.boxes)?, operands.float("scores", op.scores)?);
    require_same_dtype(("boxes", boxes), ("scores", scores))?;
    let (b, s) = (known_shape("boxes", boxes)?, known_shape("scores", scores)?);
    let in_rows = op.score_threshold.is_some();
    let (count, four) = if in_rows { (1, 2) } else { (2, 1) };
    let fits = b.len() == 3 && s.len() == 3 && b[0] == s[0] && b[four] == 4;
    require(fits && b[count] == s[count] && s[four] > 0, || {
        format!("boxes {} and scores {} do not fit each other", show(boxes), show(scores))
    })?;
    let n = op.max_boxes;
    let of = |each: usize| if in_rows { [b[0], n, each] } else { [b[0], each, n] };
    let mut types = vec![
        Type::tensor(boxes.dtype, &of(4)),
        Type::tensor(boxes.dtype, &of(s[four])),
        Type::tensor(DType::I32, &[b[0], n]),
    ];
    if in_rows {
        types.push(Type::tensor(DType::I32, &[b[0]]));
    }
    Ok(types)
}

pub(super) fn random(op: &Random, operands: Operands<'_>) -> Types {
    require(op.dtype.is_float() && op.dtype.bits() >= 16, || {
        format!("random numbers are floats, not {}", op.dtype)
    })?;
    if let Distribution::Categorical { x, .. } = op.distribution {
        let x = operands.float("x", x)?;
        let shape = known_shape("x", x)?;
        let fits = shape.last().is_some_and(|&n| n > 0)
            && op.shape.len() == shape.len()
            && op.shape[..shape.len() - 1] == shape[..shape.len() - 1];
        require(fits, || format!("x {} does not give {:?}", show(x), op.shape))?;
    }
    Ok(vec![Type::tensor(op.dtype, &op.shape)])
}
