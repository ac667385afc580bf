//! Instances of a loaded program with files for its weights: an experiment (C46).
//!
//! The arguments are those that decompilations show Apple's own graph compiler to give: the
//! options name the base program by the identifier that the system's service gave it, and the
//! instance is a program whose identifier begins with that one.

use super::client::OwnProgram;
use super::{FRAMEWORK, QUALITY_OF_SERVICE, SystemObject, attempt, class, kept, pointer, string};
use crate::interface::{client, compiled, instance, procedure, weight};
use crate::{Call, CallError, WeightFile};
use objc2::rc::Retained;
use objc2::runtime::AnyObject;
use objc2_foundation::{NSArray, NSDictionary, NSProcessInfo, NSString, NSURL};

/// The procedure of every program that is made of a text.
const PROCEDURE: &str = "main";

impl OwnProgram {
    /// Loads an instance of this program through the same connection.
    pub(super) fn load_instance(&self, weights: &WeightFile<'_>) -> Result<Self, CallError> {
        let call = Call::LoadInstance;
        // SAFETY: a method of the checked table; the string lives as long as the pool.
        let base = unsafe { string(compiled::cache_identifier(self.program(), ())) };
        if base.is_empty() {
            return Err(CallError::new(call, "the program has no identifier"));
        }
        let unique = NSProcessInfo::processInfo().globallyUniqueString();
        let identifier = NSString::from_str(&format!("{base}:{unique}"));
        let symbol = NSString::from_str(weights.symbol);
        let file = NSURL::fileURLWithPath(&NSString::from_str(&weights.file.to_string_lossy()));
        let (name, main) = (NSString::from_str("orion"), NSString::from_str(PROCEDURE));
        // SAFETY: class methods of the checked table, on objects of the classes they take.
        let (program, parameters) = unsafe {
            let weight =
                weight::with_file(class(c"_ANEWeight")?, (pointer(&symbol), pointer(&file)));
            let weights = NSArray::from_retained_slice(&[kept(weight, call, "weight")?]);
            let procedure = procedure::with_weights(
                class(c"_ANEProcedureData")?,
                (pointer(&main), pointer(&weights)),
            );
            let procedures = NSArray::from_retained_slice(&[kept(procedure, call, "procedure")?]);
            let parameters = instance::with_procedures(
                class(c"_ANEModelInstanceParameters")?,
                (pointer(&name), pointer(&procedures)),
            );
            let program =
                compiled::with_cache_identifier(class(c"_ANEModel")?, (pointer(&identifier),));
            (
                SystemObject(Some(kept(program, call, "object for the instance")?)),
                kept(parameters, call, "object for the instance's weights")?,
            )
        };
        let own = Self { client: self.client.clone(), program, options: self.options_with(&base)? };
        // SAFETY: a method of the checked table, with a place for the error.
        attempt(call, |error| unsafe {
            let parameters = pointer(&parameters);
            let arguments = (own.program(), own.options(), parameters, QUALITY_OF_SERVICE, error);
            client::load_instance(own.client.object(), arguments)
        })?;
        Ok(own)
    }

    /// The options that it was loaded with, and the name of the base program.
    fn options_with(&self, base: &str) -> Result<SystemObject, CallError> {
        // SAFETY: an object that this keeps.
        let options = unsafe { self.options().as_ref() };
        let options = options.and_then(|o| o.downcast_ref::<NSDictionary>());
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        if let Some(options) = options {
            let (known, with) = options.to_vecs();
            for (key, value) in known.into_iter().zip(with) {
                if let Ok(key) = key.downcast::<NSString>() {
                    keys.push(key);
                    values.push(value);
                }
            }
        }
        keys.push(base_key()?);
        let base: Retained<AnyObject> = NSString::from_str(base).into();
        values.push(base);
        let keys: Vec<&NSString> = keys.iter().map(|key| &**key).collect();
        let options = NSDictionary::from_retained_objects(&keys, &values);
        // SAFETY: the object that was just made.
        let options = unsafe { kept(pointer(&options), Call::LoadInstance, "options")? };
        Ok(SystemObject(Some(options)))
    }
}

/// The key of the base program's identifier, a constant of the framework.
fn base_key() -> Result<Retained<NSString>, CallError> {
    const NAME: &str = "kANEFBaseModelIdentifierKey";
    let absent = |e| CallError::new(Call::Open, format!("{NAME}: {e}"));
    // SAFETY: it is open already; the constant is a string that lives as long as the framework.
    let key = unsafe {
        let library = libloading::Library::new(FRAMEWORK).map_err(absent)?;
        let key = library.get::<*const *mut AnyObject>(NAME.as_bytes()).map_err(absent)?;
        key.as_ref().map_or_else(String::new, |key| string(*key))
    };
    if key.is_empty() {
        return Err(CallError::new(Call::Open, format!("{NAME} is no text")));
    }
    Ok(NSString::from_str(&key))
}
