//! The classes and methods of the framework that are called, with their types.
//!
//! This table is the only place where a selector is written. The macOS code calls the functions
//! that are made of it, so a name that is not here does not compile, nor does an argument of
//! another type; and before anything is called, every entry is compared with what the system has.
//! The entries follow published tables of the framework (tmc/apple, generated from the binary).

use std::fmt;

/// A type that crosses the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is returned.
    Void,
    /// `BOOL`
    Bool,
    /// An object.
    Object,
    /// `unsigned int`
    U32,
    /// `unsigned long long`
    U64,
    /// Where an error is put.
    ErrorPointer,
    /// `IOSurfaceRef`
    Surface,
}

impl Kind {
    /// How Objective-C's runtime writes the type, on Apple silicon.
    pub fn encoding(self) -> &'static str {
        match self {
            Self::Void => "v",
            Self::Bool => "B",
            Self::Object => "@",
            Self::U32 => "I",
            Self::U64 => "Q",
            Self::ErrorPointer => "^@",
            Self::Surface => "^{__IOSurface=}",
        }
    }
}

/// What a method is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing works without it.
    Everything,
    /// Measuring runs.
    Measuring,
    /// An experiment: instances of a program with other weights.
    Instances,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The class that has it.
    pub class: &'static str,
    /// Whether the class itself is asked, not an object of it.
    pub of_class: bool,
    /// Its name.
    pub selector: &'static str,
    /// What it returns.
    pub returns: Kind,
    /// What it takes.
    pub arguments: &'static [Kind],
    /// What it is called for.
    pub purpose: Purpose,
}

impl Method {
    /// The types of the return value, the object, the selector and the arguments, as the runtime
    /// writes them.
    pub fn encodings(&self) -> Vec<String> {
        let fixed = [self.returns.encoding(), "@", ":"].into_iter();
        fixed.chain(self.arguments.iter().map(|k| k.encoding())).map(str::to_owned).collect()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.of_class { '+' } else { '-' };
        write!(f, "{sign}[{} {}]", self.class, self.selector)
    }
}

/// The types that the runtime writes as one string, such as `B36@0:8I16@20^@28`.
pub fn split_encoding(encoding: &str) -> Vec<String> {
    let mut types = Vec::new();
    let mut current = String::new();
    let mut depth = 0usize;
    for c in encoding.chars() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            // Offsets stand behind every type; qualifiers say nothing about the layout.
            '0'..='9' | '-' | '+' if depth == 0 => continue,
            'r' | 'n' | 'N' | 'o' | 'O' | 'R' | 'V' if depth == 0 => continue,
            _ => {}
        }
        current.push(c);
        if depth == 0 && c != '^' {
            types.push(std::mem::take(&mut current));
        }
    }
    types
}

/// How many arguments a selector has.
const fn arguments_of(selector: &str) -> usize {
    let bytes = selector.as_bytes();
    let (mut count, mut i) = (0, 0);
    while i < bytes.len() {
        count += (bytes[i] == b':') as usize;
        i += 1;
    }
    count
}

/// The type in Rust of a [`Kind`].
#[cfg(target_os = "macos")]
macro_rules! rust_type {
    (Void) => { () };
    (Bool) => { objc2::runtime::Bool };
    (Object) => { *mut objc2::runtime::AnyObject };
    (U32) => { u32 };
    (U64) => { u64 };
    (ErrorPointer) => { *mut *mut objc2::runtime::AnyObject };
    (Surface) => { *const objc2_io_surface::IOSurfaceRef };
}

macro_rules! interface {
    ($($module:ident = $class:literal {
        $($scope:ident $name:ident = $selector:literal ($($argument:ident),*) -> $returns:ident;)*
    })*) => {
        /// Every method that is called.
        pub const METHODS: &[Method] = &[$($(Method {
            class: $class,
            of_class: interface!(@is_class $scope),
            purpose: interface!(@purpose $scope),
            selector: $selector,
            returns: Kind::$returns,
            arguments: &[$(Kind::$argument),*],
        },)*)*];

        // A selector has as many colons as the method has arguments.
        const _: () = {
            let mut i = 0;
            while i < METHODS.len() {
                assert!(arguments_of(METHODS[i].selector) == METHODS[i].arguments.len());
                i += 1;
            }
        };

        $(
            #[doc = concat!("Calls of `", $class, "`.")]
            #[cfg(target_os = "macos")]
            pub(crate) mod $module {
                use super::super::macos::send;

                $(
                    #[doc = concat!("`", $selector, "`")]
                    ///
                    /// # Safety
                    /// The object is of this class, or is it for a class method; the table was
                    /// found to agree with the system; pointers are valid.
                    #[expect(unsafe_code, reason = "calls into the framework are foreign code")]
                    pub(crate) unsafe fn $name(
                        receiver: *mut objc2::runtime::AnyObject,
                        arguments: ($(rust_type!($argument),)*),
                    ) -> rust_type!($returns) {
                        const SELECTOR: &std::ffi::CStr =
                            match std::ffi::CStr::from_bytes_with_nul(
                                concat!($selector, "\0").as_bytes(),
                            ) {
                                Ok(selector) => selector,
                                Err(_) => panic!("a selector has no zero byte"),
                            };
                        // SAFETY: as promised by the caller; types are those of the table.
                        unsafe { send(receiver, SELECTOR, arguments) }
                    }
                )*
            }
        )*
    };
    (@is_class class) => { true };
    (@is_class object) => { false };
    (@is_class measuring_class) => { true };
    (@is_class measuring_object) => { false };
    (@is_class instance_class) => { true };
    (@is_class instance_object) => { false };
    (@purpose class) => { Purpose::Everything };
    (@purpose object) => { Purpose::Everything };
    (@purpose measuring_class) => { Purpose::Measuring };
    (@purpose measuring_object) => { Purpose::Measuring };
    (@purpose instance_class) => { Purpose::Instances };
    (@purpose instance_object) => { Purpose::Instances };
}

interface! {
    client = "_ANEClient" {
        object with_access = "initWithRestrictedAccessAllowed:" (Bool) -> Object;
        object load = "loadModel:options:qos:error:" (Object, Object, U32, ErrorPointer) -> Bool;
        object unload = "unloadModel:options:qos:error:" (Object, Object, U32, ErrorPointer) -> Bool;
        object evaluate = "evaluateWithModel:options:request:qos:error:" (Object, Object, Object, U32, ErrorPointer) -> Bool;
        instance_object load_instance = "loadModelNewInstance:options:modelInstParams:qos:error:" (Object, Object, Object, U32, ErrorPointer) -> Bool;
    }
    compiled = "_ANEModel" {
        class at_url = "modelAtURL:key:" (Object, Object) -> Object;
        object attributes = "modelAttributes" () -> Object;
        measuring_object set_mask = "setPerfStatsMask:" (U32) -> Void;
        instance_object cache_identifier = "getCacheURLIdentifier" () -> Object;
        instance_class with_cache_identifier = "modelWithCacheURLIdentifier:" (Object) -> Object;
    }
    weight = "_ANEWeight" {
        instance_class with_file = "weightWithSymbolAndURL:weightURL:" (Object, Object) -> Object;
    }
    procedure = "_ANEProcedureData" {
        instance_class with_weights = "procedureDataWithSymbol:weightArray:" (Object, Object) -> Object;
    }
    instance = "_ANEModelInstanceParameters" {
        instance_class with_procedures = "withProcedureData:procedureArray:" (Object, Object) -> Object;
    }
    descriptor = "_ANEInMemoryModelDescriptor" {
        class with_text = "modelWithMILText:weights:optionsPlist:" (Object, Object, Object) -> Object;
    }
    model = "_ANEInMemoryModel" {
        class with_descriptor = "inMemoryModelWithDescriptor:" (Object) -> Object;
        object identifier = "hexStringIdentifier" () -> Object;
        object compiled_model_exists = "compiledModelExists" () -> Bool;
        object compile = "compileWithQoS:options:error:" (U32, Object, ErrorPointer) -> Bool;
        object load = "loadWithQoS:options:error:" (U32, Object, ErrorPointer) -> Bool;
        object unload = "unloadWithQoS:error:" (U32, ErrorPointer) -> Bool;
        object evaluate = "evaluateWithQoS:options:request:error:" (U32, Object, Object, ErrorPointer) -> Bool;
        object purge = "purgeCompiledModel" () -> Void;
        object attributes = "modelAttributes" () -> Object;
        object options = "compilerOptionsWithOptions:isCompiledModelCached:" (Object, Bool) -> Object;
        measuring_object set_mask = "setPerfStatsMask:" (U32) -> Void;
        measuring_object inner = "model" () -> Object;
    }
    statistics = "_ANEPerformanceStats" {
        measuring_class of_time = "statsWithHardwareExecutionNS:" (U64) -> Object;
        measuring_object hardware_time = "hwExecutionTime" () -> U64;
    }
    surface = "_ANEIOSurfaceObject" {
        class with_surface = "objectWithIOSurface:" (Surface) -> Object;
    }
    request = "_ANERequest" {
        class with_surfaces = "requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:" (Object, Object, Object, Object, Object, Object, Object) -> Object;
        measuring_object set_statistics = "setPerfStats:" (Object) -> Void;
        measuring_object statistics = "perfStatsArray" () -> Object;
    }
    device_info = "_ANEDeviceInfo" {
        class has_engine = "hasANE" () -> Bool;
        class architecture = "aneArchitectureType" () -> Object;
        class cores = "numANECores" () -> U32;
        class engines = "numANEs" () -> U32;
        class product = "productName" () -> Object;
        class build = "buildVersion" () -> Object;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn encodings_are_taken_apart() {
        let split = |s| split_encoding(s).join(" ");
        assert_eq!(split("B36@0:8I16@20^@28"), "B @ : I @ ^@");
        assert_eq!(split("@24@0:8^{__IOSurface=}16"), "@ @ : ^{__IOSurface=}");
        assert_eq!(split("v16@0:8"), "v @ :");
        assert_eq!(split("r^v24@0:8n^{A=i[4c]}16"), "^v @ : ^{A=i[4c]}");
        assert_eq!(split(""), "");
    }

    #[test]
    fn methods_are_told_with_their_types() {
        let mut of_model = METHODS.iter().filter(|m| m.class == "_ANEInMemoryModel");
        let load = of_model.find(|m| m.selector.starts_with("load")).unwrap();
        assert_eq!(load.to_string(), "-[_ANEInMemoryModel loadWithQoS:options:error:]");
        assert_eq!(load.encodings().join(" "), "B @ : I @ ^@");
    }

    /// The published table, as `-(bool) loadWithQoS:options:error:  (uint32, id, NSError**)` under
    /// the name of the class.
    #[test]
    fn the_table_agrees_with_what_was_published() {
        let Some(shared) = orion_testing::shared_dir() else {
            return orion_testing::skip("published tables of the framework's methods");
        };
        let text = std::fs::read_to_string(shared.join("reference/ane.md")).unwrap();
        let mut class = String::new();
        let mut published = HashMap::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("**_").and_then(|l| l.strip_suffix("**")) {
                class = format!("_{name}");
            }
            let Some((sign, rest)) = line.split_at_checked(1) else { continue };
            if !matches!(sign, "-" | "+") {
                continue;
            }
            let parts = rest.strip_prefix('(').and_then(|r| r.split_once(") "));
            let Some((returns, rest)) = parts else { continue };
            let Some((selector, arguments)) = rest.split_once("  (") else { continue };
            let arguments: Vec<String> = arguments
                .trim_end_matches(')')
                .split(", ")
                .filter(|a| !a.is_empty())
                .map(kind)
                .collect();
            let key = (class.clone(), sign == "+", selector.to_owned());
            published.insert(key, (kind(returns), arguments));
        }
        assert!(published.len() > 300, "{}", published.len());
        for method in METHODS {
            let key = (method.class.to_owned(), method.of_class, method.selector.to_owned());
            let (returns, arguments) =
                published.get(&key).unwrap_or_else(|| panic!("{method} was not published"));
            let mut encodings = method.encodings();
            let own = encodings.split_off(3);
            assert_eq!((&encodings[0], &own), (returns, arguments), "{method}");
        }
    }

    fn kind(name: &str) -> String {
        let kind = match name {
            "bool" => Kind::Bool,
            "uint32" => Kind::U32,
            "uint64" => Kind::U64,
            "void" => Kind::Void,
            "NSError**" => Kind::ErrorPointer,
            "IOSurfaceRef" => Kind::Surface,
            "int64" | "int8" | "int" => return name.to_owned(),
            _ => Kind::Object,
        };
        kind.encoding().to_owned()
    }
}
