use crate::{Error, ErrorKind, Result};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Bytes that a compiled pattern may take. Patterns come with adapters from strangers.
const PATTERN_BYTES: usize = 1 << 20;

/// Which modules an adapter is for, as `target_modules` spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// A regular expression for whole paths; or `all-linear`, every linear layer but the
    /// classifier.
    Pattern(String),
    /// Paths, or the ends of paths behind a dot.
    Names(Vec<String>),
}

impl TargetModules {
    /// Whether this is `all-linear`, in any case of letters.
    pub fn is_all_linear(&self) -> bool {
        matches!(self, Self::Pattern(text) if text.eq_ignore_ascii_case("all-linear"))
    }

    /// Whether the module of that path is one of them. `all-linear` is for the caller, who knows
    /// which layers are linear.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a pattern that is not understood.
    pub(super) fn contain(&self, module: &str) -> Result<bool> {
        match self {
            Self::Pattern(pattern) => {
                Ok(compiled(&format!(r"\A(?:{pattern})\z"), pattern)?.is_match(module))
            }
            Self::Names(names) => Ok(names.iter().any(|name| is_or_ends_in(module, name))),
        }
    }
}

/// Whether a path is `name` or ends in it, behind a dot.
fn is_or_ends_in(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The number of the block that a module is in. `patterns` say what stands before it; anything
/// where there are none.
pub(super) fn layer_of(module: &str, patterns: &[String]) -> Result<Option<usize>> {
    let number = |expression: &str, shown: &str| -> Result<Option<usize>> {
        let captures = compiled(expression, shown)?.captures(module);
        Ok(captures.and_then(|c| c.name("index").and_then(|index| index.as_str().parse().ok())))
    };
    if patterns.is_empty() {
        return number(r"\A.*?\.[^.]*\.(?P<index>[0-9]+)\.", "");
    }
    for pattern in patterns {
        let found = number(&format!(r"\A(?:.*?\.)?(?:{pattern})\.(?P<index>[0-9]+)\."), pattern)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Whether a key of `rank_pattern` or `alpha_pattern` is meant for a module.
pub(super) fn key_matches(key: &str, module: &str) -> Result<bool> {
    Ok(compiled(&format!(r"\A(?:.*\.)?(?:{key})\z"), key)?.is_match(module))
}

fn compiled(expression: &str, shown: &str) -> Result<Regex> {
    RegexBuilder::new(expression).size_limit(PATTERN_BYTES).build().map_err(|e| {
        let why = match e {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            e => e.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        };
        Error::new(
            ErrorKind::Unsupported,
            format!("the pattern {shown:?} is not understood: {why}"),
        )
        .hint("patterns are regular expressions without looking around or back")
    })
}
