//! Devices by name, and the machine they are on.

mod model;
pub(crate) mod neural_engine;
pub(crate) mod two;

use crate::arguments::{DeviceChoice, Precision};
use crate::failure::{Failure, Result};
pub(crate) use model::model_devices;
pub(crate) use orion_cpu::Precision as Products;
use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_emulator::AneModel;
use orion_models::WeightStorage;
use orion_runtime::Device;
use orion_tensor::DType;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// The names that [`device_named`] takes, besides `auto`.
const NAMES: [&str; 3] = ["cpu", "cpu:reference", "ane-model:m4"];

/// The same of devices that not every machine has.
const OF_MACS: &str = "ane";

impl Precision {
    /// What the device computes products in.
    pub(crate) fn products(self) -> Products {
        match self {
            Self::Bf16 => Products::Bf16,
            Self::F32 | Self::F16 | Self::Int8 => Products::F32,
        }
    }

    /// How a model keeps its matrices.
    pub(crate) fn storage(self) -> WeightStorage {
        match self {
            Self::F32 => WeightStorage::Float(DType::F32),
            Self::Bf16 => WeightStorage::Float(DType::BF16),
            Self::F16 => WeightStorage::Float(DType::F16),
            Self::Int8 => WeightStorage::Int8,
        }
    }
}

/// [`Precision::products`] and [`Precision::storage`], where a precision was asked for.
pub(crate) fn kept(precision: Option<Precision>) -> (Products, WeightStorage) {
    precision.map_or_else(Default::default, |p| (p.products(), p.storage()))
}

/// The device that was chosen, bound to dense memory.
///
/// # Errors
/// When there is no such device on this machine; it is never replaced by another. When the
/// process cannot be given a low priority.
pub(crate) fn device(choice: &DeviceChoice, products: Products) -> Result<Arc<dyn Device>> {
    if choice.low_priority {
        lower_priority()?;
    }
    dense_device(&choice.device, choice.threads, products)
}

/// [`device_named`], bound to dense memory.
fn dense_device(
    name: &str,
    threads: Option<NonZeroUsize>,
    products: Products,
) -> Result<Arc<dyn Device>> {
    if name.starts_with(ANE_MODEL) {
        return Ok(Arc::new(ane_model(name)?.with_dense_surfaces()));
    }
    device_named(name, threads, products)
}

/// The device that was chosen, with the memory that it has of its own.
///
/// # Errors
/// Those of [`device`].
pub(crate) fn program_device(choice: &DeviceChoice) -> Result<Arc<dyn Device>> {
    if choice.low_priority {
        lower_priority()?;
    }
    device_named(&choice.device, choice.threads, Products::F32)
}

/// What names of models of the Neural Engine begin with.
const ANE_MODEL: &str = "ane-model";

fn ane_model(name: &str) -> Result<AneModel> {
    AneModel::from_name(name).map_err(|message| {
        Failure::usage(format!("{name}: {message}")).hint(
            "write ane-model:CHIP, as in ane-model:m4, or ane-model:CHIP:core-ml to compute what the Neural Engine does not take as Core ML would",
        )
    })
}

/// How far the process gives way with `--low-priority`: its share of a contended processor falls
/// to about a tenth.
#[cfg(unix)]
const NICENESS: i32 = 10;

/// Makes this thread, and those it starts from now on, give way to other processes.
#[cfg(unix)]
pub(crate) fn lower_priority() -> Result<()> {
    rustix::process::setpriority_process(None, NICENESS)
        .map_err(|e| Failure::new(format!("the system does not lower the priority: {e}")))
}

#[cfg(not(unix))]
pub(crate) fn lower_priority() -> Result<()> {
    Err(Failure::usage("--low-priority is for Linux and macOS")
        .hint("leave it out, and lower the priority of the process with the tools of the system"))
}

/// A device by name; `auto` is the fastest that runs every program, which is `cpu` today.
///
/// # Errors
/// When there is no such device on this machine.
pub(crate) fn device_named(
    name: &str,
    threads: Option<NonZeroUsize>,
    products: Products,
) -> Result<Arc<dyn Device>> {
    match name {
        "auto" | "cpu" => {
            let options =
                threads.map_or_else(CpuOptions::default, |n| CpuOptions::with_threads(n.get()));
            Ok(Arc::new(Cpu::new(options.with_precision(products))))
        }
        "cpu:reference" => Ok(match products {
            Products::F32 => Arc::new(Reference),
            other => Arc::new(Reference.with_precision(other)),
        }),
        name if name.starts_with(ANE_MODEL) => Ok(Arc::new(ane_model(name)?)),
        name if neural_engine::is_meant(name) => neural_engine::device(name),
        other => Err(Failure::usage(format!("there is no device `{other}`"))
            .hint(format!("devices are auto, {}, and on Macs {OF_MACS}", NAMES.join(", ")))),
    }
}

/// Every device of this machine.
pub(crate) fn all(threads: Option<NonZeroUsize>) -> Result<Vec<Arc<dyn Device>>> {
    let names = NAMES.iter().map(|name| device_named(name, threads, Products::F32));
    let mut devices = names.collect::<Result<Vec<_>>>()?;
    if cfg!(target_os = "macos") {
        // Not every Mac has one, and this is not the place to say why.
        devices.extend(device_named(OF_MACS, threads, Products::F32));
    }
    Ok(devices)
}

/// What the CPU devices can use.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Threads that run at the same time.
    pub(crate) threads: usize,
    /// Vector extensions that matter to matrix products.
    pub(crate) simd: Vec<&'static str>,
    /// Physical memory, where the system says.
    pub(crate) memory_bytes: Option<u64>,
}

impl Machine {
    pub(crate) fn detect() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            simd: simd(),
            memory_bytes: memory_bytes(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn simd() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look_for {
        ($($name:tt)*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
    }
    look_for!("sse4.2" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vnni" "avx512bf16");
    found
}

#[cfg(target_arch = "aarch64")]
fn simd() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look_for {
        ($($name:tt)*) => { $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name); })* };
    }
    look_for!("neon" "fp16" "dotprod" "i8mm" "bf16" "sve" "sve2");
    found
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd() -> Vec<&'static str> {
    Vec::new()
}

fn memory_bytes() -> Option<u64> {
    meminfo("MemTotal:")
}

/// Memory that programs can have without others giving up theirs, where the system says.
pub(crate) fn free_memory() -> Option<u64> {
    meminfo("MemAvailable:")
}

/// Linux says it in a file; other systems need a call that has no safe interface.
fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
