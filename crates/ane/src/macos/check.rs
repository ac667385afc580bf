//! Compares the table with what the system has.

use crate::interface::{METHODS, Method, Purpose, split_encoding};
use crate::{Call, CallError};
use objc2::ffi::method_getTypeEncoding;
use objc2::runtime::{AnyClass, Sel};
use std::ffi::{CStr, CString};

/// Compares what is called for a purpose.
///
/// # Errors
/// Everything that the system has not, or has otherwise.
pub(super) fn methods(purpose: Purpose) -> Result<(), CallError> {
    let of_purpose = METHODS.iter().filter(|method| method.purpose == purpose);
    let problems: Vec<String> = of_purpose.filter_map(problem).collect();
    if problems.is_empty() {
        return Ok(());
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
