//! No text makes the parser panic, and what parses prints back to the same program.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_mil::text::{parse, print};

fuzz_target!(|text: &str| {
    let program = match parse(text) {
        Ok(program) => program,
        Err(error) => {
            assert!(error.line() >= 1 && error.column() >= 1);
            assert!(error.to_string().len() < 2000);
            return;
        }
    };
    let printed = print(&program);
    let parsed = parse(&printed).expect("what was printed parses");
    assert!(parsed == program, "printed, it is another program");
    assert_eq!(print(&parsed), printed);
});
