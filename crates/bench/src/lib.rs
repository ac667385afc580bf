//! Measures programs and models beside the limits of the machine, and reports both.
//!
//! A limit is measured right before and right after each repetition, so that what other
//! processes take away and what the machine is cancel: see [`Bench::measure`]. Nothing here names
//! a concrete device or prints.

mod adapters;
mod compare;
mod error;
mod gemm;
mod limits;
mod machine;
mod measure;
mod network;
mod precision;
mod process;
mod products;
mod program;
mod report;
mod statistics;
mod steps;
mod table;
mod training;

pub use compare::compare;
pub use error::{Error, ErrorKind, Result};
pub use gemm::{GEMM_SHAPES, GEMM_TOKENS, GemmKind, GemmShape};
pub use limits::{Limits, Rates, UNSTEADY, Work};
pub use machine::measure_machine;
pub use measure::{Bench, Measurement, Settings};
pub use network::{BenchModel, LoadTest, ModelSize, model_work};
pub use precision::Precision;
pub use process::{cpu_name, peak_rss_bytes, reset_peak_rss};
pub use products::Products;
pub use report::{Compared, MachineInfo, MachineRates, Report, TestResult, Unit};
pub use statistics::{Summary, median};
pub use table::{markdown, text};
