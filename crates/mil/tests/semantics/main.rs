//! What ops mean: inference, reading, writing, verification.

mod inference;
mod interpreted;
mod reading;
mod real_files;
mod round_trip;
mod support;
mod verification;
