//! Opsets: their names in text and in protobuf, and the model format they came with.

/// Name in text, name in protobuf, and the specification version of the first model format that
/// has it.
const OPSETS: [(&str, &str, i32); 5] = [
    ("ios15", "CoreML5", 6),
    ("ios16", "CoreML6", 7),
    ("ios17", "CoreML7", 8),
    ("ios18", "CoreML8", 9),
    ("ios26", "CoreML9", 10),
];

pub(super) fn to_text(proto: &str) -> Option<&'static str> {
    OPSETS.iter().find(|row| row.1 == proto).map(|row| row.0)
}

pub(super) fn to_proto(text: &str) -> Option<&'static str> {
    OPSETS.iter().find(|row| row.0 == text).map(|row| row.1)
}

/// The lowest specification version of a model with this opset, named as in text.
pub(super) fn specification_version(text: &str) -> Option<i32> {
    OPSETS.iter().find(|row| row.0 == text).map(|row| row.2)
}
