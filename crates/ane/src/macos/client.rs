//! Connections to the system's service besides the one that all models share.
//!
//! A model made of a text keeps the shared connection for good. What it does over it is done here
//! over another: the compiled program as an object of its own, with the options that the model
//! makes for it.

use super::{
    QUALITY_OF_SERVICE, STATISTICS, SystemModel, SystemObject, attempt, caught, class,
    empty_options, kept, pointer, send,
};
use crate::interface::{client, compiled, model};
use crate::{Call, CallError};
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, Bool};
use objc2_foundation::{NSString, NSURL};
use std::path::Path;
use std::sync::Arc;

/// A connection to the system's service, closed when its last program is gone.
#[derive(Debug, Clone)]
pub struct SystemClient(Arc<SystemObject>);

/// A program that is loaded through a connection of its own.
#[derive(Debug)]
pub(super) struct OwnProgram {
    pub(super) client: SystemClient,
    pub(super) program: SystemObject,
    pub(super) options: SystemObject,
}

impl SystemClient {
    /// A connection as the shared one is made.
    pub(super) fn new() -> Result<Self, CallError> {
        let class = class(c"_ANEClient")?;
        // SAFETY: every class can make an object; the method of the checked table takes it over
        // and hands a count of what it returns to the caller.
        let object = unsafe {
            let empty: *mut AnyObject = send(class, c"alloc", ());
            Retained::from_raw(client::with_access(empty, (Bool::NO,)))
        };
        let object = object.ok_or_else(|| CallError::new(Call::Client, "there is no client"))?;
        Ok(Self(Arc::new(SystemObject(Some(object)))))
    }

    pub(super) fn object(&self) -> *mut AnyObject {
        self.0.pointer()
    }
}

impl OwnProgram {
    /// Loads what was compiled, or lies compiled in the model's directory, through a connection.
    pub(super) fn load(
        model: &SystemModel,
        identifier: &str,
        directory: &Path,
        client: &SystemClient,
    ) -> Result<Self, CallError> {
        // SAFETY: methods of the checked table, on objects of the classes they take.
        let (program, options) = unsafe {
            let cached = model::compiled_model_exists(model.object(), ());
            // The model itself names what the service has by its identifier, anything else by its
            // directory.
            let url = match cached.as_bool() {
                true => NSURL::fileURLWithPath(&NSString::from_str(identifier)),
                false => {
                    let path = NSString::from_str(&directory.join(identifier).to_string_lossy());
                    NSURL::fileURLWithPath_isDirectory(&path, true)
                }
            };
            let key = NSString::new();
            let program = compiled::at_url(class(c"_ANEModel")?, (pointer(&url), pointer(&key)));
            let options = model::options(model.object(), (pointer(&empty_options()), cached));
            (
                SystemObject(Some(kept(program, Call::Load, "object for the compiled program")?)),
                SystemObject(Some(kept(options, Call::Load, "options for the compiled program")?)),
            )
        };
        let own = Self { client: client.clone(), program, options };
        // SAFETY: a method of the checked table, with a place for the error.
        attempt(Call::Load, |error| unsafe {
            client::load(
                own.client.object(),
                (own.program(), own.options(), QUALITY_OF_SERVICE, error),
            )
        })?;
        Ok(own)
    }

    pub(super) fn program(&self) -> *mut AnyObject {
        self.program.pointer()
    }

    pub(super) fn options(&self) -> *mut AnyObject {
        self.options.pointer()
    }

    /// Has its runs measured.
    pub(super) fn ask_for_statistics(&self) -> Result<(), CallError> {
        caught(Call::Load, || {
            // SAFETY: a method of the checked table.
            unsafe { compiled::set_mask(self.program(), (STATISTICS,)) };
            Ok(())
        })
    }

    pub(super) fn unload(&self) -> Result<(), CallError> {
        // SAFETY: as above.
        attempt(Call::Unload, |error| unsafe {
            let arguments = (self.program(), self.options(), QUALITY_OF_SERVICE, error);
            client::unload(self.client.object(), arguments)
        })
    }

    pub(super) fn evaluate(&self, request: *mut AnyObject) -> Result<(), CallError> {
        let options = empty_options();
        // SAFETY: as above, with a request that names living surfaces.
        attempt(Call::Evaluate, |error| unsafe {
            let arguments = (self.program(), pointer(&options), request, QUALITY_OF_SERVICE, error);
            client::evaluate(self.client.object(), arguments)
        })
    }

    /// What the compiled program says of itself.
    pub(super) fn attributes(&self) -> *mut AnyObject {
        // SAFETY: a method of the checked table.
        unsafe { compiled::attributes(self.program(), ()) }
    }
}
