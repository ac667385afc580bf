//! Looks for attention and its gradients among a function's operations.

use super::{Found, FoundAttention, FoundGradient, FoundMask, Group, Stacked};
use crate::plan::lower::{Lowering, Stored};
use orion_mil::op::{Binary, Reduction};
use orion_mil::{Op, ValueId};
use orion_tensor::{DType, Tensor, element_count};
use std::collections::BTreeMap;

/// Looks at a function's operations.
struct Search<'a, 'b> {
    lowering: &'b Lowering<'a>,
}

/// A product with a matrix `[S, T]` as one factor.
struct WithSquare {
    /// Sums over T, else over S.
    over_keys: bool,
    /// `[summed, N]`
    other: Stacked,
    /// `[S or T, N]`
    result: Stacked,
    operation: usize,
}

impl Lowering<'_> {
    /// Everything that is to be computed together.
    pub(in crate::plan) fn find_attention(&self) -> Found {
        let search = Search { lowering: self };
        let mut found = Found::default();
        for i in 0..self.ops.len() {
            match search.attention(i) {
                Ok(groups) => found.groups.extend(groups.into_iter().map(|g| (g.members()[0], g))),
                Err("") => {}
                Err(reason) => {
                    found.apart.insert(i, reason);
                }
            }
        }
        let unneeded = search.unneeded(&found.groups);
        if let Some(&first) = unneeded.first() {
            found.groups.insert(first, Group::Unneeded(unneeded));
        }
        found
    }
}

impl Search<'_, '_> {
    fn op(&self, id: ValueId) -> Option<(usize, &Op)> {
        self.lowering.producer[id.index()].map(|i| (i, &self.lowering.ops[i]))
    }

    fn output(&self, i: usize) -> ValueId {
        self.lowering.function.body.operations[i].outputs[0]
    }

    fn readers(&self, id: ValueId) -> &[usize] {
        &self.lowering.uses[id.index()]
    }

    fn number(&self, id: ValueId) -> Option<f32> {
        match &self.lowering.stored[id.index()] {
            Stored::Number { bits, ty } if ty.dtype == DType::F32 => Some(f32::from_bits(*bits)),
            _ => None,
        }
    }

    /// A value that is another one times a number.
    fn multiplied(&self, op: &Op) -> Option<(ValueId, f32)> {
        match op {
            Op::Binary { kind: Binary::Mul, x, y } => {
                let right = self.number(*y).map(|n| (*x, n));
                right.or_else(|| self.number(*x).map(|n| (*y, n)))
            }
            Op::Binary { kind: Binary::RealDiv, x, y } => self.number(*y).map(|n| (*x, 1.0 / n)),
            _ => None,
        }
    }

    /// The product an operation computes from a matrix `[S, T]`.
    fn product_with(&self, operation: usize, square: ValueId) -> Option<WithSquare> {
        let op = &self.lowering.ops[operation];
        let &Op::Matmul { x, y, transpose_x, transpose_y } = op else { return None };
        let rank = |id| self.lowering.shape(id).len();
        if x == y || rank(x) < 2 || rank(y) < 2 {
            return None;
        }
        let result = |exchanged| Stacked { id: self.output(operation), exchanged };
        Some(if x == square {
            let other = Stacked { id: y, exchanged: transpose_y };
            WithSquare { over_keys: !transpose_x, other, result: result(false), operation }
        } else {
            let other = Stacked { id: x, exchanged: !transpose_x };
            WithSquare { over_keys: transpose_y, other, result: result(true), operation }
        })
    }

    /// A product `A Bᵀ`, as its factors.
    fn product_of_rows(op: &Op) -> Option<[Stacked; 2]> {
        let &Op::Matmul { x, y, transpose_x, transpose_y } = op else { return None };
        Some([
            Stacked { id: x, exchanged: transpose_x },
            Stacked { id: y, exchanged: !transpose_y },
        ])
    }

    /// Goes from scores back to the product: operations on the way, factor and mask.
    fn scores(&self, id: ValueId) -> Option<(Vec<usize>, f32, FoundMask, [Stacked; 2])> {
        let (i, op) = self.op(id)?;
        let shape = self.lowering.shape(id);
        let inner =
            |x: ValueId| (self.lowering.shape(x) == shape).then(|| self.scores(x)).flatten();
        if let Some(factors) = Self::product_of_rows(op) {
            let ranks = factors.map(|f| self.lowering.shape(f.id).len());
            return ranks
                .iter()
                .all(|&r| r >= 2)
                .then(|| (vec![i], 1.0, FoundMask::Nothing, factors));
        }
        if let Some((x, number)) = self.multiplied(op) {
            let (mut members, factor, mask, factors) = inner(x)?;
            members.push(i);
            // A mask is added after scores are scaled, or it would be scaled too.
            return (mask == FoundMask::Nothing).then_some((
                members,
                factor * number,
                mask,
                factors,
            ));
        }
        let (chain, mask) = match op {
            Op::Binary { kind: Binary::Add, x, y } => match inner(*x) {
                Some(chain) => (chain, self.added(*y)),
                None => (inner(*y)?, self.added(*x)),
            },
            Op::Select { cond, a, b } => {
                let chosen = FoundMask::Chosen(*cond, self.number(*b)?);
                (inner(*a)?, chosen)
            }
            _ => return None,
        };
        let (mut members, factor, before, factors) = chain;
        members.push(i);
        (before == FoundMask::Nothing).then_some((members, factor, mask, factors))
    }

    /// What an added mask is: whether it comes from comparing numbers of keys with positions.
    fn added(&self, mask: ValueId) -> FoundMask {
        let causal = || {
            let (_, Op::Select { cond, a, b }) = self.op(mask)? else { return None };
            let masked = self.number(*b)?;
            // Anything less would not vanish beside scores of usual size.
            if self.number(*a)? != 0.0 || masked > -1e4 {
                return None;
            }
            let (key, position) = match self.op(*cond)?.1 {
                Op::Binary { kind: Binary::LessEqual, x, y } => (*x, *y),
                Op::Binary { kind: Binary::GreaterEqual, x, y } => (*y, *x),
                _ => return None,
            };
            let shape = self.lowering.shape(mask);
            let (&keys, rest) = shape.split_last()?;
            let counts = self.lowering.shape(key).last() == Some(&keys) && self.counts(key, keys);
            let position_shape = self.lowering.shape(position);
            let (&last, before) = position_shape.split_last()?;
            let queries = *rest.last()?;
            let is_column = last == 1
                && before.last() == Some(&queries)
                && element_count(&position_shape) == queries
                && self.lowering.ty(position).dtype == DType::I32;
            (counts && is_column).then_some(FoundMask::Positions(position, masked))
        };
        causal().unwrap_or(FoundMask::Added(mask))
    }

    /// Whether a value is 0, 1, … `count - 1`.
    fn counts(&self, id: ValueId, count: usize) -> bool {
        match self.op(id) {
            Some((_, Op::Range { dtype: DType::I32, start, step, count: n })) => {
                (*start, *step, *n) == (0.0, 1.0, count)
            }
            Some((_, Op::Reshape { x, .. })) => self.counts(*x, count),
            Some((_, Op::Const(_))) => {
                self.lowering.constant_tensor(id).is_some_and(|t: &Tensor| {
                    t.dtype() == DType::I32
                        && t.element_count() == count
                        && t.elements::<i32>().iter().zip(0..).all(|(&v, i)| v == i)
                })
            }
            _ => false,
        }
    }

    /// Attention around a softmax, with its gradients where there are any. An error says why
    /// not; it is empty where nothing looks like attention.
    fn attention(&self, softmax: usize) -> Result<Vec<Group>, &'static str> {
        let lowering = self.lowering;
        let Op::Softmax { x, axis } = &lowering.ops[softmax] else { return Err("") };
        let (probabilities, shape) = (self.output(softmax), lowering.shape(*x));
        if shape.len() < 2 || shape.contains(&0) || *axis != shape.len() - 1 {
            return Err("");
        }
        let Some((mut members, factor, mask, [query, key])) = self.scores(*x) else {
            return Err("");
        };
        members.push(softmax);
        let products: Vec<WithSquare> = self
            .readers(probabilities)
            .iter()
            .filter_map(|&i| self.product_with(i, probabilities))
            .collect();
        let mut forward = products.iter().filter(|p| p.over_keys);
        let (Some(forward), None) = (forward.next(), forward.next()) else {
            return Err("not one product of probabilities and values");
        };
        members.push(forward.operation);
        members.sort_unstable();
        let mut found = FoundAttention {
            members,
            query,
            key,
            value: forward.other,
            result: forward.result,
            mask,
            factor,
            softmax: probabilities,
            shape,
            has_gradient: false,
        };
        let all_f32 = found.members.iter().all(|&i| {
            let op = &lowering.ops[i];
            let condition = match op {
                Op::Select { cond, .. } => Some(*cond),
                _ => None,
            };
            let mut values = op.operands().into_iter().filter(|&v| Some(v) != condition);
            values.all(|v| lowering.ty(v).dtype == DType::F32)
        });
        if !all_f32 {
            return Err("not computed in fp32");
        }
        let last = found.members.last().copied().expect("there are members");
        let is_plain = |members: &[usize]| {
            members.iter().filter(|&&i| i != last).all(|&i| {
                let id = self.output(i);
                !lowering.is_result[id.index()]
                    && self.readers(id).iter().all(|r| members.contains(r))
            })
        };
        if is_plain(&found.members) {
            return Ok(vec![Group::Attention(found)]);
        }
        let gradient = self.gradient(&found, &products)?;
        let together = [&*found.members, &*gradient.members].concat();
        let results = [gradient.to_query, gradient.to_key, gradient.to_value].map(|s| s.id);
        let hidden = together.iter().all(|&i| {
            let id = self.output(i);
            i == last
                || results.contains(&id)
                || !lowering.is_result[id.index()]
                    && self.readers(id).iter().all(|r| together.contains(r))
        });
        if !hidden {
            return Err("something else reads scores or probabilities");
        }
        found.has_gradient = true;
        Ok(vec![Group::Attention(found), Group::Gradient(gradient)])
    }

    /// The operations that differentiating attention gives.
    fn gradient(
        &self,
        forward: &FoundAttention,
        products: &[WithSquare],
    ) -> Result<FoundGradient, &'static str> {
        let unlike = "something else than a gradient reads scores or probabilities";
        let p = forward.softmax;
        let mut backward = products.iter().filter(|p| !p.over_keys);
        let (Some(to_value), None) = (backward.next(), backward.next()) else {
            return Err(unlike);
        };
        let gradient = to_value.other;
        let mut members = vec![to_value.operation];
        // dS = P (dP - Σ P dP)
        let mut slopes = None;
        for &i in self.readers(p) {
            let Op::Binary { kind: Binary::Mul, x, y } = &self.lowering.ops[i] else { continue };
            let other = if *x == p { *y } else { *x };
            if let Some((sub, Op::Binary { kind: Binary::Sub, x, y })) = self.op(other) {
                slopes = Some((i, sub, *x, *y));
            }
        }
        let (slope, sub, dp, sum) = slopes.ok_or(unlike)?;
        let (product, op) = self.op(dp).ok_or(unlike)?;
        let [g, v] = Self::product_of_rows(op).ok_or(unlike)?;
        let (reduce, op) = self.op(sum).ok_or(unlike)?;
        let last = forward.shape.len() - 1;
        let weighted = match op {
            Op::Reduce { kind: Reduction::Sum, x, axes, keep_dims: true } if *axes == [last] => *x,
            _ => return Err(unlike),
        };
        let (mul, op) = self.op(weighted).ok_or(unlike)?;
        let is_weighted = matches!(op, Op::Binary { kind: Binary::Mul, x, y }
            if [*x, *y] == [p, dp] || [*x, *y] == [dp, p]);
        if !is_weighted || g != gradient || v != forward.value {
            return Err(unlike);
        }
        members.extend([product, mul, reduce, sub, slope]);
        // Through the scaling of scores, to queries and keys.
        let mut scores = self.output(slope);
        let mut factor = 1.0;
        while let [i] = self.readers(scores)
            && let Some((x, number)) = self.multiplied(&self.lowering.ops[*i])
            && x == scores
        {
            factor *= number;
            members.push(*i);
            scores = self.output(*i);
        }
        let [first, second] = self.readers(scores) else { return Err(unlike) };
        let (mut to_query, mut to_key) = (None, None);
        for &i in [first, second] {
            let product = self.product_with(i, scores).ok_or(unlike)?;
            members.push(i);
            let (to, other) = if product.over_keys {
                (&mut to_query, forward.key)
            } else {
                (&mut to_key, forward.query)
            };
            if product.other != other || to.replace(product.result).is_some() {
                return Err(unlike);
            }
        }
        let (Some(to_query), Some(to_key)) = (to_query, to_key) else { return Err(unlike) };
        let to_key = self.summed(to_key, forward.key, &forward.shape, &mut members)?;
        let to_value = self.summed(to_value.result, forward.value, &forward.shape, &mut members)?;
        members.sort_unstable();
        members.dedup();
        let batch = |id: ValueId| {
            let shape = self.lowering.shape(id);
            shape[..shape.len() - 2].to_vec()
        };
        let batches = [forward.query, gradient, to_query].map(|s| batch(s.id));
        if batches.iter().any(|b| *b != forward.shape[..last - 1])
            || batch(forward.key.id) != batch(forward.value.id)
        {
            return Err("queries, or keys and values, are shared by heads in different ways");
        }
        let forward = forward.clone();
        Ok(FoundGradient { members, forward, gradient, to_query, to_key, to_value, factor })
    }

    /// The sum over heads that share keys or values, where they do.
    fn summed(
        &self,
        gradient: Stacked,
        of: Stacked,
        shape: &[usize],
        members: &mut Vec<usize>,
    ) -> Result<Stacked, &'static str> {
        let batch = shape.len() - 2;
        let of_shape = self.lowering.shape(of.id);
        if of_shape.len() != shape.len() {
            return Err("keys or values are shared in a way that is not known here");
        }
        let shared: Vec<usize> = (0..batch).filter(|&a| of_shape[a] != shape[a]).collect();
        if shared.is_empty() {
            return Ok(gradient);
        }
        let is_sum = |op: &Op| {
            matches!(op, Op::Reduce { kind: Reduction::Sum, axes, keep_dims: true, .. }
                if *axes == shared)
        };
        match self.readers(gradient.id) {
            [i] if is_sum(&self.lowering.ops[*i]) => {
                members.push(*i);
                Ok(Stacked { id: self.output(*i), ..gradient })
            }
            _ => Err("gradients of shared keys and values are not summed right away"),
        }
    }

    /// Operations that nobody reads but groups, which do without, and each other.
    fn unneeded(&self, groups: &BTreeMap<usize, Group>) -> Vec<usize> {
        let mut inside = vec![false; self.lowering.ops.len()];
        let mut needed = vec![false; self.lowering.function.values.len()];
        for group in groups.values() {
            group.members().iter().for_each(|&i| inside[i] = true);
            group.inputs().iter().for_each(|v| needed[v.index()] = true);
        }
        let mut unneeded = Vec::new();
        let mut gone = inside.clone();
        for i in (0..gone.len()).rev() {
            let outputs = &self.lowering.function.body.operations[i].outputs;
            let is_gone = !inside[i]
                && !matches!(self.lowering.ops[i], Op::WriteState { .. } | Op::ReadState { .. })
                && outputs.iter().all(|o| {
                    let readers = self.readers(*o);
                    !needed[o.index()]
                        && !self.lowering.is_result[o.index()]
                        && !readers.is_empty()
                        && readers.iter().all(|&r| gone[r])
                });
            if is_gone {
                gone[i] = true;
                unneeded.push(i);
            }
        }
        unneeded.reverse();
        unneeded
    }
}
