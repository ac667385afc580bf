use orion_tensor::DType;
use std::time::Duration;

/// One step of what an [`Executable`](crate::Executable) runs, as a person wants to see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StepInfo {
    /// What kind of work it is: `product`, `map`, `copy`.
    pub kind: &'static str,
    /// How it is computed and on what shapes. Steps that agree in kind and form do the same work.
    pub form: String,
    /// The operations of the program that it executes.
    pub operations: String,
    /// Why it exists at all, or why it is not part of a neighbour, where that is not plain.
    pub reason: &'static str,
    /// Operations of matrix products; a multiply-add is two.
    pub flops: u64,
    /// What these are computed in.
    pub arithmetic: DType,
    /// Bytes that it reads, each counted once.
    pub read_bytes: u64,
    /// Bytes that it writes, each counted once.
    pub written_bytes: u64,
}

/// What happened to numbers in a run that a person may want to know of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumericEvents {
    /// Sums that left the accumulator's range and became infinite.
    pub overflowed: u64,
    /// Results that were too small for their type and became zero.
    pub flushed: u64,
    /// Products of numbers that are not zero, where they are counted.
    pub products: u64,
    /// Those of them that were too small to enter their sum.
    pub dropped: u64,
}

impl NumericEvents {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: Self) {
        self.overflowed += other.overflowed;
        self.flushed += other.flushed;
        self.products += other.products;
        self.dropped += other.dropped;
    }
}

/// What a run took of a device that is not the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunFigures {
    /// How long the hardware was at work, where the system measures it.
    pub hardware: Option<Duration>,
    /// Bytes copied between surfaces and memory that the device sees. Surfaces that are such
    /// memory are not copied.
    pub copied_bytes: u64,
}
