//! Gradients of elementwise ops: `cast`, functions of one and two tensors, `select`.
//! They do not repeat a gradient that is constant along an axis.

use super::backward::Backward;
use orion_mil::ValueId;
use orion_mil::op::{Binary, GeluMode, Unary};
use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI};

impl Backward {
    pub(super) fn cast(&mut self, x: ValueId, g: ValueId) {
        let dtype = self.builder.dtype(x);
        if dtype.is_float() {
            let gradient = self.builder.cast(g, dtype);
            self.contribute(x, gradient);
        }
    }

    /// `g` where a bool tensor is true, else 0.
    fn masked(&mut self, mask: ValueId, g: ValueId) -> ValueId {
        let zero = self.builder.number(g, 0.0);
        self.builder.select(mask, g, zero)
    }

    fn compare(&mut self, kind: Binary, x: ValueId, number: f64) -> ValueId {
        let number = self.builder.number(x, number);
        self.builder.binary(kind, x, number)
    }

    /// `1 - v`
    fn one_minus(&mut self, v: ValueId) -> ValueId {
        let one = self.builder.number(v, 1.0);
        self.builder.sub(one, v)
    }

    /// `y = f(x)`; `y` is used instead of `x` where that is cheaper.
    pub(super) fn unary(&mut self, kind: Unary, x: ValueId, y: ValueId, g: ValueId) {
        let gradient = match kind {
            Unary::Ceil | Unary::Floor | Unary::Round | Unary::Sign | Unary::LogicalNot => return,
            Unary::Clip { .. } => {
                // Inside the bounds the function gives back its argument.
                let inside = self.builder.binary(Binary::Equal, x, y);
                self.masked(inside, g)
            }
            Unary::Relu => {
                let positive = self.compare(Binary::Greater, x, 0.0);
                self.masked(positive, g)
            }
            Unary::Relu6 => {
                let inside = self.between(y, 0.0, 6.0);
                self.masked(inside, g)
            }
            Unary::Threshold { alpha } => {
                let above = self.compare(Binary::Greater, x, alpha);
                self.masked(above, g)
            }
            Unary::ThresholdedRelu { alpha } => {
                let above = self.compare(Binary::GreaterEqual, x, alpha);
                self.masked(above, g)
            }
            Unary::LeakyRelu { alpha } => {
                let positive = self.compare(Binary::Greater, x, 0.0);
                let negative = self.builder.scale(g, alpha);
                self.builder.select(positive, g, negative)
            }
            Unary::Elu { alpha } => {
                let positive = self.compare(Binary::Greater, x, 0.0);
                let slope = self.builder.offset(y, alpha);
                let negative = self.builder.mul(g, slope);
                self.builder.select(positive, g, negative)
            }
            Unary::SigmoidHard { alpha, .. } => {
                let inside = self.between(y, 0.0, 1.0);
                let slope = self.builder.scale(g, alpha);
                self.masked(inside, slope)
            }
            Unary::LinearActivation { alpha, .. } => self.builder.scale(g, alpha),
            Unary::Inverse { .. } => {
                let square = self.builder.unary(Unary::Square, y);
                let product = self.builder.mul(g, square);
                self.builder.scale(product, -1.0)
            }
            Unary::Log { epsilon } => {
                let shifted = self.shifted(x, epsilon);
                self.builder.div(g, shifted)
            }
            Unary::Sqrt => {
                let double = self.builder.scale(y, 2.0);
                self.builder.div(g, double)
            }
            Unary::Rsqrt { .. } => {
                // d (x + ε)^-½ = -½ (x + ε)^-³⸍² = -½ y³
                let square = self.builder.unary(Unary::Square, y);
                let cube = self.builder.mul(square, y);
                let slope = self.builder.scale(cube, -0.5);
                self.builder.mul(g, slope)
            }
            Unary::Atan | Unary::Atanh => {
                let square = self.builder.unary(Unary::Square, x);
                let below = match kind {
                    Unary::Atan => self.builder.offset(square, 1.0),
                    _ => self.one_minus(square),
                };
                self.builder.div(g, below)
            }
            _ => {
                let slope = self.slope(kind, x, y);
                self.builder.mul(g, slope)
            }
        };
        self.contribute(x, gradient);
    }

    /// Both bounds excluded.
    fn between(&mut self, y: ValueId, low: f64, high: f64) -> ValueId {
        let above = self.compare(Binary::Greater, y, low);
        let below = self.compare(Binary::Less, y, high);
        self.builder.binary(Binary::LogicalAnd, above, below)
    }

    fn shifted(&mut self, x: ValueId, epsilon: f64) -> ValueId {
        if epsilon == 0.0 { x } else { self.builder.offset(x, epsilon) }
    }

    /// The derivative of a smooth function, to be multiplied with the gradient.
    fn slope(&mut self, kind: Unary, x: ValueId, y: ValueId) -> ValueId {
        let b = &mut self.builder;
        match kind {
            Unary::Abs => b.unary(Unary::Sign, x),
            Unary::Acos | Unary::Asin => {
                let square = b.unary(Unary::Square, x);
                let rest = self.one_minus(square);
                let slope = self.builder.unary(Unary::Rsqrt { epsilon: 0.0 }, rest);
                if kind == Unary::Asin { slope } else { self.builder.scale(slope, -1.0) }
            }
            Unary::Cos => {
                let sine = b.unary(Unary::Sin, x);
                b.scale(sine, -1.0)
            }
            Unary::Sin => b.unary(Unary::Cos, x),
            Unary::Cosh => b.unary(Unary::Sinh, x),
            Unary::Sinh => b.unary(Unary::Cosh, x),
            Unary::Tan => {
                let square = b.unary(Unary::Square, y);
                b.offset(square, 1.0)
            }
            Unary::Tanh => {
                let square = b.unary(Unary::Square, y);
                self.one_minus(square)
            }
            Unary::ScaledTanh { alpha, beta } => {
                let inner = b.scale(x, beta);
                let tanh = b.unary(Unary::Tanh, inner);
                let square = b.unary(Unary::Square, tanh);
                let slope = self.one_minus(square);
                self.builder.scale(slope, alpha * beta)
            }
            Unary::Exp => y,
            Unary::Exp2 => b.scale(y, LN_2),
            Unary::Erf => {
                let square = b.unary(Unary::Square, x);
                let negative = b.scale(square, -1.0);
                let bell = b.unary(Unary::Exp, negative);
                b.scale(bell, 2.0 / PI.sqrt())
            }
            Unary::Sigmoid => {
                let rest = self.one_minus(y);
                self.builder.mul(y, rest)
            }
            Unary::Silu => {
                // s + x s (1 - s) with x s = y
                let sigmoid = b.unary(Unary::Sigmoid, x);
                let rest = self.one_minus(sigmoid);
                let bent = self.builder.mul(y, rest);
                self.builder.add(sigmoid, bent)
            }
            Unary::Softplus => b.unary(Unary::Sigmoid, x),
            Unary::Softsign => {
                // 1 / (1 + |x|) is 1 - |y|
                let size = b.unary(Unary::Abs, y);
                let rest = self.one_minus(size);
                self.builder.unary(Unary::Square, rest)
            }
            Unary::Square => b.scale(x, 2.0),
            Unary::Gelu(mode) => self.gelu_slope(mode, x, y),
            Unary::Ceil
            | Unary::Clip { .. }
            | Unary::Elu { .. }
            | Unary::Floor
            | Unary::Inverse { .. }
            | Unary::LeakyRelu { .. }
            | Unary::LinearActivation { .. }
            | Unary::Log { .. }
            | Unary::LogicalNot
            | Unary::Relu
            | Unary::Relu6
            | Unary::Round
            | Unary::Rsqrt { .. }
            | Unary::SigmoidHard { .. }
            | Unary::Sign
            | Unary::Sqrt
            | Unary::Threshold { .. }
            | Unary::ThresholdedRelu { .. }
            | Unary::Atan
            | Unary::Atanh => unreachable!("{kind:?} has an arm above"),
        }
    }

    fn gelu_slope(&mut self, mode: GeluMode, x: ValueId, y: ValueId) -> ValueId {
        let b = &mut self.builder;
        match mode {
            GeluMode::Exact => {
                // Φ(x) + x φ(x)
                let inner = b.scale(x, FRAC_1_SQRT_2);
                let erf = b.unary(Unary::Erf, inner);
                let above = b.offset(erf, 1.0);
                let distribution = b.scale(above, 0.5);
                let square = b.unary(Unary::Square, x);
                let exponent = b.scale(square, -0.5);
                let bell = b.unary(Unary::Exp, exponent);
                let density = b.scale(bell, 1.0 / (2.0 * PI).sqrt());
                let bent = b.mul(x, density);
                b.add(distribution, bent)
            }
            GeluMode::Tanh => {
                // With u = c (x + a x³), t = tanh u: (1 + t) / 2 + x / 2 (1 - t²) u'
                const A: f64 = 0.044715;
                let c = (2.0 / PI).sqrt();
                let square = b.unary(Unary::Square, x);
                let cubic = b.scale(square, c * A);
                let factor = b.offset(cubic, c);
                let inner = b.mul(x, factor);
                let tanh = b.unary(Unary::Tanh, inner);
                let above = b.offset(tanh, 1.0);
                let half = b.scale(above, 0.5);
                let inner_square = b.scale(square, 3.0 * c * A);
                let inner_slope = b.offset(inner_square, c);
                let tanh_square = b.unary(Unary::Square, tanh);
                let rest = self.one_minus(tanh_square);
                let b = &mut self.builder;
                let bend = b.mul(rest, inner_slope);
                let scaled = b.mul(x, bend);
                let second = b.scale(scaled, 0.5);
                b.add(half, second)
            }
            GeluMode::Sigmoid => {
                let inner = b.scale(x, 1.702);
                let sigmoid = b.unary(Unary::Sigmoid, inner);
                let rest = self.one_minus(sigmoid);
                let b = &mut self.builder;
                let bend = b.mul(y, rest);
                let scaled = b.scale(bend, 1.702);
                b.add(sigmoid, scaled)
            }
        }
    }

    pub(super) fn binary(
        &mut self,
        kind: Binary,
        x: ValueId,
        y: ValueId,
        out: ValueId,
        g: ValueId,
    ) {
        let shape = self.shape(out);
        match kind {
            Binary::Add => {
                self.contribute_broadcast(x, g, &shape);
                self.contribute_broadcast(y, g, &shape);
            }
            Binary::Sub => {
                self.contribute_broadcast(x, g, &shape);
                if self.wants(y) {
                    let target = self.shape(y);
                    let reduced = self.reduce_to(g, &shape, &target);
                    let gradient = self.builder.scale(reduced, -1.0);
                    self.contribute(y, gradient);
                }
            }
            Binary::Mul if x == y => {
                let double = self.builder.scale(g, 2.0);
                let gradient = self.builder.mul(double, x);
                self.contribute(x, gradient);
            }
            Binary::Mul => {
                for (operand, other) in [(x, y), (y, x)] {
                    if self.wants(operand) {
                        let gradient = self.builder.mul(g, other);
                        self.contribute_broadcast(operand, gradient, &shape);
                    }
                }
            }
            Binary::RealDiv => {
                // d(x / y)/dy = -(x / y) / y
                let quotient = self.builder.div(g, y);
                self.contribute_broadcast(x, quotient, &shape);
                if self.wants(y) {
                    let product = self.builder.mul(quotient, out);
                    let target = self.shape(y);
                    let reduced = self.reduce_to(product, &shape, &target);
                    let gradient = self.builder.scale(reduced, -1.0);
                    self.contribute(y, gradient);
                }
            }
            Binary::Mod => {
                self.contribute_broadcast(x, g, &shape);
                if self.wants(y) {
                    let floor = self.builder.binary(Binary::FloorDiv, x, y);
                    let product = self.builder.mul(g, floor);
                    let gradient = self.builder.scale(product, -1.0);
                    self.contribute_broadcast(y, gradient, &shape);
                }
            }
            Binary::Pow => self.pow(x, y, out, g),
            Binary::Maximum | Binary::Minimum => {
                // On ties all of it goes to x.
                let comparison =
                    if kind == Binary::Maximum { Binary::GreaterEqual } else { Binary::LessEqual };
                let takes_x = self.builder.binary(comparison, x, y);
                let zero = self.builder.number(g, 0.0);
                if self.wants(x) {
                    let gradient = self.builder.select(takes_x, g, zero);
                    self.contribute_broadcast(x, gradient, &shape);
                }
                if self.wants(y) {
                    let gradient = self.builder.select(takes_x, zero, g);
                    self.contribute_broadcast(y, gradient, &shape);
                }
            }
            // Piecewise constant, or not a float.
            Binary::FloorDiv
            | Binary::Equal
            | Binary::NotEqual
            | Binary::Greater
            | Binary::GreaterEqual
            | Binary::Less
            | Binary::LessEqual
            | Binary::LogicalAnd
            | Binary::LogicalOr
            | Binary::LogicalXor => {}
        }
    }

    /// `x^y`. At `x = 0` the derivative by `y` is taken as 0, at `y = 0` the one by `x` is.
    fn pow(&mut self, x: ValueId, y: ValueId, out: ValueId, g: ValueId) {
        let shape = self.shape(out);
        let zero = self.builder.number(g, 0.0);
        if self.wants(x) {
            let lower = self.builder.offset(y, -1.0);
            let power = self.builder.binary(Binary::Pow, x, lower);
            let slope = self.builder.mul(y, power);
            let is_zero = self.compare(Binary::Equal, y, 0.0);
            let slope = self.builder.select(is_zero, zero, slope);
            let gradient = self.builder.mul(g, slope);
            self.contribute_broadcast(x, gradient, &shape);
        }
        if self.wants(y) {
            let log = self.builder.unary(Unary::Log { epsilon: 0.0 }, x);
            let slope = self.builder.mul(out, log);
            let is_zero = self.compare(Binary::Equal, x, 0.0);
            let slope = self.builder.select(is_zero, zero, slope);
            let gradient = self.builder.mul(g, slope);
            self.contribute_broadcast(y, gradient, &shape);
        }
    }

    pub(super) fn select(
        &mut self,
        cond: ValueId,
        a: ValueId,
        b: ValueId,
        out: ValueId,
        g: ValueId,
    ) {
        let shape = self.shape(out);
        let zero = self.builder.number(g, 0.0);
        if self.wants(a) {
            let gradient = self.builder.select(cond, g, zero);
            self.contribute_broadcast(a, gradient, &shape);
        }
        if self.wants(b) {
            let gradient = self.builder.select(cond, zero, g);
            self.contribute_broadcast(b, gradient, &shape);
        }
    }
}
