//! What this machine can do at most: rates of arithmetic and of memory, measured by short loops
//! that do nothing else. Benchmarks put them beside what programs reach.
//!
//! Not a model of the machine: on a shared one the rates change from minute to minute, so they
//! are measured again beside everything they are compared with.
#![expect(unsafe_code, reason = "measures with the vector instructions this machine has")]

use crate::kernels::isa::{Isa, fma, multiversion};

use orion_runtime::{Layout, Surface};
use orion_tensor::DType;
use std::hint::black_box;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A measurement counts what all threads do in each of some windows of time, and takes the best:
/// other processes take a core away for some milliseconds, and threads that have just begun may
/// share one.
const WINDOWS: usize = 25;

/// How long a window is.
const WINDOW: Duration = Duration::from_millis(2);

/// Rounds of the arithmetic loops between looks at the clock: some microseconds.
const ROUNDS: u32 = 2_500;

/// Floats read, or parameters updated, between looks at the clock.
const BLOCK: usize = 1 << 14;

/// Independent sums of the arithmetic loops: enough to hide any latency, few enough to stay in
/// registers.
#[cfg(not(target_arch = "aarch64"))]
const CHAINS: usize = 12;

/// Floats of memory read or updated by one measurement: 256 MiB, far more than caches hold.
const MEMORY: usize = 1 << 26;

/// Measures the rates that a number of threads reach together.
///
/// Memory for the bandwidths is taken when first needed and kept: see [`Meter::release`].
#[derive(Debug)]
pub struct Meter {
    isa: Isa,
    threads: usize,
    memory: Option<Surface>,
}

impl Meter {
    /// A meter for that many threads, at least one.
    pub fn new(threads: usize) -> Self {
        Self { isa: Isa::detect(), threads: threads.max(1), memory: None }
    }

    /// How many threads work together.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instruction set the rates are measured with, for a person.
    pub fn instructions(&self) -> &'static str {
        self.isa.name()
    }

    /// Multiply-adds in fp32, in operations a second; a multiply-add is two.
    pub fn f32_flops(&self) -> f64 {
        let isa = self.isa;
        self.arithmetic(move || match isa {
            // SAFETY: the instructions were found.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { x86::chains_avx512() },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::chains_avx2() },
            Isa::Baseline => baseline::chains(),
        })
    }

    /// Products of bf16 pairs summed in fp32, in operations a second; `None` where no
    /// instruction that we know of does that.
    pub fn bf16_flops(&self) -> Option<f64> {
        #[cfg(target_arch = "x86_64")]
        if self.isa == Isa::Avx512 && is_x86_feature_detected!("avx512bf16") {
            // SAFETY: the instructions were found.
            return Some(self.arithmetic(|| unsafe { x86::chains_bf16() }));
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("bf16") {
            // SAFETY: the instructions were found.
            return Some(self.arithmetic(|| unsafe { baseline::chains_bf16() }));
        }
        None
    }

    /// Bytes a second read from memory.
    pub fn read_bandwidth(&mut self) -> f64 {
        let (isa, threads) = (self.isa, self.threads);
        let part = MEMORY / threads;
        let parts = self.take_memory().chunks_exact(part).take(threads);
        best_rate(parts.map(|data| data.chunks(BLOCK).cycle()), |blocks| {
            let block = blocks.next().expect("an endless circle");
            // SAFETY: the instructions were found.
            black_box(unsafe { sum(isa, block) });
            size_of_val(block) as u64
        })
    }

    /// Bytes a second moved by the memory accesses of AdamW, 28 a parameter: value, gradient and
    /// two moments are read; value and moments are written.
    pub fn adamw_bandwidth(&mut self) -> f64 {
        let (isa, threads) = (self.isa, self.threads);
        let part = MEMORY / 4 / threads;
        let mut arrays = self.take_memory().chunks_exact_mut(MEMORY / 4);
        let mut next = || arrays.next().expect("four quarters").chunks_exact_mut(part);
        let (p, m, v, g) = (next(), next(), next(), next());
        let parts = p.zip(m).zip(v).zip(g).take(threads);
        best_rate(parts.map(|part| (part, 0)), |((((p, m), v), g), done)| {
            let end = part.min(*done + BLOCK);
            let block = *done..end;
            *done = if end == part { 0 } else { end };
            let bytes = 28 * block.len() as u64;
            let [p, m, v] = [p, m, v].map(|array| &mut array[block.clone()]);
            // SAFETY: the instructions were found.
            unsafe { update(isa, p, m, v, &g[block]) };
            bytes
        })
    }

    /// Gives back the memory that bandwidths are measured on.
    pub fn release(&mut self) {
        self.memory = None;
    }

    /// The memory, of the kind that programs work on.
    fn take_memory(&mut self) -> &mut [f32] {
        let new = || {
            let mut memory = Surface::zeros(Layout::dense(DType::F32, &[MEMORY]));
            // Not zeros, which the system may keep in one shared page.
            memory.elements_mut::<f32>().fill(1.0);
            memory
        };
        self.memory.get_or_insert_with(new).elements_mut()
    }

    /// Operations a second of all threads; `some` does some and says how many.
    fn arithmetic(&self, some: impl Fn() -> u64 + Sync) -> f64 {
        best_rate(0..self.threads, |_| some())
    }
}

/// Works on each part on a thread of its own, again and again; `some` does some microseconds of
/// it and says how much that was. Gives how much all did in a second of the best window.
fn best_rate<T: Send>(parts: impl Iterator<Item = T>, some: impl Fn(&mut T) -> u64 + Sync) -> f64 {
    let mut parts: Vec<T> = parts.collect();
    let barrier = Barrier::new(parts.len());
    let origin = OnceLock::new();
    let work = |part: &mut T| {
        barrier.wait();
        let origin: &Instant = origin.get_or_init(Instant::now);
        let mut done = [0; WINDOWS];
        loop {
            let amount = some(part);
            let window = origin.elapsed().as_nanos() / WINDOW.as_nanos();
            match done.get_mut(window as usize) {
                Some(sum) => *sum += amount,
                None => return done,
            }
        }
    };
    let of_threads: Vec<[u64; WINDOWS]> = thread::scope(|scope| {
        let (first, others) = parts.split_first_mut().expect("there is a thread");
        let others: Vec<_> = others.iter_mut().map(|part| scope.spawn(|| work(part))).collect();
        let first = work(first);
        let joined = others.into_iter().map(|t| t.join().expect("a measurement does not panic"));
        std::iter::once(first).chain(joined).collect()
    });
    let of_all = |window: usize| of_threads.iter().map(|done| done[window]).sum::<u64>();
    let best = (0..WINDOWS).map(of_all).max().unwrap_or(0);
    best as f64 / WINDOW.as_secs_f64()
}

multiversion! {
    /// # Safety
    /// The machine has the instructions.
    unsafe fn sum(data: &[f32]) -> f32 = sum_inner
}

#[inline(always)]
fn sum_inner<const FMA: bool>(data: &[f32]) -> f32 {
    let mut sums = [0f32; 128];
    for block in data.as_chunks::<128>().0 {
        for line in block.as_chunks::<16>().0 {
            fetch_ahead(line);
        }
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += value;
        }
    }
    sums.iter().sum()
}

/// Asks for the memory 1 KiB further on, past the caches: processors that look ahead by
/// themselves stop at the end of a page, which costs a seventh of the bandwidth.
#[inline(always)]
fn fetch_ahead(line: &[f32; 16]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint about any address has no effect that a program could see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_NTA, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_NTA>(line.as_ptr().wrapping_add(256).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

multiversion! {
    /// # Safety
    /// The machine has the instructions.
    unsafe fn update(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) = update_inner
}

/// Less arithmetic than AdamW, so that only memory is measured.
#[inline(always)]
fn update_inner<const FMA: bool>(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
    for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
        *m = fma::<FMA>(0.125, *g - *m, *m);
        *v = fma::<FMA>(0.125, *g - *v, *v);
        *p = fma::<FMA>(*m * *v, -1.0 / 1024.0, *p);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, ROUNDS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    const INSTRUCTIONS: u64 = CHAINS as u64 * ROUNDS as u64;

    #[target_feature(enable = "avx512f")]
    pub(super) fn chains_avx512() -> u64 {
        let mut sums = [_mm512_set1_ps(black_box(1.0)); CHAINS];
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        INSTRUCTIONS * 16 * 2
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn chains_avx2() -> u64 {
        let mut sums = [_mm256_set1_ps(black_box(1.0)); CHAINS];
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        INSTRUCTIONS * 8 * 2
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn chains_bf16() -> u64 {
        let mut sums = [_mm512_set1_ps(black_box(1.0)); CHAINS];
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let (a, b) = (_mm512_cvtne2ps_pbh(a, a), _mm512_cvtne2ps_pbh(b, b));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
        INSTRUCTIONS * 32 * 2
    }
}

#[cfg(target_arch = "aarch64")]
mod baseline {
    use super::ROUNDS;
    use std::arch::aarch64::*;
    use std::hint::black_box;

    /// Four pipes of four cycles want sixteen chains; there are 32 registers.
    const CHAINS: usize = 16;

    pub(super) fn chains() -> u64 {
        // SAFETY: every 64-bit Arm that Rust's standard library runs on has NEON.
        unsafe { chains_neon() }
    }

    #[target_feature(enable = "neon")]
    fn chains_neon() -> u64 {
        let mut sums = [vdupq_n_f32(black_box(1.0)); CHAINS];
        let (a, b) = (vdupq_n_f32(black_box(0.999)), vdupq_n_f32(black_box(0.001)));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = vfmaq_f32(b, *sum, a);
            }
        }
        black_box(sums);
        CHAINS as u64 * u64::from(ROUNDS) * 4 * 2
    }

    #[target_feature(enable = "neon,bf16")]
    pub(super) fn chains_bf16() -> u64 {
        let mut sums = [vdupq_n_f32(black_box(1.0)); CHAINS];
        // Twice 0.001 in bf16.
        let a = vdupq_n_u32(black_box(0x3a83_3a83));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                // SAFETY: arithmetic on registers, with an instruction that the caller found; the
                // intrinsic for it is not stable.
                unsafe {
                    std::arch::asm!(
                        "bfdot {sum:v}.4s, {a:v}.8h, {a:v}.8h",
                        sum = inout(vreg) *sum,
                        a = in(vreg) a,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
        }
        black_box(sums);
        CHAINS as u64 * u64::from(ROUNDS) * 8 * 2
    }
}

#[cfg(not(target_arch = "aarch64"))]
mod baseline {
    use super::{CHAINS, ROUNDS};
    use std::hint::black_box;

    /// Lanes of a vector that every target the compiler vectorises for has.
    const LANES: usize = 4;

    pub(super) fn chains() -> u64 {
        let mut sums = [[black_box(1f32); LANES]; CHAINS];
        let (a, b) = (black_box(0.999f32), black_box(0.001f32));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                for s in sum {
                    *s = *s * a + b;
                }
            }
        }
        black_box(sums);
        (CHAINS * LANES) as u64 * u64::from(ROUNDS) * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_a_machine_that_exists() {
        let mut meter = Meter::new(2);
        let flops = meter.f32_flops();
        assert!((1e7..1e14).contains(&flops), "{flops} operations a second");
        if let Some(flops) = meter.bf16_flops() {
            assert!((1e7..1e15).contains(&flops), "{flops} operations a second");
        }
        for bandwidth in [meter.read_bandwidth(), meter.adamw_bandwidth()] {
            assert!((1e8..1e13).contains(&bandwidth), "{bandwidth} bytes a second");
        }
        meter.release();
        assert!(meter.memory.is_none());
    }

    #[test]
    fn loops_do_what_their_rates_count() {
        let data: Vec<f32> = (0..1024).map(|i| i as f32).collect();
        for isa in Isa::available() {
            // SAFETY: the instructions are available.
            assert_eq!(unsafe { sum(isa, &data) }, 523_776.0);
            let [mut p, mut m, mut v] = [1.0, 2.0, 3.0].map(|x| vec![x; 40]);
            // SAFETY: the instructions are available.
            unsafe { update(isa, &mut p, &mut m, &mut v, &[4.0; 40]) };
            // Every number here is exact: m = 2 + 2/8, v = 3 + 1/8, p = 1 - m v / 1024.
            assert_eq!(
                (m, v, p),
                (vec![2.25; 40], vec![3.125; 40], vec![1.0 - 225.0 / 32768.0; 40])
            );
        }
    }
}
