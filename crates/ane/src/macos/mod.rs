//! The framework itself.
//!
//! It is opened when it is asked for, never linked: where it is missing, or where a class or a
//! method is not what the table says, that is an error and nothing is called.

#![expect(unsafe_code, reason = "calls into the framework are foreign code")]

mod attributes;
mod check;
mod client;
mod surface;

pub use client::SystemClient;
pub use surface::SystemSurface;

use client::OwnProgram;

use crate::interface::{descriptor, device_info, model, request, surface as surface_object};
use crate::{Attribute, Binding, Call, CallError, Descriptor, Evaluated, Framework, Host};
use objc2::Message;
use objc2::encode::{EncodeArguments, EncodeReturn};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyClass, AnyObject, Bool, MessageReceiver, Sel};
use objc2_foundation::{
    NSArray, NSData, NSDictionary, NSError, NSNumber, NSProcessInfo, NSString, NSTemporaryDirectory,
};
use orion_device::{Chip, Generation, Kin, Os};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the framework is.
const FRAMEWORK: &str =
    "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine";

/// The quality of service that every project runs with. Others were measured to make no
/// difference.
const QUALITY_OF_SERVICE: u32 = 21;

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
}

/// An object of the framework, released when it is dropped.
#[derive(Debug)]
struct SystemObject(Retained<AnyObject>);

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
    _surfaces: Vec<SystemSurface>,
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
        check::table()?;
        autoreleasepool(|_| {
            let info = class(c"_ANEDeviceInfo")?;
            // SAFETY: a class method of the checked table.
            if !unsafe { device_info::has_engine(info, ()) }.as_bool() {
                return Err(CallError::new(Call::Open, "the system says it has no Neural Engine"));
            }
            let temporary_directory = PathBuf::from(NSTemporaryDirectory().to_string());
            Ok(Self { host: host(info), temporary_directory })
        })
    }
}

/// A class, as the object that class methods are sent to.
fn class(name: &CStr) -> Result<*mut AnyObject, CallError> {
    let class = AnyClass::get(name).ok_or_else(|| {
        CallError::new(Call::Open, format!("there is no class {}", name.to_string_lossy()))
    })?;
    Ok(ptr::from_ref(class).cast_mut().cast())
}

/// What the system says of the machine.
fn host(info: *mut AnyObject) -> Host {
    // SAFETY: class methods of the checked table.
    let (architecture, product, build, cores, engines) = unsafe {
        (
            string(device_info::architecture(info, ())),
            string(device_info::product(info, ())),
            string(device_info::build(info, ())),
            device_info::cores(info, ()),
            device_info::engines(info, ()),
        )
    };
    let process = NSProcessInfo::processInfo();
    let version = process.operatingSystemVersion();
    let os = match version.majorVersion {
        15 => Some(Os::V15),
        26 => Some(Os::V26),
        27 => Some(Os::V27),
        _ => None,
    };
    let brand = brand();
    let chip = brand.as_deref().and_then(chip_of_brand).or_else(|| chip_of_target(&architecture));
    let name = brand.clone().unwrap_or_else(|| architecture.clone());
    let system = process.operatingSystemVersionString().to_string();
    Host {
        description: format!("Neural Engine of the {name}, macOS {system}"),
        chip,
        os,
        facts: vec![
            ("chip".to_owned(), name),
            ("architecture".to_owned(), architecture),
            ("product".to_owned(), product),
            ("build".to_owned(), build),
            ("system".to_owned(), system),
            ("cores".to_owned(), cores.to_string()),
            ("engines".to_owned(), engines.to_string()),
        ],
    }
}

/// `Apple M4 Pro`, as the kernel calls it.
fn brand() -> Option<String> {
    let mut command = Command::new("/usr/sbin/sysctl");
    let output = command.args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    let brand = String::from_utf8(output.stdout).ok()?;
    Some(brand.trim().to_owned()).filter(|b| !b.is_empty())
}

fn chip_of_brand(brand: &str) -> Option<Chip> {
    brand.strip_prefix("Apple ")?.parse().ok()
}

/// The plain chip of a generation, from the compiler's name of it, such as `h16g`.
fn chip_of_target(architecture: &str) -> Option<Chip> {
    let plain = Generation::ALL.map(|generation| Chip { generation, kin: Kin::Plain });
    plain.into_iter().find(|c| architecture.to_lowercase().starts_with(c.parameters().target))
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
unsafe fn kept(object: *mut AnyObject, call: Call, what: &str) -> Result<SystemObject, CallError> {
    // SAFETY: promised by the caller.
    let object = unsafe { Retained::retain(object) };
    object.map(SystemObject).ok_or_else(|| CallError::new(call, format!("there is no {what}")))
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
    autoreleasepool(|_| {
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
        Retained::as_ptr(&self.model.0).cast_mut()
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
        autoreleasepool(|_| SystemClient::new())
    }

    fn model(&self, parts: &Descriptor) -> Result<SystemModel, CallError> {
        autoreleasepool(|_| {
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
                let made = kept(made, Call::Model, "descriptor")?;
                let object = model::with_descriptor(models, (pointer(&made.0),));
                let object = kept(object, Call::Model, "model")?;
                Ok(SystemModel { model: object, _descriptor: made, own: Mutex::default() })
            }
        })
    }

    fn identifier(&self, model: &SystemModel) -> Result<String, CallError> {
        autoreleasepool(|_| {
            // SAFETY: a method of the checked table; the string lives as long as the pool.
            let identifier = unsafe { string(model::identifier(model.object(), ())) };
            if identifier.is_empty() {
                return Err(CallError::new(Call::Identifier, "there is no identifier"));
            }
            Ok(identifier)
        })
    }

    fn compiled_model_exists(&self, model: &SystemModel) -> Result<bool, CallError> {
        // SAFETY: a method of the checked table.
        Ok(autoreleasepool(|_| unsafe { model::compiled_model_exists(model.object(), ()) })
            .as_bool())
    }

    fn compile(&self, model: &SystemModel) -> Result<(), CallError> {
        let options = empty_options();
        // SAFETY: a method of the checked table, with a place for the error.
        attempt(Call::Compile, |error| unsafe {
            model::compile(model.object(), (QUALITY_OF_SERVICE, pointer(&options), error))
        })
    }

    fn load(&self, model: &SystemModel, client: Option<&SystemClient>) -> Result<(), CallError> {
        if let Some(client) = client {
            let identifier = self.identifier(model)?;
            let loaded = autoreleasepool(|_| {
                OwnProgram::load(model, &identifier, &self.temporary_directory, client)
            });
            *model.own() = Some(loaded?);
            return Ok(());
        }
        let options = empty_options();
        // SAFETY: as above.
        attempt(Call::Load, |error| unsafe {
            model::load(model.object(), (QUALITY_OF_SERVICE, pointer(&options), error))
        })
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
        // SAFETY: a method of the checked table.
        autoreleasepool(|_| unsafe { model::purge(model.object(), ()) });
        Ok(())
    }

    fn attributes(&self, model: &SystemModel) -> Result<Option<Attribute>, CallError> {
        autoreleasepool(|_| {
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

    fn read(&self, surface: &SystemSurface, look: &mut dyn FnMut(&[u8])) -> Result<(), CallError> {
        surface.read(look)
    }

    fn write(
        &self,
        surface: &SystemSurface,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), CallError> {
        surface.write(fill)
    }

    fn request(
        &self,
        inputs: &[Binding<'_, SystemSurface>],
        outputs: &[Binding<'_, SystemSurface>],
    ) -> Result<SystemRequest, CallError> {
        autoreleasepool(|_| {
            let objects = class(c"_ANEIOSurfaceObject")?;
            let side = |bindings: &[Binding<'_, SystemSurface>]| {
                let mut surfaces = Vec::new();
                let mut indices = Vec::new();
                for binding in bindings {
                    // SAFETY: a class method of the checked table, on a surface.
                    let object = unsafe {
                        let object =
                            surface_object::with_surface(objects, (binding.surface.pointer(),));
                        kept(object, Call::Request, "object for a surface")?
                    };
                    surfaces.push(object.0);
                    indices.push(NSNumber::new_usize(binding.index));
                }
                let surfaces = NSArray::from_retained_slice(&surfaces);
                Ok::<_, CallError>((surfaces, NSArray::from_retained_slice(&indices)))
            };
            let (read, read_indices) = side(inputs)?;
            let (written, written_indices) = side(outputs)?;
            let procedure = NSNumber::new_usize(0);
            let requests = class(c"_ANERequest")?;
            // SAFETY: a class method of the checked table; no weights buffer and no statistics.
            let request = unsafe {
                let request = request::with_surfaces(
                    requests,
                    (
                        pointer(&read),
                        pointer(&read_indices),
                        pointer(&written),
                        pointer(&written_indices),
                        ptr::null_mut(),
                        ptr::null_mut(),
                        pointer(&procedure),
                    ),
                );
                kept(request, Call::Request, "request")?
            };
            let surfaces = inputs.iter().chain(outputs).map(|b| b.surface.clone()).collect();
            Ok(SystemRequest { request, _surfaces: surfaces })
        })
    }

    fn evaluate(
        &self,
        model: &SystemModel,
        request: &SystemRequest,
    ) -> Result<Evaluated, CallError> {
        let request = pointer(&request.request.0);
        if let Some(program) = &*model.own() {
            program.evaluate(request)?;
            return Ok(Evaluated::default());
        }
        let options = empty_options();
        // SAFETY: a method of the checked table, with a request that names living surfaces.
        attempt(Call::Evaluate, |error| unsafe {
            model::evaluate(model.object(), (QUALITY_OF_SERVICE, pointer(&options), request, error))
        })?;
        Ok(Evaluated::default())
    }
}

/// `{offset: 0, data: …}`: a whole weight file.
fn weight_file(bytes: &[u8]) -> Retained<NSDictionary<NSString, AnyObject>> {
    let (offset, data) = (NSNumber::new_usize(0), NSData::with_bytes(bytes));
    let keys = [NSString::from_str("offset"), NSString::from_str("data")];
    let values: [&AnyObject; 2] = [&offset, &data];
    NSDictionary::from_slices(&[&*keys[0], &*keys[1]], &values)
}
