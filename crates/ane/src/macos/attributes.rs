//! Dictionaries of the framework as [`Attribute`]s.

use crate::Attribute;
use objc2::runtime::AnyObject;
use objc2_foundation::{NSArray, NSDictionary, NSNumber, NSString};

/// How deep dictionaries are read; a dictionary cannot contain itself, but nothing promises it.
const DEPTH: usize = 16;

/// Reads an object.
pub(super) fn read(object: &AnyObject) -> Attribute {
    at_depth(object, DEPTH)
}

fn at_depth(object: &AnyObject, depth: usize) -> Attribute {
    if let Some(text) = object.downcast_ref::<NSString>() {
        return Attribute::Text(text.to_string());
    }
    if let Some(number) = object.downcast_ref::<NSNumber>() {
        return Attribute::Number(number.as_f64());
    }
    let inner = depth.checked_sub(1);
    if let (Some(array), Some(depth)) = (object.downcast_ref::<NSArray>(), inner) {
        return Attribute::List(array.to_vec().iter().map(|o| at_depth(o, depth)).collect());
    }
    if let (Some(dictionary), Some(depth)) = (object.downcast_ref::<NSDictionary>(), inner) {
        let (keys, values) = dictionary.to_vecs();
        let entries = keys.iter().zip(&values).map(|(key, value)| {
            let name = match at_depth(key, 0) {
                Attribute::Text(text) => text,
                Attribute::Number(number) => number.to_string(),
                _ => "?".to_owned(),
            };
            (name, at_depth(value, depth))
        });
        return Attribute::Dictionary(entries.collect());
    }
    Attribute::Other(object.class().name().to_string_lossy().into_owned())
}
