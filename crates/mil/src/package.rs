//! Every way a program with its weights is kept: packages (`.mlpackage`), compiled models and our
//! own bundles (a directory with a `model.mil`), and single programs as text or protobuf with the
//! weights beside them.
//!
//! A package is a directory with a `Manifest.json` that says where in `Data/` the model lies; file
//! names in the program are relative to the model's own directory.

use crate::Program;
use crate::blob::blob_references;
use crate::bundle::{
    Bundle, BundleError, BundleErrorKind as Kind, Cause, PROGRAM_FILE, parse_text, read_aligned,
    write_directory, write_file,
};
use crate::flexible::{FlexibleInputs, flexible_inputs, set_flexible_inputs};
use crate::proto::{ProtoErrorKind, decode_model, encode_model};
use orion_tensor::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

const MANIFEST_FILE: &str = "Manifest.json";
const DATA: &str = "Data";
const MODEL_ITEM: &str = "com.apple.CoreML/model.mlmodel";
const WEIGHTS_ITEM: &str = "com.apple.CoreML/weights";

/// What the names of weight files in a package start with: nothing else of it is listed.
const WEIGHTS_PATH: &str = "@model_path/weights/";

/// Reads a program and its weights, and which sizes its inputs may have: a `.mlpackage`, a `.mlmodelc` or another directory with a
/// `model.mil`, a `.mlmodel` protobuf, or any other file as MIL text.
///
/// # Errors
/// When a file is missing, damaged, or would be outside the package, and when there are several
/// programs, because it is a pipeline.
pub fn load(path: &Path) -> Result<Bundle, BundleError> {
    load_with(path, &read_aligned)
}

/// The same with the caller's way of getting at a file's bytes, such as mapping it.
///
/// # Errors
/// As [`load`], and when `read` fails.
pub fn load_with(
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<Bytes>,
) -> Result<Bundle, BundleError> {
    let file = program_file(path, read)?;
    let (program, flexible) = read_program(&file, read)?;
    let program = sized(program, &flexible);
    let directory = file.parent().unwrap_or(Path::new(""));
    Bundle::with_weights_in(program, directory, &file, read)
}

/// Reads the program alone; its weights need not be there.
///
/// # Errors
/// As [`load`], but for the weights.
pub fn load_program(path: &Path) -> Result<Program, BundleError> {
    Ok(read_program(&program_file(path, &read_aligned)?, &read_aligned)?.0)
}

/// The same with the sizes that its inputs may have, which packages say beside the program.
///
/// # Errors
/// As [`load_program`].
pub fn load_program_with_sizes(path: &Path) -> Result<Program, BundleError> {
    let (program, flexible) = read_program(&program_file(path, &read_aligned)?, &read_aligned)?;
    Ok(sized(program, &flexible))
}

fn sized(mut program: Program, flexible: &BTreeMap<String, FlexibleInputs>) -> Program {
    for function in &mut program.functions {
        let said = flexible.get(&function.name);
        if let Some(inputs) = said.filter(|_| flexible_inputs(function).is_empty()) {
            set_flexible_inputs(function, inputs);
        }
    }
    program
}

/// The file that holds the program.
fn program_file(
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<Bytes>,
) -> Result<PathBuf, BundleError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let manifest = path.join(MANIFEST_FILE);
    if manifest.is_file() {
        let bytes = read(&manifest).map_err(|e| BundleError::io(&manifest, e))?;
        let item = root_item(&bytes).map_err(|e| BundleError::new(Kind::Manifest, &manifest, e))?;
        return Ok(path.join(DATA).join(item));
    }
    let program = path.join(PROGRAM_FILE);
    let first = path.join("model0").join(PROGRAM_FILE);
    if !program.exists() && first.exists() {
        let message = "its models are the directories model0, model1 and so on";
        return Err(BundleError::new(Kind::Pipeline, path, message));
    }
    Ok(program)
}

/// The path, relative to the data directory, of the model that a manifest names.
fn root_item(manifest: &[u8]) -> Result<PathBuf, String> {
    let manifest: Value = serde_json::from_slice(manifest).map_err(|e| e.to_string())?;
    let root = manifest["rootModelIdentifier"].as_str().ok_or("it names no root model")?;
    let item = manifest["itemInfoEntries"][root]["path"].as_str();
    let item = item.ok_or("the root model is not among its items")?;
    let path = Path::new(item);
    let is_safe = path.components().next().is_some()
        && path.components().all(|c| matches!(c, Component::Normal(_)))
        && !item.contains('\\');
    if is_safe { Ok(path.to_owned()) } else { Err(format!("{item:?} is not a path inside it")) }
}

fn read_program(
    file: &Path,
    read: &dyn Fn(&Path) -> io::Result<Bytes>,
) -> Result<(Program, BTreeMap<String, FlexibleInputs>), BundleError> {
    let bytes = read(file).map_err(|e| BundleError::io(file, e))?;
    if file.extension().is_some_and(|e| e == "mlmodel") {
        return decode_model(&bytes).map(|model| (model.program, model.flexible)).map_err(|e| {
            let kind = match e.kind() {
                ProtoErrorKind::Pipeline => Kind::Pipeline,
                _ => Kind::Program,
            };
            BundleError::caused(kind, file, Cause::Proto(e))
        });
    }
    Ok((parse_text(&bytes, file)?, BTreeMap::new()))
}

/// Writes a package as a new directory, which appears complete or not at all. The same bundle
/// gives the same bytes. `summary` is shown as the model's description.
///
/// # Errors
/// When `directory` exists and is not empty, the weights lack a blob the program names, a weight
/// file's name is not one in `@model_path/weights/`, Core ML's format cannot hold the program (see
/// [`encode_model`]), or writing fails.
pub fn save_mlpackage(bundle: &Bundle, directory: &Path, summary: &str) -> Result<(), BundleError> {
    bundle.check_weights(directory)?;
    let references = blob_references(&bundle.program);
    let files = bundle.weights.files().map(|(file, _)| file);
    let mut names = references.iter().map(|r| r.file).chain(files);
    if let Some(file) = names.find(|file| !file.starts_with(WEIGHTS_PATH)) {
        let message = format!("weights of a package are in {WEIGHTS_PATH}, not in {file:?}");
        return Err(BundleError::new(Kind::UnsafePath, directory, message));
    }
    let model = encode_model(&bundle.program, summary)
        .map_err(|e| BundleError::caused(Kind::Program, directory, Cause::Proto(e)))?;
    let has_weights = bundle.weights.files().next().is_some();
    write_directory(directory, |partial| {
        let data = partial.join(DATA);
        let model_file = data.join(MODEL_ITEM);
        bundle.write_weights(model_file.parent().unwrap_or(&data))?;
        write_file(&model_file, &model)?;
        write_file(&partial.join(MANIFEST_FILE), manifest(&model, has_weights).as_bytes())
    })
}

fn manifest(model: &[u8], has_weights: bool) -> String {
    let root = identifier(model, MODEL_ITEM);
    let item = |path: &str, name: &str, description: &str| json!({ "author": "com.apple.CoreML", "description": description, "name": name, "path": path });
    let mut items = serde_json::Map::new();
    let model_item = item(MODEL_ITEM, "model.mlmodel", "CoreML Model Specification");
    items.insert(root.clone(), model_item);
    if has_weights {
        let weights = item(WEIGHTS_ITEM, "weights", "CoreML Model Weights");
        items.insert(identifier(model, WEIGHTS_ITEM), weights);
    }
    let manifest = json!({
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": root,
    });
    format!("{manifest:#}\n")
}

/// A UUID of the kind whose bits are free (version 8), from the model and the item's path, so that
/// the same package is the same bytes. Within a package, paths differ, which is all that is asked.
fn identifier(model: &[u8], path: &str) -> String {
    // FNV-1a.
    let hash = model
        .iter()
        .chain(path.as_bytes())
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, &byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
        });
    let version = 0xf << 76;
    let variant = 0x3 << 62;
    let bits = hash & !version & !variant | 8 << 76 | 2 << 62;
    let digits = format!("{bits:032x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_uuids_and_stay_the_same() {
        let id = identifier(b"model", MODEL_ITEM);
        assert_eq!(id, identifier(b"model", MODEL_ITEM));
        assert_ne!(id, identifier(b"model", WEIGHTS_ITEM));
        assert_ne!(id, identifier(b"other", MODEL_ITEM));
        assert_eq!((id.len(), &id[14..15]), (36, "8"), "{id}");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
    }

    #[test]
    fn paths_out_of_a_package_are_refused() {
        let manifest = |path: &str| {
            let items = json!({ "a": { "path": path } });
            json!({ "rootModelIdentifier": "a", "itemInfoEntries": items }).to_string()
        };
        assert_eq!(root_item(manifest(MODEL_ITEM).as_bytes()), Ok(PathBuf::from(MODEL_ITEM)));
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x"] {
            assert!(root_item(manifest(path).as_bytes()).is_err(), "{path}");
        }
        for broken in ["", "{", "{}", r#"{"rootModelIdentifier": "a"}"#, "[1]"] {
            assert!(root_item(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
