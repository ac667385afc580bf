//! No bytes make the readers of tokenizers panic, and what they read encodes, decodes and can be
//! written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_tokenizer::Tokenizer;

const TEXT: &str = "Once upon a time, 123 é\u{300}\n\u{3000}\u{1f600} <s>";

fuzz_target!(|data: &[u8]| {
    let Ok(tokenizer) = Tokenizer::parse(data) else { return };
    let ids = tokenizer.encode(TEXT);
    let mut stream = tokenizer.decode_stream();
    for &id in ids.iter().chain(&[0, 1, u32::MAX]) {
        stream.feed(id);
    }
    stream.finish();
    tokenizer.decode(&ids);
    let again = Tokenizer::parse(&tokenizer.to_bytes()).expect("what was written can be read");
    assert_eq!(again.encode(TEXT), ids);
    let _ = tokenizer.to_llama2c();
    tokenizer.to_parts();
});
