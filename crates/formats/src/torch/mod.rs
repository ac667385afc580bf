//! Files of `torch.save`: a ZIP archive of storages and a pickle that arranges them.
//!
//! Reads what a dictionary of tensors, texts and numbers needs and refuses every other opcode and
//! every other name: a pickle may ask for any function to be called, and none is called here.

mod archive;
mod read;
mod write;

pub(crate) use read::{Object, read};
pub(crate) use write::Writer;

/// The archive's entry with forty digits that tell files apart.
const SERIAL_ENTRY: &str = ".data/serialization_id";
