//! No bytes make the protobuf reader panic, and what reads is written and reads again the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_mil::proto::{ProtoErrorKind, decode_model, decode_pipeline, encode_model};
use orion_mil::text::print;

fuzz_target!(|data: &[u8]| {
    let model = match decode_model(data) {
        Ok(model) => model,
        Err(error) => {
            assert!(error.to_string().len() < 2000);
            if error.kind() == ProtoErrorKind::Pipeline {
                decode_pipeline(data).expect("it is a pipeline");
            }
            return;
        }
    };
    print(&model.program);
    // Inputs and outputs may be of types that no model has.
    let Ok(written) = encode_model(&model.program, "") else { return };
    let mut again = decode_model(&written).expect("what was written reads").program;
    // The version that it needs decides, not the one it had.
    again.dialect = model.program.dialect;
    assert!(again == model.program, "written, it is another program");
});
