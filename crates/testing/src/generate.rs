//! Random programs.
//!
//! Every program has one right answer up to rounding: functions with jumps (comparisons, casts to
//! integers, positions of extremes) are only applied to values that every device computes to the
//! bit, and magnitudes stay small, so that a difference means a mistake.

use crate::Random;
use crate::case::{Case, Draft, case};
use libtest_mimic::{Failed, Trial};
use orion_mil::op::{Binary, GeluMode, PadMode, Reduction, Unary};
use orion_mil::{Op, ValueId};
use orion_runtime::Device;
use orion_tensor::{DType, Tolerance, element_count};
use std::ops::Range;
use std::sync::Arc;

const MOST_ELEMENTS: usize = 4000;
const LARGEST_BOUND: f64 = 50.0;

#[derive(Debug, Clone)]
struct Known {
    id: ValueId,
    /// Whether every device has the same bits here.
    exact: bool,
    /// No element is larger than this.
    bound: f64,
}

/// The random program of a seed: up to 14 operations, sometimes with results in place of inputs,
/// states, weights in files, fp16.
pub fn random_case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let dtype = if random.one_in(4) { DType::F16 } else { DType::F32 };
    let tolerance = if dtype == DType::F16 { Tolerance::F16Accum } else { Tolerance::F32Network };
    let mut pairs = Vec::new();
    let mut case = case(format!("random/{seed}"), tolerance, |d| {
        let mut values = inputs(d, &mut random, dtype);
        for _ in 0..3 + random.below(12) {
            // Preferring late values makes chains; taking early ones makes long lives.
            let recent = values.len().saturating_sub(3);
            let from = if random.one_in(3) { 0 } else { recent };
            let x = values[from + random.below(values.len() - from)].clone();
            if let Some(value) = grow(d, &mut random, &x, &values) {
                values.push(value);
            }
        }
        let state = random.one_in(5).then(|| use_state(d, &mut random, &values));
        let mut results: Vec<ValueId> = state.into_iter().collect();
        // Results must not be inputs.
        let last = values[values.len() - 1].id;
        results.push(d.push(&Op::Identity { x: last }));
        for _ in 0..random.below(3) {
            let other = random.choose(&values).id;
            let is_input = d.function().params.iter().any(|p| p.value == other);
            if !is_input && !results.contains(&other) {
                results.push(other);
            }
        }
        pairs = in_place_pairs(d, &mut random, &results);
        results
    });
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(o, i)| (&**o, &**i)).collect();
    case = case.in_place(&pairs);
    if random.one_in(3) { case.runs(2) } else { case }
}

fn shape(random: &mut Random) -> Vec<usize> {
    let sizes = [1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33];
    loop {
        let rank = 1 + random.below(4);
        let shape: Vec<usize> = (0..rank).map(|_| *random.choose(&sizes)).collect();
        if element_count(&shape) <= MOST_ELEMENTS {
            return shape;
        }
    }
}

fn inputs(d: &mut Draft, random: &mut Random, dtype: DType) -> Vec<Known> {
    (0..1 + random.below(3))
        .map(|_| {
            let shape = shape(random);
            Known { id: d.any(dtype, &shape), exact: true, bound: 6.0 }
        })
        .collect()
}

/// Results that can replace an input of their type, for some of the inputs.
fn in_place_pairs(d: &Draft, random: &mut Random, results: &[ValueId]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut free: Vec<usize> = (0..results.len()).collect();
    for param in &d.function().params {
        let ty = d.function().ty(param.value);
        let fits = free.iter().position(|&r| d.function().ty(results[r]) == ty);
        if let Some(position) = fits
            && random.one_in(2)
        {
            let result = free.remove(position);
            let input = d.function().value_name(param.value).to_owned();
            pairs.push((format!("y{result}"), input));
        }
    }
    pairs
}

/// Puts a value into a state; the result is what was in it before.
fn use_state(d: &mut Draft, random: &mut Random, values: &[Known]) -> ValueId {
    let data = random.choose(values).id;
    let (dtype, shape) = (d.dtype(data), d.shape(data));
    let state = d.random_state(dtype, &shape);
    let before = d.push(&Op::ReadState { state });
    d.push_all(&Op::WriteState { state, data }, 0);
    before
}

/// One more operation on `x`, if the one that was drawn suits it.
fn grow(d: &mut Draft, random: &mut Random, x: &Known, values: &[Known]) -> Option<Known> {
    let known = |id, exact, bound| Some(Known { id, exact, bound });
    let (dtype, shape) = (d.dtype(x.id), d.shape(x.id));
    if !dtype.is_float() {
        return movement(d, random, x);
    }
    match random.below(14) {
        0 | 1 => {
            let (kind, bound) = *random.choose(&[
                (Unary::Tanh, 1.0),
                (Unary::Sigmoid, 1.0),
                (Unary::Softsign, 1.0),
                (Unary::Sin, 1.0),
                (Unary::Silu, x.bound),
                (Unary::Gelu(GeluMode::Tanh), x.bound),
                (Unary::Gelu(GeluMode::Exact), x.bound),
                (Unary::Relu, x.bound),
                (Unary::Abs, x.bound),
                (Unary::Softplus, x.bound + 1.0),
                (Unary::Clip { low: -0.5, high: 2.0 }, 2.0),
                (Unary::LeakyRelu { alpha: 0.25 }, x.bound),
            ]);
            known(d.unary(kind, x.id), false, bound)
        }
        2 => {
            let factor = random.uniform(-1.5, 1.5);
            known(d.scale(x.id, factor), false, x.bound * 1.5)
        }
        3 | 4 => {
            let y = partner(d, random, x, values);
            let (kind, bound) = *random.choose(&[
                (Binary::Add, x.bound + y.bound),
                (Binary::Sub, x.bound + y.bound),
                (Binary::Mul, x.bound * y.bound),
                (Binary::Maximum, x.bound.max(y.bound)),
                (Binary::Minimum, x.bound.max(y.bound)),
            ]);
            if bound > LARGEST_BOUND {
                return None;
            }
            let (a, b) = if random.one_in(2) { (x.id, y.id) } else { (y.id, x.id) };
            known(d.binary(kind, a, b), false, bound)
        }
        5 => {
            let axes: Vec<usize> = (0..shape.len()).filter(|_| random.one_in(2)).collect();
            let axes = if axes.is_empty() { vec![random.below(shape.len())] } else { axes };
            let count: usize = axes.iter().map(|&a| shape[a]).product();
            let (kind, bound) = *random.choose(&[
                (Reduction::Sum, x.bound * count as f64),
                (Reduction::Mean, x.bound),
                (Reduction::Max, x.bound),
                (Reduction::LogSumExp, x.bound + (count as f64).ln()),
            ]);
            // Rank 0 has no axes to go on with.
            let keep_dims = axes.len() == shape.len() || random.one_in(2);
            if bound > LARGEST_BOUND {
                return None;
            }
            known(d.reduce(kind, x.id, &axes, keep_dims), false, bound)
        }
        6 => known(d.softmax(x.id, random.below(shape.len())), false, 1.0),
        7 => {
            let [.., _, inner] = shape[..] else { return None };
            let outputs = 1 + random.below(40);
            let outer = element_count(&shape) / inner;
            if x.bound * inner as f64 > LARGEST_BOUND * 4.0 || outer * outputs > MOST_ELEMENTS {
                return None;
            }
            let transposed = random.one_in(2);
            let y_shape = if transposed { [outputs, inner] } else { [inner, outputs] };
            let w = if random.one_in(2) {
                d.weight(dtype, &y_shape, 0.2)
            } else {
                d.within(dtype, &y_shape, -0.5, 0.5)
            };
            let product = d.matmul(x.id, w, false, transposed);
            known(d.unary(Unary::Tanh, product), false, 1.0)
        }
        8 => {
            let [1, channels, 1, _] = shape[..] else { return None };
            let outputs = 1 + random.below(40);
            let weight = d.weight(dtype, &[outputs, channels, 1, 1], 0.2);
            let y = d.conv_1x1(x.id, weight, None);
            known(d.unary(Unary::Tanh, y), false, 1.0)
        }
        9 if x.exact => {
            let y = d.within(dtype, &shape, -3.0, 3.0);
            let kinds = [Binary::Less, Binary::GreaterEqual, Binary::Equal];
            let cond = d.binary(*random.choose(&kinds), x.id, y);
            known(d.select(cond, x.id, y), true, x.bound.max(3.0))
        }
        10 if x.exact => known(d.unary(Unary::Floor, x.id), true, x.bound + 1.0),
        11 if x.exact => {
            let axis = random.below(shape.len());
            let op = Op::ArgReduce { max: random.one_in(2), x: x.id, axis, keep_dims: true };
            known(d.push(&op), true, shape[axis] as f64)
        }
        _ => movement(d, random, x),
    }
}

/// Something to combine with `x`: a value that broadcasts with it, or a new input that does.
fn partner(d: &mut Draft, random: &mut Random, x: &Known, values: &[Known]) -> Known {
    let (dtype, shape) = (d.dtype(x.id), d.shape(x.id));
    let fitting: Vec<&Known> = values
        .iter()
        .filter(|v| {
            let joined = orion_tensor::broadcast_shapes(&d.shape(v.id), &shape);
            d.dtype(v.id) == dtype && joined.is_some_and(|s| element_count(&s) <= MOST_ELEMENTS)
        })
        .collect();
    if !random.one_in(3) {
        return (*random.choose(&fitting)).clone();
    }
    let skipped = random.below(shape.len());
    let narrowed: Vec<usize> =
        shape[skipped..].iter().map(|&n| if random.one_in(2) { 1 } else { n }).collect();
    Known { id: d.any(dtype, &narrowed), exact: true, bound: 6.0 }
}

/// An operation that only moves elements.
fn movement(d: &mut Draft, random: &mut Random, x: &Known) -> Option<Known> {
    let (dtype, shape) = (d.dtype(x.id), d.shape(x.id));
    let rank = shape.len();
    let axis = random.below(rank);
    let id = match random.below(8) {
        0 => {
            let mut perm: Vec<usize> = (0..rank).collect();
            (1..rank).rev().for_each(|i| perm.swap(i, random.below(i + 1)));
            d.transpose(x.id, &perm)
        }
        1 => {
            let flat = [element_count(&shape)];
            let mut deeper = shape.clone();
            deeper.insert(axis, 1);
            let merged = [&shape[..axis], &[shape[axis..].iter().product()]].concat();
            let choices = [&flat[..], &merged, &deeper];
            let to = random.choose(&choices).to_vec();
            if to.len() > 4 {
                return None;
            }
            d.reshape(x.id, &to)
        }
        2 => {
            let begin: Vec<usize> = shape.iter().map(|&n| random.below(n)).collect();
            let size: Vec<usize> =
                shape.iter().zip(&begin).map(|(&n, &b)| 1 + random.below(n - b)).collect();
            d.slice(x.id, &begin, &size)
        }
        3 if shape[axis] > 1 => {
            let first = 1 + random.below(shape[axis] - 1);
            let parts = d.split(x.id, axis, &[first, shape[axis] - first]);
            d.concat(&[parts[1], parts[0]], axis)
        }
        4 if 2 * element_count(&shape) <= MOST_ELEMENTS => d.concat(&[x.id, x.id], axis),
        5 if dtype.is_float() && 2 * element_count(&shape) <= MOST_ELEMENTS => {
            let mut pads = vec![(0, 0); rank];
            pads[axis] = (random.below(2), 1);
            let mode = *random.choose(&[PadMode::Constant(0.5), PadMode::Replicate]);
            d.push(&Op::Pad { x: x.id, pads, mode })
        }
        6 => {
            let indices = d.indices(&[1 + random.below(5)], shape[axis]);
            d.gather(x.id, indices, axis)
        }
        7 => {
            let step: isize = if random.one_in(2) { -1 } else { 2 };
            let (mut begin, mut size) = (vec![0; rank], shape.clone());
            let mut stride = vec![1; rank];
            stride[axis] = step;
            if step < 0 {
                begin[axis] = shape[axis] - 1;
            } else {
                size[axis] = shape[axis].div_ceil(2);
            }
            d.push(&Op::Slice { x: x.id, begin, size, stride, squeeze: vec![false; rank] })
        }
        _ => return None,
    };
    (id != x.id).then(|| Known { id, ..x.clone() })
}

/// Tests, fifty programs each, that a device computes random programs like the reference. A
/// failure names the seed, from which [`random_case`] makes the program again.
pub fn random_programs(label: &str, device: &Arc<dyn Device>, seeds: Range<u64>) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut start = seeds.start;
    while start < seeds.end {
        let batch = start..(start + 50).min(seeds.end);
        start = batch.end;
        let device = device.clone();
        let name = format!("{label}: random programs {}..{}", batch.start, batch.end);
        trials.push(Trial::test(name, move || {
            for seed in batch {
                random_case(seed)
                    .check(&*device)
                    .map_err(|difference| Failed::from(format!("seed {seed}: {difference}")))?;
            }
            Ok(())
        }));
    }
    trials
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_cpu::reference::Reference;
    use std::collections::HashSet;

    #[test]
    fn programs_are_the_same_for_the_same_seed() {
        assert_eq!(random_case(7).program, random_case(7).program);
        assert_ne!(random_case(7).program, random_case(8).program);
    }

    #[test]
    fn programs_run_and_have_variety() {
        let mut ops = HashSet::new();
        for seed in 0..200 {
            let case = random_case(seed);
            case.check(&Reference).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let operations = &case.program.functions[0].body.operations;
            ops.extend(operations.iter().map(|o| o.name.clone()));
        }
        assert!(ops.len() > 40, "only {ops:?}");
    }
}
