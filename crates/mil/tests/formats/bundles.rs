//! Bundles: programs with their weights on disk.

use crate::support::shared;
use orion_mil::bundle::{Bundle, BundleErrorKind as Kind, PROGRAM_FILE};
use orion_mil::text::{parse, print};
use orion_mil::{WEIGHT_FILE, Weights};
use orion_tensor::{Bytes, Tensor};
use std::fs;
use std::path::Path;

/// A program whose only constant is in `file`.
fn text(file: &str) -> String {
    format!(
        "program(1.3)\n{{\n    func main<ios18>() {{\n            tensor<fp32, [2, 1]> w = \
         const()[name = string(\"w\"), val = tensor<fp32, [2, 1]>(BLOBFILE(path = \
         string(\"{file}\"), offset = uint64(64)))];\n        }} -> (w);\n}}"
    )
}

fn bundle(file: &str) -> Bundle {
    let mut weights = Weights::new();
    weights.append(file, Tensor::from_slice(&[2], &[1.0f32, -2.5]));
    Bundle { program: parse(&text(file)).unwrap(), weights }
}

fn entries(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        names.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_saved_bundle_loads() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("new/model.mlmodelc");
    let bundle = bundle(WEIGHT_FILE);
    bundle.save(&directory).unwrap();
    assert_eq!(entries(&place.path().join("new")), ["model.mlmodelc"]);
    assert_eq!(entries(&directory), ["model.mil", "weights"]);
    assert_eq!(fs::read_to_string(directory.join(PROGRAM_FILE)).unwrap(), text(WEIGHT_FILE));

    assert_eq!(Bundle::load(&directory).unwrap(), bundle);
    assert_eq!(Bundle::load(&directory.join(PROGRAM_FILE)).unwrap(), bundle);
    let reader = |path: &Path| fs::read(path).map(Bytes::new);
    assert_eq!(Bundle::load_with(&directory, &reader).unwrap(), bundle);
}

#[test]
fn a_bare_file_name_has_the_current_directory_around_it() {
    let error = Bundle::load(Path::new("no_such.mil")).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Io, Path::new("no_such.mil")));
}

#[test]
fn nothing_is_written_over() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("model");
    fs::create_dir(&directory).unwrap();
    bundle(WEIGHT_FILE).save(&directory).unwrap();
    let before = fs::read(directory.join(PROGRAM_FILE)).unwrap();

    let error = bundle("@model_path/other.bin").save(&directory).unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
    assert_eq!(error.path(), directory);
    assert_eq!(fs::read(directory.join(PROGRAM_FILE)).unwrap(), before);
    assert_eq!(entries(place.path()), ["model"]);

    let file = place.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert_eq!(bundle(WEIGHT_FILE).save(&file).unwrap_err().kind(), Kind::AlreadyExists);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_failed_save_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let mut bundle = bundle(WEIGHT_FILE);
    bundle.weights.insert("@model_path/bad.bin", 1, Tensor::from_slice(&[1], &[0u8]));
    let error = bundle.save(&place.path().join("model")).unwrap_err();
    assert_eq!(error.kind(), Kind::Weights, "{error}");
    assert!(error.to_string().contains("no multiple of 64"), "{error}");
    assert!(entries(place.path()).is_empty());
}

#[test]
fn paths_out_of_the_bundle_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("bundle");
    fs::create_dir(&directory).unwrap();
    fs::write(place.path().join("secret"), [0u8; 200]).unwrap();
    for file in [
        "@model_path/../secret",
        "@model_path/weights/../../secret",
        "@model_path//etc/passwd",
        "@model_path/",
        "@model_path/./.",
        "@model_path/weights\\\\..\\\\secret",
        "/etc/passwd",
        "secret",
        "",
    ] {
        fs::write(directory.join(PROGRAM_FILE), text(file)).unwrap();
        let reader = |path: &Path| {
            assert_eq!(path.file_name().unwrap(), PROGRAM_FILE, "{file} was opened");
            fs::read(path).map(Bytes::new)
        };
        let error = Bundle::load_with(&directory, &reader).unwrap_err();
        assert_eq!(error.kind(), Kind::UnsafePath, "{file}: {error}");
        let error = bundle(file).save(&place.path().join("out")).unwrap_err();
        assert!(matches!(error.kind(), Kind::UnsafePath | Kind::Weights), "{file}: {error}");
        assert_eq!(entries(place.path()), ["bundle", "secret"]);
    }
    let error = bundle("@model_path/model.mil").save(&place.path().join("out")).unwrap_err();
    assert_eq!(error.kind(), Kind::UnsafePath, "{error}");
}

#[test]
fn what_is_wrong_is_said_with_the_file() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("bundle");
    fs::create_dir_all(directory.join("weights")).unwrap();
    let program = directory.join(PROGRAM_FILE);
    let load = || Bundle::load(&directory).unwrap_err();

    assert_eq!((load().kind(), load().path()), (Kind::Io, &*program));

    fs::write(&program, b"program(1.3)\xff").unwrap();
    assert_eq!(load().kind(), Kind::NotText);

    fs::write(&program, "program(1.3)\n{ func }").unwrap();
    assert_eq!(load().kind(), Kind::Program);
    let message = load().to_string();
    assert!(message.contains("bundle/model.mil: line 2, column 8: expected"), "{message}");

    fs::write(&program, text(WEIGHT_FILE)).unwrap();
    assert_eq!(load().kind(), Kind::Weights);
    let message = load().to_string();
    assert!(message.contains("weights of `w`: cannot access the weight file"), "{message}");

    fs::write(directory.join("weights/weight.bin"), [0u8; 100]).unwrap();
    let message = load().to_string();
    assert!(message.contains("expected blob storage version 2, found 0"), "{message}");
    use std::error::Error;
    assert!(load().source().is_some());

    let mut incomplete = bundle(WEIGHT_FILE);
    incomplete.weights = Weights::new();
    let error = incomplete.save(&place.path().join("out")).unwrap_err();
    assert_eq!(error.kind(), Kind::Weights);
    assert!(error.to_string().contains("no blob at offset 64"), "{error}");
}

#[test]
fn real_bundles_load_and_save() {
    let Some(shared) = shared("real_bundles_load_and_save") else { return };
    let place = tempfile::tempdir().unwrap();
    for name in [
        "FluidInference__mobius__silero-vad-unified-v6.0.0.mlmodelc",
        "FluidInference__mobius__unified_palette_4bit.mlmodelc",
    ] {
        let source = shared.join("mil/bundles").join(name);
        let bundle = Bundle::load(&source).unwrap_or_else(|e| panic!("{e}"));
        let copy = place.path().join(name);
        bundle.save(&copy).unwrap();
        assert_eq!(Bundle::load(&copy).unwrap(), bundle);
        let [original, written] =
            [&source, &copy].map(|d| fs::read_to_string(d.join(PROGRAM_FILE)).unwrap());
        assert_eq!(written, original.trim_end());
        assert_eq!(print(&bundle.program), written);
        let [original, written] =
            [&source, &copy].map(|d| fs::read(d.join("weights/weight.bin")).unwrap());
        assert!(original == written, "{name}: the weight file differs");
    }
}
