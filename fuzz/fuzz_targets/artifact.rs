//! No bytes make the reader of Parameter Golf's artifacts panic or take memory that the file does
//! not account for: zlib, or not, around PyTorch's zip around a pickle.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_formats::GolfArtifact;
use orion_tensor::Bytes;

fuzz_target!(|data: &[u8]| {
    let Ok(artifact) = GolfArtifact::parse(&Bytes::new(data.to_vec())) else { return };
    for (_, tensor) in &artifact.tensors {
        assert_eq!(tensor.dequantize().shape(), tensor.shape());
    }
});
