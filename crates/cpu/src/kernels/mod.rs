//! Loops over memory. The only place of this crate, with the thread pool, that uses `unsafe`:
//! threads write disjoint parts of one arena through pointers.
//!
//! Kernels trust the planner: views lie inside their buffers, and a step's outputs overlap its
//! inputs only where the kernel allows it.
#![expect(unsafe_code, reason = "threads write disjoint parts of one arena through pointers")]

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod convert;
pub(crate) mod gemm;
pub(crate) mod indexed;
pub(crate) mod instruction;
pub(crate) mod isa;
pub(crate) mod map_reduce;
pub(crate) mod math;
pub(crate) mod reduce;
pub(crate) mod softmax;
pub(crate) mod tile;

/// Where every buffer of a plan lies during a run.
#[derive(Debug, Default)]
pub(crate) struct Pointers(Vec<*mut u8>);

// SAFETY: the pointers are used only by kernels, which keep threads to disjoint parts.
unsafe impl Sync for Pointers {}
// SAFETY: nothing about the memory is tied to a thread.
unsafe impl Send for Pointers {}

impl Pointers {
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![std::ptr::null_mut(); count])
    }

    pub(crate) fn set(&mut self, buffer: usize, pointer: *mut u8) {
        self.0[buffer] = pointer;
    }

    #[inline(always)]
    pub(crate) fn get(&self, buffer: usize) -> *mut u8 {
        self.0[buffer]
    }
}
