//! No bytes make the GGUF reader panic or take memory that the file does not account for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_formats::Gguf;
use orion_tensor::Bytes;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = Gguf::parse(Bytes::new(data.to_vec())) else { return };
    for tensor in file.tensors.values() {
        let values = tensor.to_tensor();
        assert_eq!(values.shape(), tensor.shape);
        if let Some((numbers, scale, offset)) = tensor.to_scaled() {
            assert_eq!(numbers.shape(), tensor.shape);
            assert_eq!(scale.shape().len(), tensor.shape.len());
            assert!(offset.is_none_or(|offset| offset.shape() == scale.shape()));
        }
    }
});
