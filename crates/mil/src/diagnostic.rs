use std::fmt;

/// Something wrong with a program, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Function name; empty when the program itself is meant.
    pub function: String,
    /// What is meant within the function: an operation printed shortly, such as
    /// `conv -> y (operation 12)`, a value or a parameter.
    pub place: String,
    /// What is wrong, with shapes and types.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.function.as_str(), self.place.as_str()) {
            ("", "") => f.write_str(&self.message),
            ("", place) => write!(f, "{place}: {}", self.message),
            (function, "") => write!(f, "in {function}: {}", self.message),
            (function, place) => write!(f, "in {function}, {place}: {}", self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}
