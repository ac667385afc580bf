//! MIL text: reads and writes `model.mil`, in both dialects.
//!
//! Knows names, types and literals, but not what an operation means: any operation with any
//! arguments parses, and the verifier says later whether it makes sense.

mod error;
mod lexer;
mod literal;
mod number;
mod parser;
mod places;
mod printer;
mod suggest;

pub(crate) use error::shortened;
pub use error::{ParseError, ParseErrorKind};
pub use parser::parse;
pub use places::definition_lines;
pub use printer::{print, print_function, print_operation, print_type, print_value};
