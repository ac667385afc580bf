use std::collections::BTreeMap;

/// A value of the dictionaries in which the framework describes a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A number; the dictionaries hold sizes and indices, which an f64 keeps exactly.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Attribute>),
    /// A dictionary.
    Dictionary(BTreeMap<String, Attribute>),
    /// Something else, by the name of its class.
    Other(String),
}

impl Attribute {
    /// What a dictionary has under a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dictionary(entries) => entries.get(key),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// A number that counts something.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Number(n) if *n >= 0.0 && n.fract() == 0.0 && *n < 2f64.powi(53) => {
                Some(*n as usize)
            }
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<const N: usize> From<[(&str, Attribute); N]> for Attribute {
    fn from(entries: [(&str, Attribute); N]) -> Self {
        Self::Dictionary(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }
}

impl From<usize> for Attribute {
    fn from(count: usize) -> Self {
        Self::Number(count as f64)
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
