//! AdamW in one pass over memory: everything between loads and stores stays in vector registers.

use super::isa::{fma, multiversion};

/// Elements computed together: some vectors of every width.
const LANES: usize = 32;

/// How far ahead memory is asked for, in elements. Processors that look ahead by themselves stop
/// at the end of a page.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 512;

/// The numbers of one step, for all elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// What gradients are multiplied by.
    pub factor: f32,
    /// `1 - β₁`.
    pub first: f32,
    /// `β₂`.
    pub kept: f32,
    /// `1 - β₂`.
    pub second: f32,
    /// What the root of the second moment is multiplied by.
    pub correction: f32,
    pub epsilon: f32,
    /// The learning rate over the correction of the first moment.
    pub step: f32,
    /// What parameters are multiplied by.
    pub decay: f32,
}

/// Parameter, first and second moment.
pub(crate) type State<T> = [T; 3];

multiversion! {
    /// One step over `n` elements.
    ///
    /// # Safety
    /// `from` and `gradient` are readable and `to` is writable for `n` floats; what `to` overlaps
    /// is the element of the same number only.
    unsafe fn adamw(rule: &Rule, from: State<*const f32>, gradient: *const f32,
        to: State<*mut f32>, n: usize) = adamw_inner
}

#[inline(always)]
unsafe fn adamw_inner<const FMA: bool>(
    rule: &Rule,
    from: State<*const f32>,
    gradient: *const f32,
    to: State<*mut f32>,
    n: usize,
) {
    let rule = *rule;
    let mut i = 0;
    while i + LANES <= n {
        for array in [from[0], from[1], from[2], gradient] {
            ahead(array.wrapping_add(i));
        }
        // SAFETY: `i + LANES` elements are readable and writable; all are read before any is
        // written.
        unsafe {
            let read = |array: *const f32| array.add(i).cast::<[f32; LANES]>().read_unaligned();
            let next = update::<FMA, LANES>(&rule, from.map(read), read(gradient));
            for (to, values) in to.into_iter().zip(next) {
                to.add(i).cast::<[f32; LANES]>().write_unaligned(values);
            }
        }
        i += LANES;
    }
    while i < n {
        // SAFETY: `i < n`.
        unsafe {
            let read = |array: *const f32| [*array.add(i)];
            let next = update::<FMA, 1>(&rule, from.map(read), read(gradient));
            for (to, [value]) in to.into_iter().zip(next) {
                *to.add(i) = value;
            }
        }
        i += 1;
    }
}

#[inline(always)]
fn update<const FMA: bool, const N: usize>(
    rule: &Rule,
    [p, m, v]: State<[f32; N]>,
    gradient: [f32; N],
) -> State<[f32; N]> {
    let (mut p, mut m, mut v) = (p, m, v);
    for i in 0..N {
        let g = gradient[i] * rule.factor;
        m[i] = fma::<FMA>(g - m[i], rule.first, m[i]);
        v[i] = fma::<FMA>(g * g, rule.second, v[i] * rule.kept);
        let below = fma::<FMA>(v[i].sqrt(), rule.correction, rule.epsilon);
        p[i] = fma::<FMA>(-(m[i] / below), rule.step, p[i] * rule.decay);
    }
    [p, m, v]
}

/// Asks for memory that will be read soon.
#[inline(always)]
fn ahead(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..LANES / 16 {
        // SAFETY: a hint, which reads nothing; SSE is part of the architecture.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * 16).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::super::isa::Isa;
    use super::*;
    use orion_tensor::Tolerance;
    use orion_testing::Random;

    #[test]
    fn steps_are_those_of_the_paper() {
        let mut random = Random::new(7);
        for isa in Isa::available() {
            for n in [1, 31, 32, 33, 200] {
                let mut draw = |low, high| -> Vec<f32> {
                    (0..n).map(|_| random.uniform(low, high) as f32).collect()
                };
                let (g, p, m, v) =
                    (draw(-1.0, 1.0), draw(-1.0, 1.0), draw(-0.1, 0.1), draw(0.0, 0.1));
                let rule = Rule {
                    factor: 0.5,
                    first: 0.1,
                    kept: 0.99,
                    second: 0.01,
                    correction: 3.0,
                    epsilon: 1e-8,
                    step: 0.01,
                    decay: 0.999,
                };
                let mut state = [p.clone(), m.clone(), v.clone()];
                let to = state.each_mut().map(|s| s.as_mut_ptr());
                // SAFETY: every array has `n` elements.
                unsafe { adamw(isa, &rule, to.map(<*mut f32>::cast_const), g.as_ptr(), to, n) };
                for i in 0..n {
                    let wide = f64::from;
                    let gradient = wide(g[i]) * 0.5;
                    let first = wide(m[i]) + 0.1 * (gradient - wide(m[i]));
                    let second = 0.99 * wide(v[i]) + 0.01 * gradient * gradient;
                    let step = 0.01 * first / (3.0 * second.sqrt() + 1e-8);
                    let expected = [0.999 * wide(p[i]) - step, first, second];
                    for (actual, expected) in state.iter().zip(expected) {
                        let actual = wide(actual[i]);
                        let bound = Tolerance::Close;
                        let most = bound.absolute() + bound.relative() * expected.abs();
                        assert!((actual - expected).abs() <= most, "{actual} {expected}");
                    }
                }
            }
        }
    }
}
