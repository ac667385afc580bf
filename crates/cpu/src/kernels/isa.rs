//! Which instructions this machine has, found out once, and one function compiled for each.

/// A set of instructions kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// What every machine of the target architecture has (NEON on Arm).
    Baseline,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL, and all of the above.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best this machine has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match (avx2, avx512) {
                (true, true) => return Self::Avx512,
                (true, false) => return Self::Avx2,
                _ => {}
            }
        }
        Self::Baseline
    }

    /// Those this machine can run, for tests.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        match Self::detect() {
            Self::Avx512 => return vec![Self::Baseline, Self::Avx2, Self::Avx512],
            Self::Avx2 => return vec![Self::Baseline, Self::Avx2],
            Self::Baseline => {}
        }
        vec![Self::Baseline]
    }

    /// A name for a person.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            Self::Baseline if cfg!(target_arch = "aarch64") => "NEON",
            Self::Baseline => "baseline",
        }
    }
}

/// Whether a multiply-add of one rounding is one instruction everywhere on this architecture.
pub(crate) const BASELINE_FMA: bool = cfg!(target_arch = "aarch64");

/// `x y + z`, in one rounding where the instruction exists.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(x: f32, y: f32, z: f32) -> f32 {
    if FMA { x.mul_add(y, z) } else { x * y + z }
}

/// Makes a function that takes an [`Isa`] first and runs `$inner::<FMA>` compiled for it.
/// `$inner` must be `#[inline(always)]`.
macro_rules! multiversion {
    ($(#[$attr:meta])* unsafe fn $name:ident$(<$g:ident: $bound:path>)?($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $inner:ident) => {
        $(#[$attr])*
        #[allow(clippy::too_many_arguments, reason = "kernels take sizes and strides")]
        #[allow(unused_unsafe, reason = "some kernels are safe but for their instructions")]
        pub(crate) unsafe fn $name$(<$g: $bound>)?(isa: $crate::kernels::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn avx512$(<$g: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promise is passed on.
                unsafe { $inner::<$($g,)? true>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2$(<$g: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promise is passed on.
                unsafe { $inner::<$($g,)? true>($($arg),*) }
            }
            match isa {
                // SAFETY: `Isa::detect` found the instructions; the rest is the caller's promise.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx512 => unsafe { avx512$(::<$g>)?($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx2 => unsafe { avx2$(::<$g>)?($($arg),*) },
                // SAFETY: the caller's promise is passed on.
                $crate::kernels::isa::Isa::Baseline => unsafe {
                    $inner::<$($g,)? { $crate::kernels::isa::BASELINE_FMA }>($($arg),*)
                },
            }
        }
    };
}
pub(crate) use multiversion;
