//! Compares the table with what the system has.

use crate::interface::{METHODS, Method, split_encoding};
use crate::{Call, CallError};
use objc2::ffi::method_getTypeEncoding;
use objc2::runtime::{AnyClass, Sel};
use std::ffi::{CStr, CString};

/// Compares the table; whether runs can be measured.
///
/// # Errors
/// Everything that is needed and that the system has not, or has otherwise.
pub(super) fn table() -> Result<bool, CallError> {
    let (needed, measuring): (Vec<&Method>, _) = METHODS.iter().partition(|m| m.needed);
    let problems: Vec<String> = needed.into_iter().filter_map(problem).collect();
    if problems.is_empty() {
        return Ok(measuring.into_iter().all(|method: &Method| problem(method).is_none()));
    }
    Err(CallError::new(
        Call::Open,
        format!("this system's framework is another one: {}", problems.join("; ")),
    ))
}

/// What is wrong with one entry.
fn problem(method: &Method) -> Option<String> {
    let name = |text: &str| CString::new(text).expect("names have no zero bytes");
    let Some(class) = AnyClass::get(&name(method.class)) else {
        return Some(format!("there is no class {}", method.class));
    };
    let selector = Sel::register(&name(method.selector));
    let found = match method.of_class {
        true => class.class_method(selector),
        false => class.instance_method(selector),
    };
    let Some(found) = found else { return Some(format!("there is no {method}")) };
    // SAFETY: the method exists; its encoding is a string that lives as long as it, or null.
    let encoding = unsafe {
        let encoding = method_getTypeEncoding(found);
        if encoding.is_null() { None } else { Some(CStr::from_ptr(encoding)) }
    };
    let actual = split_encoding(&encoding?.to_string_lossy());
    let wanted = method.encodings();
    (actual != wanted)
        .then(|| format!("{method} has the types {}, not {}", actual.join(" "), wanted.join(" ")))
}
