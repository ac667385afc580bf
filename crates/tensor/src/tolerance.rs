use std::fmt;

/// How far two results may be apart. Every comparison in the project names one of these.
///
/// A value passes when `|actual - expected| <= absolute + relative * scale`, where `scale` is
/// the larger of `|expected|` and, for the accumulating tolerances, the root mean square of the
/// expected tensor: the error of a sum follows the size of its terms, not of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// The same bits (NaN equals NaN).
    Exact,
    /// f32 elementwise work in another order or with another `exp`: 2e-6 relative, 1e-7 absolute.
    Close,
    /// Sums and products of a few thousand f32 terms in another order: 2e-5 of the scale.
    F32Accum,
    /// A whole f32 network or its gradients: 1e-4 of the scale.
    F32Network,
    /// Weights after a few AdamW steps: 1e-3 of the scale. An element whose gradient is about as
    /// small as AdamW's epsilon moves by an amount that rounding decides.
    Trained,
    /// Values that passed through fp16 once: 1e-3 of the scale.
    F16Round,
    /// fp16 arithmetic through a network: 1e-2 of the scale.
    F16Accum,
}

impl Tolerance {
    /// Relative part.
    pub fn relative(self) -> f64 {
        match self {
            Self::Exact => 0.0,
            Self::Close => 2e-6,
            Self::F32Accum => 2e-5,
            Self::F32Network => 1e-4,
            Self::Trained | Self::F16Round => 1e-3,
            Self::F16Accum => 1e-2,
        }
    }

    /// Absolute part.
    pub fn absolute(self) -> f64 {
        match self {
            Self::Exact => 0.0,
            Self::Close | Self::F32Accum | Self::F32Network | Self::Trained => 1e-7,
            Self::F16Round | Self::F16Accum => 1e-6,
        }
    }

    /// Compares whole tensors.
    ///
    /// # Errors
    /// The worst element, when any is outside the tolerance or the lengths differ.
    pub fn check(self, actual: &[f64], expected: &[f64]) -> Result<(), Mismatch> {
        if actual.len() != expected.len() {
            return Err(Mismatch {
                tolerance: self,
                index: actual.len().min(expected.len()),
                actual: f64::NAN,
                expected: f64::NAN,
                failing: actual.len().abs_diff(expected.len()),
                count: expected.len(),
            });
        }
        let finite: Vec<f64> = expected.iter().copied().filter(|v| v.is_finite()).collect();
        let rms = (finite.iter().map(|v| v * v).sum::<f64>() / finite.len().max(1) as f64).sqrt();
        let floor = match self {
            Self::Exact | Self::Close => 0.0,
            _ => rms,
        };
        let mut worst: Option<(f64, usize)> = None;
        let mut failing = 0;
        for (index, (&a, &e)) in actual.iter().zip(expected).enumerate() {
            if a == e || (a.is_nan() && e.is_nan()) {
                continue;
            }
            let allowed = self.absolute() + self.relative() * e.abs().max(floor);
            let excess = (a - e).abs() / allowed.max(f64::MIN_POSITIVE);
            if excess <= 1.0 && e.is_finite() {
                continue;
            }
            failing += 1;
            let excess = if excess.is_nan() { f64::INFINITY } else { excess };
            if worst.is_none_or(|(w, _)| excess > w) {
                worst = Some((excess, index));
            }
        }
        match worst {
            None => Ok(()),
            Some((_, index)) => Err(Mismatch {
                tolerance: self,
                index,
                actual: actual[index],
                expected: expected[index],
                failing,
                count: expected.len(),
            }),
        }
    }
}

/// The worst element of a failed comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// The tolerance that was asked for.
    pub tolerance: Tolerance,
    /// Flat index of the worst element.
    pub index: usize,
    /// What was computed there.
    pub actual: f64,
    /// What was expected there.
    pub expected: f64,
    /// How many elements are outside the tolerance.
    pub failing: usize,
    /// How many were compared.
    pub count: usize,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} values outside {:?}; worst at {}: got {:e}, expected {:e}",
            self.failing, self.count, self.tolerance, self.index, self.actual, self.expected
        )
    }
}

impl std::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_and_close() {
        assert!(Tolerance::Exact.check(&[1.0, f64::NAN], &[1.0, f64::NAN]).is_ok());
        assert!(Tolerance::Close.check(&[1.0 + 1e-6], &[1.0]).is_ok());
        let e = Tolerance::Close.check(&[1.0, 2.1, 3.1], &[1.0, 2.0, 3.0]).unwrap_err();
        assert_eq!((e.index, e.failing), (1, 2));
        assert!(Tolerance::F16Accum.check(&[f64::NAN], &[1.0]).is_err());
        assert!(Tolerance::F16Accum.check(&[1.0], &[f64::INFINITY]).is_err());
        assert!(Tolerance::F16Accum.check(&[1.0], &[]).is_err());
    }
}
