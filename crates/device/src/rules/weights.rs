//! Weight files and what is in them.

use crate::Severity::{Refused, SilentWrongData};
use crate::rule::RULE;
use crate::scope::{Check, Whole};
use crate::{Applies, Confidence, Rule};
use orion_mil::{Data, Program, verify_weights};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "ANE100",
        title: "a weight's offset does not point to its description",
        severity: SilentWrongData,
        what: "The offset after `BLOBFILE` is that of the 64 bytes that describe the weight, not of its numbers. The first 64 bytes of a file describe the file, so that no weight is below 64. Other offsets read garbage.",
        fix: "Take offsets from the writer of the file; `orion mil convert` writes right ones.",
        evidence: "coremltools' storage format; mechramc/Orion measured that 0 and 128 read garbage where 64 is right.",
        check: Check::Program(bad_offset),
        ..RULE
    },
    Rule {
        code: "ANE101",
        title: "a weight file does not hold what the program names",
        severity: SilentWrongData,
        what: "The description in front of a weight says another element type or size than the program. The Neural Engine's compiler does not look at it and reads what is there.",
        fix: "Write the file again with sizes and offsets filled in.",
        evidence: "maderix/ANE's benchmarks write wrong sizes and compile on M4; the M1 refuses such files. coremltools' format says what must stand there.",
        check: Check::Program(|whole| {
            let Some(weights) = whole.weights else { return vec![] };
            verify_weights(whole.program, weights).iter().map(ToString::to_string).collect()
        }),
        ..RULE
    },
    Rule {
        code: "ANE102",
        title: "weights change on disk and not in the compiled program",
        severity: SilentWrongData,
        applies: Applies::Direct,
        what: "Compiled weights live in an artifact of the compiler. Writing new weight files, unloading and loading the same program runs with the old weights; so does handing over a weights buffer with the request.",
        fix: "Pass weights as inputs, or compile again, or copy the compiled artifact to a new program and patch it, and check with a changed weight that the outputs change.",
        evidence: "Four measurements (maderix/ANE on M4 and M5, luengnat/rustane, jmanhype). mechramc/Orion reports training that way, with a loss that fits weights that never changed.",
        ..RULE
    },
    Rule {
        code: "ANE103",
        title: "patching a compiled program is proven for one weight only",
        severity: Refused,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "A donor's compiled description with a new weight file as its data gives the same bits as a fresh compilation for a program with one weight. With several weights it is unproven.",
        fix: "Prove it at start-up by changing one weight and comparing, as Orion does for every weight mode.",
        evidence: "mechramc/Orion (M4 Max, macOS 15, one weight). ironmill uses it for many and reports a perplexity of infinity.",
        ..RULE
    },
    Rule {
        code: "ANE104",
        title: "a weight does not begin at a multiple of 64 bytes",
        severity: Refused,
        confidence: Confidence::Disputed,
        what: "coremltools puts every description of a weight, and the numbers behind it, at a multiple of 64 bytes. Whether the compiler takes other places is not known.",
        fix: "Write the file again with padding; `orion mil convert` does it.",
        evidence: "The storage format of coremltools 9.0. Espresso's generator packs small weights without padding and names such places.",
        check: Check::Program(uneven_offset),
        ..RULE
    },
];

pub(super) struct Blob<'a> {
    pub(super) file: &'a str,
    offset: u64,
    place: String,
}

/// Every weight that constants name.
pub(super) fn blobs(program: &Program) -> Vec<Blob<'_>> {
    let mut found = Vec::new();
    for function in &program.functions {
        for operation in function.body.all_operations() {
            for value in operation.attributes.values() {
                if let Data::Blob { file, offset } = &value.data {
                    let place = crate::lint::place(function, operation);
                    found.push(Blob { file, offset: *offset, place });
                }
            }
        }
    }
    found
}

fn bad_offset(whole: &Whole<'_>) -> Vec<String> {
    offsets(whole, |offset| offset < 64)
}

fn uneven_offset(whole: &Whole<'_>) -> Vec<String> {
    offsets(whole, |offset| offset >= 64 && offset % 64 != 0)
}

fn offsets(whole: &Whole<'_>, is_bad: impl Fn(u64) -> bool) -> Vec<String> {
    let bad = blobs(whole.program).into_iter().filter(|b| is_bad(b.offset));
    bad.map(|b| format!("{}: offset {} of {}", b.place, b.offset, b.file)).collect()
}
