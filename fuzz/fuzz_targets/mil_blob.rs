//! No bytes make the blob reader panic, and what can be listed can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_mil::blob::{BlobFile, write_blob_file};
use orion_tensor::Bytes;
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = BlobFile::new(Bytes::new(data.to_vec())) else { return };
    for offset in (0..data.len() as u64).step_by(64) {
        let _ = file.tensor_at(offset);
    }
    let Ok(entries) = file.list() else { return };
    let tensor = |offset| file.tensor_at(offset).expect("what was listed can be read");
    let tensors: BTreeMap<_, _> = entries.iter().map(|e| (e.offset, tensor(e.offset))).collect();

    let mut written = Vec::new();
    write_blob_file(&tensors, &mut written).expect("what was read can be written");
    let again = BlobFile::new(Bytes::new(written)).expect("what was written can be read");
    for (&offset, tensor) in &tensors {
        assert_eq!(again.tensor_at(offset).expect("it was written"), *tensor);
    }
});
