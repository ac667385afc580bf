//! orion
fn main() {}
