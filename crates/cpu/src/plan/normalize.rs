//! Lowers reductions, softmax and the normalizations.

use super::expression::{Expression, Operand};
use super::lower::{Lowering, is_float_lane};
use super::view::View;
use crate::kernels::reduce::{Combine, Finish, Reduced};
use crate::steps::{Kind, Over, Reduce, Softmax, Statistics};
use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Op, ValueId};
use orion_tensor::{DType, element_count};

/// Elements of one part of a long reduction. Fixed, so that results do not depend on how many
/// threads there are.
const PART: usize = 1 << 15;

impl Lowering<'_> {
    pub(super) fn normalize(&mut self, op: &Op, outputs: &[ValueId]) {
        let output = outputs[0];
        if !op.operands().iter().all(|&v| is_float_lane(self.ty(v).dtype)) {
            return self.evaluate(op, outputs);
        }
        match op {
            Op::Reduce { kind: Reduction::LogSumExp, x, axes, .. } if axes.len() == 1 => {
                self.statistics(*x, axes[0], output);
            }
            Op::Reduce { kind, x, axes, .. } => {
                let x = self.view(*x);
                let to = self.output(output);
                let mut kept = x.shape.clone();
                axes.iter().for_each(|&a| kept[a] = 1);
                let result = self.reduced(*kind, &x, axes);
                let result = result.reshape(&to.shape).expect("new buffers are dense");
                self.finished(&result, &to);
            }
            Op::Softmax { x, axis } => {
                let x = self.dense_f32(*x);
                let to = self.output(output);
                if to.dtype == DType::F32 {
                    self.softmax_step(&x, &to, *axis);
                } else {
                    let wide = self.temporary(DType::F32, &x.shape);
                    self.softmax_step(&x, &wide, *axis);
                    self.convert(&wide, &to);
                }
            }
            Op::LayerNorm { x, axes, gamma, beta, epsilon } => {
                let x = self.view(*x);
                let parameter = |this: &mut Self, id: &Option<ValueId>| {
                    id.map(|id| {
                        let shape: Vec<usize> = (0..x.shape.len())
                            .map(|a| if axes.contains(&a) { x.shape[a] } else { 1 })
                            .collect();
                        this.dense(id).reshape(&shape).expect("dense tensors take any shape")
                    })
                };
                let (gamma, beta) = (parameter(self, gamma), parameter(self, beta));
                let to = self.output(output);
                let mean = self.reduced(Reduction::Mean, &x, axes);
                let mut centred = Expression::over(&x.shape);
                let (a, b) = (centred.input(&x), centred.input(&mean));
                let difference = centred.binary(Binary::Sub, a, b);
                let square = centred.unary(Unary::Square, difference);
                let count = axes.iter().map(|&a| x.shape[a]).product::<usize>();
                let finish = Finish::Mean(count as f32);
                let variance = self.reduction(centred, square, Combine::Sum, finish, axes);
                let mut normal = Expression::over(&x.shape);
                let (a, b) = (normal.input(&x), normal.input(&mean));
                let difference = normal.binary(Binary::Sub, a, b);
                let v = normal.input(&variance);
                let scale = normal.unary(Unary::Rsqrt { epsilon: *epsilon }, v);
                let result = normal.binary(Binary::Mul, difference, scale);
                self.scaled(normal, result, gamma, beta, &to);
            }
            Op::BatchNorm { x, mean, variance, gamma, beta, epsilon } => {
                let x = self.view(*x);
                let rank = x.shape.len();
                let channels = |this: &mut Self, id: ValueId| {
                    let mut shape = vec![1; rank];
                    shape[1] = x.shape[1];
                    this.dense(id).reshape(&shape).expect("dense tensors take any shape")
                };
                let (mean, variance) = (channels(self, *mean), channels(self, *variance));
                let gamma = gamma.map(|g| channels(self, g));
                let beta = beta.map(|b| channels(self, b));
                let to = self.output(output);
                let mut normal = Expression::over(&x.shape);
                let (a, b) = (normal.input(&x), normal.input(&mean));
                let difference = normal.binary(Binary::Sub, a, b);
                let v = normal.input(&variance);
                let scale = normal.unary(Unary::Rsqrt { epsilon: *epsilon }, v);
                let result = normal.binary(Binary::Mul, difference, scale);
                self.scaled(normal, result, gamma, beta, &to);
            }
            _ => unreachable!("called for reductions and normalizations"),
        }
    }

    fn scaled(
        &mut self,
        mut expression: Expression,
        mut result: Operand,
        gamma: Option<View>,
        beta: Option<View>,
        to: &View,
    ) {
        if let Some(gamma) = gamma {
            let gamma = expression.input(&gamma);
            result = expression.binary(Binary::Mul, result, gamma);
        }
        if let Some(beta) = beta {
            let beta = expression.input(&beta);
            result = expression.binary(Binary::Add, result, beta);
        }
        self.map(expression, &[(result, to.clone())]);
    }

    /// A result in f32, in its own type and place.
    fn finished(&mut self, result: &View, to: &View) {
        // The copy vanishes when memory is planned, unless it converts.
        self.convert(result, to);
    }

    /// A reduction of a view, with the reduced axes kept at size 1; f32.
    fn reduced(&mut self, kind: Reduction, x: &View, axes: &[usize]) -> View {
        let mut expression = Expression::over(&x.shape);
        let value = expression.input(x);
        let count = axes.iter().map(|&a| x.shape[a]).product::<usize>() as f32;
        let (value, combine, finish) = match kind {
            Reduction::Sum => (value, Combine::Sum, Finish::Nothing),
            Reduction::Mean => (value, Combine::Sum, Finish::Mean(count)),
            Reduction::Max => (value, Combine::Maximum, Finish::Nothing),
            Reduction::Min => (value, Combine::Minimum, Finish::Nothing),
            Reduction::Prod => (value, Combine::Product, Finish::Nothing),
            Reduction::L2Norm | Reduction::SumSquare => {
                let square = expression.unary(Unary::Square, value);
                let root = kind == Reduction::L2Norm;
                (square, Combine::Sum, if root { Finish::Root } else { Finish::Nothing })
            }
            Reduction::L1Norm => {
                (expression.unary(Unary::Abs, value), Combine::Sum, Finish::Nothing)
            }
            Reduction::LogSum => (value, Combine::Sum, Finish::Log),
            Reduction::LogSumExp => return self.log_sum_exp(x, axes),
        };
        self.reduction(expression, value, combine, finish, axes)
    }

    /// `ln Σ exp x` along one axis. What a softmax of the same values needs is kept for it.
    fn statistics(&mut self, id: ValueId, axis: usize, output: ValueId) {
        let x = self.dense_f32(id);
        let to = self.output(output);
        let outer = element_count(&x.shape[..axis]);
        let inner = element_count(&x.shape[axis + 1..]);
        let mut shape = x.shape.clone();
        shape[axis] = 1;
        let results = [(); 3].map(|()| self.temporary(DType::F32, &shape));
        let count = Statistics::partial_count(outer, x.shape[axis], inner);
        let partial = self.temporary(DType::F32, &[count]);
        let statistics = Statistics {
            outer,
            axis: x.shape[axis],
            inner,
            to: results.clone(),
            partial: partial.clone(),
            x: x.clone(),
        };
        let writes = results.iter().cloned().chain([partial]).collect();
        self.step(Kind::Statistics(statistics), vec![x], writes);
        let [max, inverse, log] = results;
        self.softmax_statistics.insert((id, axis), [max, inverse]);
        let log = log.reshape(&to.shape).expect("new buffers are dense");
        self.finished(&log, &to);
    }

    fn log_sum_exp(&mut self, x: &View, axes: &[usize]) -> View {
        let max = self.reduced(Reduction::Max, x, axes);
        let mut expression = Expression::over(&x.shape);
        let (value, shift) = (expression.input(x), expression.input(&max));
        let value = expression.binary(Binary::Sub, value, shift);
        let value = expression.unary(Unary::Exp, value);
        let log = self.reduction(expression, value, Combine::Sum, Finish::Log, axes);
        // An infinite maximum is the result; the sum is then not a number.
        let mut total = Expression::over(&max.shape);
        let (max, log) = (total.input(&max), total.input(&log));
        let sum = total.binary(Binary::Add, max, log);
        let size = total.unary(Unary::Abs, max);
        let infinity = total.number(f32::INFINITY);
        let infinite = total.binary(Binary::Equal, size, infinity);
        let shape = total.shape.clone();
        let result = total.push(crate::kernels::instruction::Action::Select, &[infinite, max, sum]);
        let to = self.temporary(DType::F32, &shape);
        self.map(total, &[(result, to.clone())]);
        to
    }

    /// A reduction of an expression, with the reduced axes kept at size 1; f32.
    fn reduction(
        &mut self,
        mut expression: Expression,
        mut value: Operand,
        combine: Combine,
        finish: Finish,
        axes: &[usize],
    ) -> View {
        let shape = expression.shape.clone();
        let rank = shape.len();
        let kept: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
        let mut to_shape = shape.clone();
        axes.iter().for_each(|&a| to_shape[a] = 1);
        let to = self.temporary(DType::F32, &to_shape);

        // Whether the axis that runs fastest in memory is kept.
        let fastest = (0..rank)
            .rev()
            .filter(|&a| shape[a] > 1)
            .find(|&a| expression.inputs.iter().any(|v| v.strides[a].abs() == 1));
        let columns = fastest.is_some_and(|a| kept.contains(&a));
        let reads = expression.inputs.clone();
        let (over, program, register, partial);
        if columns {
            // The innermost group: kept axes from the last reduced axis on.
            let last_reduced = axes.iter().copied().filter(|&a| shape[a] > 1).max();
            let split = last_reduced.unwrap_or(0);
            let inner: Vec<usize> = kept.iter().copied().filter(|&a| a > split).collect();
            let outer: Vec<usize> = kept.iter().copied().filter(|&a| a <= split).collect();
            let inner_merges = {
                let strides = |v: &View| inner.iter().map(|&a| v.strides[a]).collect::<Vec<_>>();
                let all: Vec<Vec<isize>> = expression.inputs.iter().map(strides).collect();
                let sizes: Vec<usize> = inner.iter().map(|&a| shape[a]).collect();
                super::view::collapse(&sizes, &all).0.len() == 1
            };
            if inner_merges && !inner.is_empty() {
                let groups = [outer, axes.to_vec(), inner];
                let made = expression.into_value(value, &groups);
                (program, register) = (made.0, made.1);
                let size = |i: usize| made.2[i].iter().product::<usize>();
                over = Over::Columns { outer: size(0), rows: size(1) };
                partial = None;
                let reduced = Reduced { program, register, combine, squared: false };
                let reduce = Reduce { reduced, over, finish, to: to.clone(), partial };
                self.step(Kind::Reduce(reduce), reads, vec![to.clone()]);
                return to;
            }
        }
        // Rows are squared while they are summed.
        let squared = combine == Combine::Sum && expression.take_square(&mut value);
        let (made, result, groups) = expression.into_value(value, &[kept, axes.to_vec()]);
        (program, register) = (made, result);
        let outputs = element_count(&groups[0]);
        let per_output = groups[1][..groups[1].len() - 1].iter().product::<usize>();
        let length = per_output * program.inner;
        let parts = if outputs < 16 { length.div_ceil(PART).min(4096) } else { 1 };
        partial = (parts > 1).then(|| self.temporary(DType::F32, &[outputs * parts]));
        over = Over::Rows { outputs, per_output, parts };
        let mut writes = vec![to.clone()];
        writes.extend(partial.clone());
        let reduced = Reduced { program, register, combine, squared };
        let reduce = Reduce { reduced, over, finish, to: to.clone(), partial };
        self.step(Kind::Reduce(reduce), reads, writes);
        to
    }

    /// Softmax between dense f32 views.
    pub(super) fn softmax_step(&mut self, x: &View, to: &View, axis: usize) {
        let softmax = Softmax {
            x: x.clone(),
            to: to.clone(),
            outer: element_count(&x.shape[..axis]),
            axis: x.shape[axis],
            inner: element_count(&x.shape[axis + 1..]),
        };
        self.step(Kind::Softmax(softmax), vec![x.clone()], vec![to.clone()]);
    }
}
