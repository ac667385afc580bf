//! The framework itself.
//!
//! It is opened when it is asked for, never linked: where it is missing, or where a class or a
//! method is not what the table says, that is an error and nothing is called.

#![expect(unsafe_code, reason = "calls into the framework are foreign code")]

mod attributes;
mod check;
mod client;
mod host;
mod instance;
mod surface;

pub use client::SystemClient;
pub use surface::SystemSurface;

use client::OwnProgram;
use host::host;
use surface::{EngineTurn, SharedSurface};

use crate::interface::{
    Purpose, compiled, descriptor, device_info, model, request, statistics,
    surface as surface_object,
};
use crate::{
    Attribute, Binding, Call, CallError, Descriptor, Evaluated, Framework, Host, WeightFile,
};
use objc2::Message;
use objc2::encode::{EncodeArguments, EncodeReturn};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyClass, AnyObject, Bool, MessageReceiver, Sel};
use objc2_foundation::{
    NSArray, NSData, NSDictionary, NSError, NSNumber, NSString, NSTemporaryDirectory,
};
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the framework is.
const FRAMEWORK: &str =
    "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine";

/// The quality of service that every project runs with. Others were measured to make no
/// difference.
const QUALITY_OF_SERVICE: u32 = 21;

/// Which statistics are wanted: all that the driver has, as its own tools ask for.
const STATISTICS: u32 = 0x7f;

/// Sends a message.
///
/// # Safety
/// The receiver has the method, and it takes and returns these types; pointers are valid.
pub(crate) unsafe fn send<A: EncodeArguments, R: EncodeReturn>(
    receiver: *mut AnyObject,
    selector: &CStr,
    arguments: A,
) -> R {
    // SAFETY: promised by the caller.
    unsafe { receiver.send_message(Sel::register(selector), arguments) }
}

/// The framework of this system.
#[derive(Debug)]
pub struct System {
    host: Host,
    temporary_directory: PathBuf,
    /// Whether the system has what measuring takes, and whether it is wanted.
    can_measure: bool,
    measures: AtomicBool,
}

/// An object of the framework, released when it is dropped.
#[derive(Debug)]
struct SystemObject(Option<Retained<AnyObject>>);

impl SystemObject {
    /// The object as methods take it.
    fn pointer(&self) -> *mut AnyObject {
        self.0.as_ref().map_or(ptr::null_mut(), |object| Retained::as_ptr(object).cast_mut())
    }
}

impl Drop for SystemObject {
    fn drop(&mut self) {
        // What goes with the last count may fill a pool, and the thread may have none.
        autoreleasepool(|_| self.0 = None);
    }
}

// SAFETY: the framework's objects are made to be used from the queues of many threads. The client
// calls a model under one lock; requests are not changed after they were made.
unsafe impl Send for SystemObject {}
// SAFETY: as above.
unsafe impl Sync for SystemObject {}

/// A model, and the descriptor it was made of.
#[derive(Debug)]
pub struct SystemModel {
    model: SystemObject,
    _descriptor: SystemObject,
    /// The loaded program, if it is loaded through a connection of its own.
    own: Mutex<Option<OwnProgram>>,
}

/// A request and the surfaces it names.
#[derive(Debug)]
pub struct SystemRequest {
    request: SystemObject,
    inputs: Vec<Arc<SharedSurface>>,
    outputs: Vec<Arc<SharedSurface>>,
    is_measured: bool,
}

impl System {
    /// Opens the framework and compares it with the table.
    ///
    /// # Errors
    /// Everything that is missing or other than the table says; that the machine has no Neural
    /// Engine.
    pub fn open() -> Result<Self, CallError> {
        // SAFETY: initialisers of a system framework, as any program that uses Core ML runs them.
        let library = unsafe { libloading::Library::new(FRAMEWORK) }
            .map_err(|e| CallError::new(Call::Open, format!("{FRAMEWORK}: {e}")))?;
        // Its classes cannot be taken back.
        std::mem::forget(library);
        check::methods(Purpose::Everything)?;
        let can_measure = check::methods(Purpose::Measuring).is_ok();
        caught(Call::Open, || {
            let info = class(c"_ANEDeviceInfo")?;
            // SAFETY: a class method of the checked table.
            if !unsafe { device_info::has_engine(info, ()) }.as_bool() {
                return Err(CallError::new(Call::Open, "the system says it has no Neural Engine"));
            }
            let temporary_directory = PathBuf::from(NSTemporaryDirectory().to_string());
            let measures = AtomicBool::new(false);
            Ok(Self { host: host(info), temporary_directory, can_measure, measures })
        })
    }
}

/// Makes calls of the framework, in a pool of their own, which every thread needs. An exception
/// that one of them throws is the error of `call`: it would end the process otherwise.
fn caught<R>(call: Call, calls: impl FnOnce() -> Result<R, CallError>) -> Result<R, CallError> {
    autoreleasepool(|_| {
        // What the framework leaves half done it does not show us again: a model or a request whose
        // call threw is used as one whose call failed.
        let outcome = objc2::exception::catch(AssertUnwindSafe(calls));
        outcome.unwrap_or_else(|exception| {
            let words = exception.map_or_else(|| "nil".to_owned(), |e| format!("{e:?}"));
            Err(CallError::thrown(call, &words))
        })
    })
}

/// A class, as the object that class methods are sent to.
fn class(name: &CStr) -> Result<*mut AnyObject, CallError> {
    let class = AnyClass::get(name).ok_or_else(|| {
        CallError::new(Call::Open, format!("there is no class {}", name.to_string_lossy()))
    })?;
    Ok(ptr::from_ref(class).cast_mut().cast())
}

/// The text of a string object; empty for anything else.
///
/// # Safety
/// The pointer is null or an object that lives as long as the surrounding pool.
unsafe fn string(object: *mut AnyObject) -> String {
    // SAFETY: promised by the caller.
    let object = unsafe { object.as_ref() };
    let text = object.and_then(|o| o.downcast_ref::<NSString>());
    text.map_or_else(String::new, ToString::to_string)
}

/// Keeps an object that a method returned without handing over a count.
///
/// # Safety
/// The pointer is null or an object.
unsafe fn kept(
    object: *mut AnyObject,
    call: Call,
    what: &str,
) -> Result<Retained<AnyObject>, CallError> {
    // SAFETY: promised by the caller.
    let object = unsafe { Retained::retain(object) };
    object.ok_or_else(|| CallError::new(call, format!("there is no {what}")))
}

/// What a method put where errors go.
///
/// # Safety
/// The pointer is null or an object.
unsafe fn failure(call: Call, error: *mut AnyObject) -> CallError {
    // SAFETY: promised by the caller.
    let error = unsafe { error.as_ref() }.and_then(|o| o.downcast_ref::<NSError>());
    match error {
        None => CallError::new(call, "the system gives no reason"),
        Some(error) => CallError {
            call,
            code: i64::try_from(error.code()).ok(),
            text: format!("{} ({})", error.localizedDescription(), error.domain()),
        },
    }
}

/// Calls a method that says whether it worked, and if not, why.
fn attempt(call: Call, method: impl FnOnce(*mut *mut AnyObject) -> Bool) -> Result<(), CallError> {
    caught(call, || {
        let mut error: *mut AnyObject = ptr::null_mut();
        if method(&mut error).as_bool() {
            return Ok(());
        }
        // SAFETY: null, or the error that the method made, which the pool keeps.
        Err(unsafe { failure(call, error) })
    })
}

impl SystemModel {
    fn own(&self) -> MutexGuard<'_, Option<OwnProgram>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self) -> *mut AnyObject {
        self.model.pointer()
    }
}

/// An object as methods take it.
fn pointer<T: Message>(object: &Retained<T>) -> *mut AnyObject {
    Retained::as_ptr(object).cast_mut().cast()
}

fn empty_options() -> Retained<NSDictionary> {
    NSDictionary::new()
}

impl Framework for System {
    type Client = SystemClient;
    type Model = SystemModel;
    type Surface = SystemSurface;
    type Request = SystemRequest;

    fn host(&self) -> &Host {
        &self.host
    }

    fn temporary_directory(&self) -> &Path {
        &self.temporary_directory
    }

    fn client(&self) -> Result<SystemClient, CallError> {
        caught(Call::Client, SystemClient::new)
    }

    fn measure(&self, wanted: bool) -> bool {
        self.measures.store(wanted && self.can_measure, Ordering::Relaxed);
        self.can_measure
    }

    fn model(&self, parts: &Descriptor) -> Result<SystemModel, CallError> {
        caught(Call::Model, || {
            let text = NSData::with_bytes(parts.text.as_bytes());
            let names: Vec<Retained<NSString>> =
                parts.weights.keys().map(|name| NSString::from_str(name)).collect();
            let files: Vec<Retained<NSDictionary<NSString, AnyObject>>> =
                parts.weights.values().map(|bytes| weight_file(bytes)).collect();
            let names: Vec<&NSString> = names.iter().map(|n| &**n).collect();
            let files: Vec<&NSDictionary<NSString, AnyObject>> =
                files.iter().map(|f| &**f).collect();
            // A dictionary without entries where there are no weights; nil is refused.
            let weights = NSDictionary::from_slices(&names, &files);
            let descriptors = class(c"_ANEInMemoryModelDescriptor")?;
            let models = class(c"_ANEInMemoryModel")?;
            // SAFETY: class methods of the checked table, on objects of the classes they take.
            unsafe {
                let made = descriptor::with_text(
                    descriptors,
                    (pointer(&text), pointer(&weights), ptr::null_mut()),
                );
                let made = SystemObject(Some(kept(made, Call::Model, "descriptor")?));
                let object = model::with_descriptor(models, (made.pointer(),));
                let model = SystemObject(Some(kept(object, Call::Model, "model")?));
                Ok(SystemModel { model, _descriptor: made, own: Mutex::default() })
            }
        })
    }

    fn identifier(&self, model: &SystemModel) -> Result<String, CallError> {
        caught(Call::Identifier, || {
            // SAFETY: a method of the checked table; the string lives as long as the pool.
            let identifier = unsafe { string(model::identifier(model.object(), ())) };
            if identifier.is_empty() {
                return Err(CallError::new(Call::Identifier, "there is no identifier"));
            }
            Ok(identifier)
        })
    }

    fn compiled_model_exists(&self, model: &SystemModel) -> Result<bool, CallError> {
        caught(Call::CompiledModelExists, || {
            // SAFETY: a method of the checked table.
            Ok(unsafe { model::compiled_model_exists(model.object(), ()) }.as_bool())
        })
    }

    fn compile(&self, model: &SystemModel) -> Result<(), CallError> {
        let options = empty_options();
        self.ask_for_statistics(model, Call::Compile)?;
        // SAFETY: a method of the checked table, with a place for the error.
        attempt(Call::Compile, |error| unsafe {
            model::compile(model.object(), (QUALITY_OF_SERVICE, pointer(&options), error))
        })?;
        self.ask_for_statistics(model, Call::Compile)
    }

    fn load(&self, model: &SystemModel, client: Option<&SystemClient>) -> Result<(), CallError> {
        if let Some(client) = client {
            let identifier = self.identifier(model)?;
            self.ask_for_statistics(model, Call::Load)?;
            let loaded = caught(Call::Load, || {
                OwnProgram::load(model, &identifier, &self.temporary_directory, client)
            })?;
            if self.measures.load(Ordering::Relaxed) {
                loaded.ask_for_statistics()?;
            }
            *model.own() = Some(loaded);
            return Ok(());
        }
        let options = empty_options();
        self.ask_for_statistics(model, Call::Load)?;
        // SAFETY: as above.
        attempt(Call::Load, |error| unsafe {
            model::load(model.object(), (QUALITY_OF_SERVICE, pointer(&options), error))
        })?;
        // What could not be unloaded through another connection is not what runs from now on.
        *model.own() = None;
        // Loading forgets them.
        self.ask_for_statistics(model, Call::Load)
    }

    fn load_instance(
        &self,
        model: &SystemModel,
        base: &SystemModel,
        weights: &WeightFile<'_>,
    ) -> Result<(), CallError> {
        check::methods(Purpose::Instances)?;
        let base = base.own();
        let base = base.as_ref().ok_or_else(|| {
            CallError::new(Call::LoadInstance, "the program has no connection of its own")
        })?;
        let loaded = caught(Call::LoadInstance, || base.load_instance(weights))?;
        *model.own() = Some(loaded);
        Ok(())
    }

    fn unload(&self, model: &SystemModel) -> Result<(), CallError> {
        let mut own = model.own();
        if let Some(program) = &*own {
            program.unload()?;
            *own = None;
            return Ok(());
        }
        // SAFETY: as above.
        attempt(Call::Unload, |error| unsafe {
            model::unload(model.object(), (QUALITY_OF_SERVICE, error))
        })
    }

    fn purge(&self, model: &SystemModel) -> Result<(), CallError> {
        caught(Call::Purge, || {
            // SAFETY: a method of the checked table.
            unsafe { model::purge(model.object(), ()) };
            Ok(())
        })
    }

    fn attributes(&self, model: &SystemModel) -> Result<Option<Attribute>, CallError> {
        caught(Call::Attributes, || {
            let object = match &*model.own() {
                Some(program) => program.attributes(),
                // SAFETY: a method of the checked table.
                None => unsafe { model::attributes(model.object(), ()) },
            };
            // SAFETY: null, or an object that lives as long as the pool.
            Ok(unsafe { object.as_ref() }.map(attributes::read))
        })
    }

    fn surface(&self, size_bytes: usize) -> Result<SystemSurface, CallError> {
        SystemSurface::new(size_bytes)
    }

    fn read<'a>(&self, surface: &'a SystemSurface) -> Result<&'a [u8], CallError> {
        surface.read()
    }

    fn write<'a>(&self, surface: &'a mut SystemSurface) -> Result<&'a mut [u8], CallError> {
        surface.write()
    }

    fn finish_writing(&self, surface: &SystemSurface) -> Result<(), CallError> {
        surface.finish_writing()
    }

    fn release(&self, surface: &mut SystemSurface) -> Result<(), CallError> {
        surface.release()
    }

    fn request(
        &self,
        inputs: &[Binding<'_, SystemSurface>],
        outputs: &[Binding<'_, SystemSurface>],
        weights: Option<&SystemSurface>,
    ) -> Result<SystemRequest, CallError> {
        caught(Call::Request, || {
            let objects = class(c"_ANEIOSurfaceObject")?;
            let object = |surface: &SystemSurface| {
                let surface = surface.shared().pointer();
                // SAFETY: a class method of the checked table, on a surface.
                unsafe {
                    let object = surface_object::with_surface(objects, (surface,));
                    kept(object, Call::Request, "object for a surface")
                }
            };
            let side = |bindings: &[Binding<'_, SystemSurface>]| {
                let mut surfaces = Vec::new();
                let mut indices = Vec::new();
                for binding in bindings {
                    surfaces.push(object(binding.surface)?);
                    indices.push(NSNumber::new_usize(binding.index));
                }
                let surfaces = NSArray::from_retained_slice(&surfaces);
                Ok::<_, CallError>((surfaces, NSArray::from_retained_slice(&indices)))
            };
            let (read, read_indices) = side(inputs)?;
            let (written, written_indices) = side(outputs)?;
            let procedure = NSNumber::new_usize(0);
            let buffer = weights.map(object).transpose()?;
            let requests = class(c"_ANERequest")?;
            // SAFETY: a class method of the checked table; no statistics.
            let request = unsafe {
                let request = request::with_surfaces(
                    requests,
                    (
                        pointer(&read),
                        pointer(&read_indices),
                        pointer(&written),
                        pointer(&written_indices),
                        buffer.as_ref().map_or(ptr::null_mut(), pointer),
                        ptr::null_mut(),
                        pointer(&procedure),
                    ),
                );
                SystemObject(Some(kept(request, Call::Request, "request")?))
            };
            let is_measured = self.measures.load(Ordering::Relaxed);
            if is_measured {
                let class = class(c"_ANEPerformanceStats")?;
                // SAFETY: methods of the checked table, on objects of their classes.
                unsafe {
                    let statistics = statistics::of_time(class, (0,));
                    let statistics = kept(statistics, Call::Request, "object for statistics")?;
                    request::set_statistics(request.pointer(), (pointer(&statistics),));
                }
            }
            let shared = |bindings: &[Binding<'_, SystemSurface>]| {
                bindings.iter().map(|b| b.surface.shared().clone()).collect::<Vec<_>>()
            };
            let (mut inputs, outputs) = (shared(inputs), shared(outputs));
            inputs.extend(weights.map(|surface| surface.shared().clone()));
            Ok(SystemRequest { request, inputs, outputs, is_measured })
        })
    }

    fn evaluate(
        &self,
        model: &SystemModel,
        request: &SystemRequest,
    ) -> Result<Evaluated, CallError> {
        let _reads = turns(&request.inputs, false)?;
        let _writes = turns(&request.outputs, true)?;
        let made = request.request.pointer();
        match &*model.own() {
            Some(program) => program.evaluate(made)?,
            None => {
                let options = empty_options();
                // SAFETY: a method of the checked table, with a request that names living
                // surfaces.
                attempt(Call::Evaluate, |error| unsafe {
                    let arguments = (QUALITY_OF_SERVICE, pointer(&options), made, error);
                    model::evaluate(model.object(), arguments)
                })?;
            }
        }
        let hardware_ns = if request.is_measured { measured(made)? } else { None };
        Ok(Evaluated { hardware_ns })
    }
}

impl System {
    /// Has the runs of a program measured, where that is wanted.
    fn ask_for_statistics(&self, model: &SystemModel, call: Call) -> Result<(), CallError> {
        if !self.measures.load(Ordering::Relaxed) {
            return Ok(());
        }
        caught(call, || {
            // SAFETY: methods of the checked table, on objects of their classes.
            unsafe {
                let object = model.object();
                model::set_mask(object, (STATISTICS,));
                let inner = model::inner(object, ());
                if is_kind(inner, c"_ANEModel") {
                    compiled::set_mask(inner, (STATISTICS,));
                }
            }
            Ok(())
        })
    }
}

/// The engine begins to use surfaces, until the result is dropped.
fn turns(side: &[Arc<SharedSurface>], writes: bool) -> Result<Vec<EngineTurn<'_>>, CallError> {
    side.iter().map(|surface| surface.engine_turn(writes)).collect()
}

/// Nanoseconds that the engine was at work in the last run of a request. Zero means that nothing
/// was measured.
fn measured(request: *mut AnyObject) -> Result<Option<u64>, CallError> {
    caught(Call::Evaluate, || {
        // SAFETY: a method of the checked table; the array lives as long as the pool.
        let array = unsafe { request::statistics(request, ()).as_ref() };
        let first = array.and_then(|a| a.downcast_ref::<NSArray>()).and_then(NSArray::firstObject);
        let Some(first) = first.map(|object| pointer(&object)) else { return Ok(None) };
        // SAFETY: the array keeps the object; its class is looked at before the method is called,
        // which is one of the checked table.
        let time = unsafe {
            let is_known = is_kind(first, c"_ANEPerformanceStats");
            is_known.then(|| statistics::hardware_time(first, ()))
        };
        Ok(time.filter(|&ns| ns > 0))
    })
}

/// Whether an object is of a class, or of one made of it.
///
/// # Safety
/// The pointer is null or an object.
unsafe fn is_kind(object: *mut AnyObject, name: &CStr) -> bool {
    // SAFETY: promised by the caller.
    let object = unsafe { object.as_ref() };
    let mut class = object.map(AnyObject::class);
    while let Some(known) = class {
        if known.name() == name {
            return true;
        }
        class = known.superclass();
    }
    false
}

/// `{offset: 0, data: …}`: a whole weight file.
fn weight_file(bytes: &[u8]) -> Retained<NSDictionary<NSString, AnyObject>> {
    let (offset, data) = (NSNumber::new_usize(0), NSData::with_bytes(bytes));
    let keys = [NSString::from_str("offset"), NSString::from_str("data")];
    let values: [&AnyObject; 2] = [&offset, &data];
    NSDictionary::from_slices(&[&*keys[0], &*keys[1]], &values)
}
