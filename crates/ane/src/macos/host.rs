//! The machine that this runs on.

use super::string;
use crate::Host;
use crate::interface::device_info;
use objc2::runtime::AnyObject;
use objc2_foundation::NSProcessInfo;
use orion_device::{Chip, Generation, Kin, Os};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

/// What the system says of the machine.
pub(super) fn host(info: *mut AnyObject) -> Host {
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

unsafe extern "C" {
    fn sysctlbyname(
        name: *const c_char,
        value: *mut c_void,
        size_bytes: *mut usize,
        new_value: *mut c_void,
        new_size_bytes: usize,
    ) -> c_int;
}

/// `Apple M4 Pro`, as the kernel calls it.
fn brand() -> Option<String> {
    let mut text = [0u8; 128];
    let mut size_bytes = text.len();
    let name = c"machdep.cpu.brand_string";
    // SAFETY: that many bytes may be written, and nothing is set.
    let status = unsafe {
        let value = text.as_mut_ptr().cast();
        sysctlbyname(name.as_ptr(), value, &mut size_bytes, ptr::null_mut(), 0)
    };
    let text = CStr::from_bytes_until_nul(&text).ok().filter(|_| status == 0)?;
    let brand = text.to_str().ok()?.trim();
    (!brand.is_empty()).then(|| brand.to_owned())
}

fn chip_of_brand(brand: &str) -> Option<Chip> {
    brand.strip_prefix("Apple ")?.parse().ok()
}

/// The plain chip of a generation, from the compiler's name of it, such as `h16g`.
fn chip_of_target(architecture: &str) -> Option<Chip> {
    let plain = Generation::ALL.map(|generation| Chip { generation, kin: Kin::Plain });
    plain.into_iter().find(|c| architecture.to_lowercase().starts_with(c.parameters().target))
}
