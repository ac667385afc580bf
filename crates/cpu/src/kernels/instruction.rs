//! The instructions of tile programs: one loop over a tile each.

use super::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::isa::{Isa, multiversion};
use super::math;
use super::tile::Source;
use orion_mil::op::{Binary, GeluMode, Unary};

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    /// Of f32.
    Unary(Unary),
    /// Of f32; comparisons give bool.
    Binary(Binary),
    /// Of int32: `Abs`, `Sign`, `Square`, `Relu`.
    IntUnary(Unary),
    /// Of int32, wrapping; comparisons give bool. No division.
    IntBinary(Binary),
    /// Of bools.
    BoolBinary(Binary),
    /// Of a bool.
    Not,
    /// Any lanes, chosen by a bool.
    Select,
    /// f32 to the nearest fp16, as f32.
    RoundF16,
    /// f32 to the nearest bf16, as f32.
    RoundBf16,
    /// int32 or bool to f32.
    IntToFloat,
    /// f32 to int32, towards zero.
    FloatToInt,
    /// f32 to bool.
    FloatToBool,
    /// int32 to bool.
    IntToBool,
}

/// One instruction; the result's register is given by its place in the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instruction {
    pub action: Action,
    pub arguments: [u8; 3],
    pub count: u8,
}

impl Instruction {
    pub(crate) fn new(action: Action, arguments: &[usize]) -> Self {
        let mut all = [0; 3];
        for (to, &from) in all.iter_mut().zip(arguments) {
            *to = u8::try_from(from).expect("fewer than 256 registers");
        }
        Self { action, arguments: all, count: arguments.len() as u8 }
    }

    pub(crate) fn operands(&self) -> &[u8] {
        &self.arguments[..usize::from(self.count)]
    }
}

/// Something a lane can hold.
trait Lane: Copy {
    fn from_bits(bits: u32) -> Self;
    fn to_bits(self) -> u32;
}

impl Lane for f32 {
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        f32::from_bits(bits)
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.to_bits()
    }
}

impl Lane for i32 {
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        bits as i32
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        self as u32
    }
}

impl Lane for bool {
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        bits != 0
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        u32::from(self)
    }
}

/// # Safety
/// `x` and `to` have `n` lanes and do not overlap.
#[inline(always)]
unsafe fn map1<T: Lane, U: Lane>(x: Source, to: *mut u32, n: usize, f: impl Fn(T) -> U) {
    // A number is computed once. One loop does both: functions are many, and each is compiled
    // for every set of instructions.
    let (from, count) = match &x {
        Source::Lanes(x) => (*x, n),
        Source::Number(x) => (&raw const *x, n.min(1)),
    };
    // SAFETY: the caller's promise.
    unsafe {
        let results = std::slice::from_raw_parts_mut(to, count);
        for (to, &x) in results.iter_mut().zip(std::slice::from_raw_parts(from, count)) {
            *to = f(T::from_bits(x)).to_bits();
        }
        if count < n {
            let result = *to;
            std::slice::from_raw_parts_mut(to, n).fill(result);
        }
    }
}

/// # Safety
/// As for [`map1`].
#[inline(always)]
unsafe fn map2<T: Lane, U: Lane>(
    x: Source,
    y: Source,
    to: *mut u32,
    n: usize,
    f: impl Fn(T, T) -> U,
) {
    match (x, y) {
        (Source::Lanes(x), Source::Lanes(y)) => {
            // SAFETY: the caller's promise.
            let (to, x, y) = unsafe {
                (
                    std::slice::from_raw_parts_mut(to, n),
                    std::slice::from_raw_parts(x, n),
                    std::slice::from_raw_parts(y, n),
                )
            };
            for ((to, &x), &y) in to.iter_mut().zip(x).zip(y) {
                *to = f(T::from_bits(x), T::from_bits(y)).to_bits();
            }
        }
        // SAFETY: the caller's promise.
        (x, Source::Number(y)) => unsafe {
            let y = T::from_bits(y);
            map1(x, to, n, |x| f(x, y));
        },
        // SAFETY: the caller's promise.
        (Source::Number(x), y) => unsafe {
            let x = T::from_bits(x);
            map1(y, to, n, |y| f(x, y));
        },
    }
}

/// The larger; NaN where either is.
#[inline(always)]
fn maximum(x: f32, y: f32) -> f32 {
    let m = if x > y { x } else { y };
    if x.is_nan() { x } else { m }
}

/// The smaller; NaN where either is.
#[inline(always)]
fn minimum(x: f32, y: f32) -> f32 {
    let m = if x < y { x } else { y };
    if x.is_nan() { x } else { m }
}

/// Executes one instruction over `n` lanes.
///
/// # Safety
/// The operands' registers and `to` have `n` lanes; `to` does not overlap them; the machine has
/// the instructions.
pub(crate) unsafe fn execute(
    isa: Isa,
    instruction: &Instruction,
    registers: &[Source],
    to: *mut u32,
    n: usize,
) {
    let operands = instruction.arguments.map(|r| registers[usize::from(r)]);
    let [x, y, _] = operands;
    // SAFETY: the caller's promise is passed on by every arm.
    unsafe {
        match instruction.action {
            Action::Unary(kind) if is_exact(kind) => exact(kind, x, to, n),
            Action::Unary(kind) => unary(isa, kind, x, to, n),
            Action::Binary(kind) => binary(isa, kind, x, y, to, n),
            Action::IntUnary(_) | Action::IntBinary(_) | Action::BoolBinary(_) => {
                integers(instruction.action, x, y, to, n);
            }
            action => conversion(isa, action, operands, to, n),
        }
    }
}

/// Integers and bools, which are few: compiled once.
///
/// # Safety
/// As for [`execute`].
unsafe fn integers(action: Action, x: Source, y: Source, to: *mut u32, n: usize) {
    // SAFETY: the caller's promise is passed on by every arm.
    unsafe {
        match action {
            Action::IntUnary(kind) => match kind {
                Unary::Abs => map1(x, to, n, i32::wrapping_abs),
                Unary::Sign => map1(x, to, n, i32::signum),
                Unary::Square => map1(x, to, n, |x: i32| x.wrapping_mul(x)),
                Unary::Relu => map1(x, to, n, |x: i32| x.max(0)),
                _ => unreachable!("the planner sends others to the reference evaluator"),
            },
            Action::IntBinary(kind) => match kind {
                Binary::Add => map2(x, y, to, n, i32::wrapping_add),
                Binary::Sub => map2(x, y, to, n, i32::wrapping_sub),
                Binary::Mul => map2(x, y, to, n, i32::wrapping_mul),
                Binary::Maximum => map2(x, y, to, n, |x: i32, y: i32| x.max(y)),
                Binary::Minimum => map2(x, y, to, n, |x: i32, y: i32| x.min(y)),
                Binary::Equal => map2(x, y, to, n, |x: i32, y: i32| x == y),
                Binary::NotEqual => map2(x, y, to, n, |x: i32, y: i32| x != y),
                Binary::Greater => map2(x, y, to, n, |x: i32, y: i32| x > y),
                Binary::GreaterEqual => map2(x, y, to, n, |x: i32, y: i32| x >= y),
                Binary::Less => map2(x, y, to, n, |x: i32, y: i32| x < y),
                Binary::LessEqual => map2(x, y, to, n, |x: i32, y: i32| x <= y),
                _ => unreachable!("the planner sends others to the reference evaluator"),
            },
            Action::BoolBinary(kind) => match kind {
                Binary::LogicalAnd => map2(x, y, to, n, |x: bool, y: bool| x & y),
                Binary::LogicalOr => map2(x, y, to, n, |x: bool, y: bool| x | y),
                Binary::LogicalXor | Binary::NotEqual => {
                    map2(x, y, to, n, |x: bool, y: bool| x ^ y);
                }
                Binary::Equal => map2(x, y, to, n, |x: bool, y: bool| x == y),
                _ => unreachable!("the planner sends others to the reference evaluator"),
            },
            _ => unreachable!("of integers and bools only"),
        }
    }
}

multiversion! {
    /// What chooses and converts.
    ///
    /// # Safety
    /// As for [`execute`].
    unsafe fn conversion(action: Action, operands: [Source; 3], to: *mut u32, n: usize)
        = conversion_inner
}

#[inline(always)]
unsafe fn conversion_inner<const FMA: bool>(
    action: Action,
    [x, y, z]: [Source; 3],
    to: *mut u32,
    n: usize,
) {
    // SAFETY: the caller's promise is passed on by every arm.
    unsafe {
        match action {
            Action::Not => map1(x, to, n, |x: bool| !x),
            Action::Select => select(x, y, z, to, n),
            Action::RoundF16 => map1(x, to, n, |x: f32| f16_to_f32(f32_to_f16(x))),
            Action::RoundBf16 => map1(x, to, n, |x: f32| bf16_to_f32(f32_to_bf16(x))),
            Action::IntToFloat => map1(x, to, n, |x: i32| x as f32),
            Action::FloatToInt => map1(x, to, n, |x: f32| x as i32),
            Action::FloatToBool => map1(x, to, n, |x: f32| x != 0.0),
            Action::IntToBool => map1(x, to, n, |x: i32| x != 0),
            _ => unreachable!("arithmetic is elsewhere"),
        }
    }
}

/// # Safety
/// As for [`execute`].
#[inline(always)]
unsafe fn select(cond: Source, a: Source, b: Source, to: *mut u32, n: usize) {
    // SAFETY: the caller's promise, in every arm.
    unsafe {
        match (cond, a, b) {
            (Source::Number(c), a, b) => {
                map1(if c != 0 { a } else { b }, to, n, |x: i32| x);
            }
            (c, Source::Number(a), Source::Number(b)) => {
                map1(c, to, n, |c: bool| (if c { a } else { b }) as i32);
            }
            (c, Source::Number(a), b) => {
                map2(c, b, to, n, |c: i32, b: i32| if c != 0 { a as i32 } else { b });
            }
            (c, a, Source::Number(b)) => {
                map2(c, a, to, n, |c: i32, a: i32| if c != 0 { a } else { b as i32 });
            }
            (Source::Lanes(c), Source::Lanes(a), Source::Lanes(b)) => {
                for i in 0..n {
                    *to.add(i) = if *c.add(i) != 0 { *a.add(i) } else { *b.add(i) };
                }
            }
        }
    }
}

/// Whether a function is rare enough to be computed one by one, in f64.
fn is_exact(kind: Unary) -> bool {
    use Unary::*;
    matches!(kind, Acos | Asin | Atan | Atanh | Cos | Cosh | Elu { .. } | Sin | Sinh | Tan)
}

/// # Safety
/// As for [`execute`].
unsafe fn exact(kind: Unary, x: Source, to: *mut u32, n: usize) {
    let elu = |alpha: f64| move |x: f64| if x > 0.0 { x } else { alpha * x.exp_m1() };
    // SAFETY: the caller's promise.
    let each = |f: &dyn Fn(f64) -> f64| unsafe { map1(x, to, n, |x: f32| f(f64::from(x)) as f32) };
    match kind {
        Unary::Acos => each(&f64::acos),
        Unary::Asin => each(&f64::asin),
        Unary::Atan => each(&f64::atan),
        Unary::Atanh => each(&f64::atanh),
        Unary::Cos => each(&f64::cos),
        Unary::Cosh => each(&f64::cosh),
        Unary::Elu { alpha } => each(&elu(alpha)),
        Unary::Sin => each(&f64::sin),
        Unary::Sinh => each(&f64::sinh),
        Unary::Tan => each(&f64::tan),
        _ => unreachable!("of those functions only"),
    }
}

multiversion! {
    /// # Safety
    /// As for [`execute`].
    unsafe fn unary(kind: Unary, x: Source, to: *mut u32, n: usize) = unary_inner
}

#[inline(always)]
unsafe fn unary_inner<const FMA: bool>(kind: Unary, x: Source, to: *mut u32, n: usize) {
    macro_rules! each {
        ($f:expr) => {
            // SAFETY: the caller's promise.
            unsafe { map1::<f32, f32>(x, to, n, $f) }
        };
    }
    match kind {
        Unary::Abs => each!(f32::abs),
        Unary::Ceil => each!(f32::ceil),
        Unary::Clip { low, high } => {
            let (low, high) = (low as f32, high as f32);
            each!(|x| minimum(maximum(x, low), high));
        }
        Unary::Erf => each!(math::erf::<FMA>),
        Unary::Exp => each!(math::exp::<FMA>),
        Unary::Exp2 => each!(math::exp2::<FMA>),
        Unary::Floor => each!(f32::floor),
        Unary::Gelu(GeluMode::Exact) => each!(math::gelu::<FMA>),
        Unary::Gelu(GeluMode::Tanh) => each!(math::gelu_tanh::<FMA>),
        Unary::Gelu(GeluMode::Sigmoid) => each!(|x| x * math::sigmoid::<FMA>(1.702 * x)),
        Unary::Inverse { epsilon } => {
            let epsilon = epsilon as f32;
            each!(|x| 1.0 / (x + epsilon));
        }
        Unary::LeakyRelu { alpha } => {
            let alpha = alpha as f32;
            each!(|x| if x > 0.0 { x } else { alpha * x });
        }
        Unary::LinearActivation { alpha, beta } => {
            let (alpha, beta) = (alpha as f32, beta as f32);
            each!(|x| alpha * x + beta);
        }
        Unary::Log { epsilon } => {
            let epsilon = epsilon as f32;
            each!(|x| math::ln::<FMA>(x + epsilon));
        }
        Unary::LogicalNot => unreachable!("of bools only"),
        Unary::Relu => each!(|x| maximum(x, 0.0)),
        Unary::Relu6 => each!(|x| minimum(maximum(x, 0.0), 6.0)),
        Unary::Round => each!(f32::round_ties_even),
        Unary::Rsqrt { epsilon } => {
            let epsilon = epsilon as f32;
            each!(|x| 1.0 / (x + epsilon).sqrt());
        }
        Unary::ScaledTanh { alpha, beta } => {
            let (alpha, beta) = (alpha as f32, beta as f32);
            each!(|x| alpha * math::tanh::<FMA>(beta * x));
        }
        Unary::Sigmoid => each!(math::sigmoid::<FMA>),
        Unary::SigmoidHard { alpha, beta } => {
            let (alpha, beta) = (alpha as f32, beta as f32);
            each!(|x| minimum(maximum(alpha * x + beta, 0.0), 1.0));
        }
        Unary::Sign => each!(|x| {
            let sign = if x > 0.0 { 1.0 } else { -1.0 };
            if x == 0.0 {
                0.0
            } else if x.is_nan() {
                x
            } else {
                sign
            }
        }),
        Unary::Silu => each!(|x| x * math::sigmoid::<FMA>(x)),
        Unary::Softplus => each!(math::softplus::<FMA>),
        Unary::Softsign => each!(|x| x / (1.0 + x.abs())),
        Unary::Sqrt => each!(f32::sqrt),
        Unary::Square => each!(|x| x * x),
        Unary::Tanh => each!(math::tanh::<FMA>),
        Unary::Threshold { alpha } => {
            let alpha = alpha as f32;
            each!(|x| maximum(x, alpha));
        }
        Unary::ThresholdedRelu { alpha } => {
            let alpha = alpha as f32;
            each!(|x| if x >= alpha { x } else { 0.0 });
        }
        _ => unreachable!("computed in f64"),
    }
}

multiversion! {
    /// # Safety
    /// As for [`execute`].
    unsafe fn binary(kind: Binary, x: Source, y: Source, to: *mut u32, n: usize) = binary_inner
}

#[inline(always)]
unsafe fn binary_inner<const FMA: bool>(
    kind: Binary,
    x: Source,
    y: Source,
    to: *mut u32,
    n: usize,
) {
    macro_rules! each {
        ($f:expr) => {
            // SAFETY: the caller's promise.
            unsafe { map2::<f32, _>(x, y, to, n, $f) }
        };
    }
    match kind {
        Binary::Add => each!(|x, y| x + y),
        Binary::Sub => each!(|x, y| x - y),
        Binary::Mul => each!(|x, y| x * y),
        Binary::RealDiv => each!(|x, y| x / y),
        Binary::FloorDiv => each!(|x: f32, y: f32| (f64::from(x) / f64::from(y)).floor() as f32),
        Binary::Mod => each!(|x: f32, y: f32| {
            let remainder = x % y;
            let other_sign = remainder != 0.0 && (remainder < 0.0) != (y < 0.0);
            if other_sign { remainder + y } else { remainder }
        }),
        // The exponents that models use.
        Binary::Pow => match y {
            Source::Number(bits) if bits == 2f32.to_bits() => each!(|x, _| x * x),
            Source::Number(bits) if bits == 3f32.to_bits() => each!(|x, _| x * x * x),
            Source::Number(bits) if bits == (-1f32).to_bits() => each!(|x, _| 1.0 / x),
            _ => each!(|x, y| f64::from(x).powf(f64::from(y)) as f32),
        },
        Binary::Maximum => each!(maximum),
        Binary::Minimum => each!(minimum),
        Binary::Equal => each!(|x, y| x == y),
        Binary::NotEqual => each!(|x, y| x != y),
        Binary::Greater => each!(|x, y| x > y),
        Binary::GreaterEqual => each!(|x, y| x >= y),
        Binary::Less => each!(|x, y| x < y),
        Binary::LessEqual => each!(|x, y| x <= y),
        Binary::LogicalAnd | Binary::LogicalOr | Binary::LogicalXor => {
            unreachable!("of bools only")
        }
    }
}
