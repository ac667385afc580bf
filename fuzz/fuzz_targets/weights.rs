//! No bytes make the readers of safetensors, llama2.c, llm.c, NumPy and token files panic; what is
//! read of safetensors can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_formats::llama2c::Checkpoint;
use orion_formats::{SafeTensors, TokenFile, llmc, npy, safetensors};
use orion_tensor::Bytes;

fuzz_target!(|data: &[u8]| {
    let bytes = || Bytes::new(data.to_vec());
    let _ = SafeTensors::parse_unchecked(bytes());
    if let Ok(file) = SafeTensors::parse(bytes()) {
        let mut written = Vec::new();
        let rows = file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        if safetensors::write(&mut written, rows, &file.metadata).is_ok() {
            let again = SafeTensors::parse(Bytes::new(written)).expect("it was written");
            assert_eq!(again.tensors, file.tensors);
        }
    }
    let _ = Checkpoint::parse(bytes());
    let _ = llmc::Checkpoint::parse(bytes());
    let _ = npy::parse(bytes());
    if let Ok(tokens) = TokenFile::parse(bytes()) {
        let count = tokens.len().min(8);
        assert_eq!(tokens.window(0, count).len(), count);
    }
});
