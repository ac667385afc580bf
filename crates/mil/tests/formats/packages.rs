//! Packages: a program, its weights and the list of both, on disk.

use crate::support::shared;
use orion_mil::bundle::{Bundle, BundleErrorKind as Kind};
use orion_mil::package::{load, load_program, save_mlpackage};
use orion_mil::text::{parse, print};
use orion_mil::{WEIGHT_FILE, Weights};
use orion_tensor::Tensor;
use std::fs;
use std::path::{Path, PathBuf};

const TEXT: &str = r#"program(1.3)
{
    func main<ios18>(fp16 s, tensor<fp32, [2, ?]> x) {
            tensor<fp32, [2, 1]> w = const()[name = string("w"), val = tensor<fp32, [2, 1]>(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(64)))];
            tensor<fp32, [2, ?]> y = mul(x = x, y = w)[name = string("y")];
        } -> (y);
}"#;

fn bundle() -> Bundle {
    let mut weights = Weights::new();
    weights.append(WEIGHT_FILE, Tensor::from_slice(&[2], &[1.0f32, -2.5]));
    Bundle { program: parse(TEXT).unwrap(), weights }
}

/// Every file under a directory with its bytes, by relative path.
fn tree(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.push((name, fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_saved_package_loads() {
    let place = tempfile::tempdir().unwrap();
    let [first, second] = ["a.mlpackage", "b.mlpackage"].map(|name| place.path().join(name));
    save_mlpackage(&bundle(), &first, "a product").unwrap();
    save_mlpackage(&bundle(), &second, "a product").unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "nothing else is left");
    let files = tree(&first);
    let names: Vec<_> = files.iter().map(|f| f.0.to_str().unwrap()).collect();
    let model = "Data/com.apple.CoreML/model.mlmodel";
    assert_eq!(names, [model, "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json"]);
    assert!(files == tree(&second), "the same bundle gives the same bytes");

    let manifest: serde_json::Value = serde_json::from_slice(&files[2].1).unwrap();
    let items = manifest["itemInfoEntries"].as_object().unwrap();
    let root = manifest["rootModelIdentifier"].as_str().unwrap();
    assert_eq!(items[root]["path"], "com.apple.CoreML/model.mlmodel");
    assert_eq!(items.len(), 2);
    assert!(items.values().any(|item| item["path"] == "com.apple.CoreML/weights"));

    assert_eq!(load(&first).unwrap(), bundle());
    assert_eq!(load(&first.join(model)).unwrap(), bundle());
    assert_eq!(load_program(&first).unwrap(), bundle().program);
}

#[test]
fn a_package_without_weights_lists_none() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("model.mlpackage");
    let text = "program(1.3)\n{\n    func main<ios18>(fp32 x) {\n        } -> (x);\n}";
    let bundle = Bundle { program: parse(text).unwrap(), weights: Weights::new() };
    save_mlpackage(&bundle, &directory, "").unwrap();
    assert_eq!(tree(&directory).len(), 2);
    assert!(!fs::read_to_string(directory.join("Manifest.json")).unwrap().contains("weights"));
    assert_eq!(load(&directory).unwrap(), bundle);
}

#[test]
fn what_cannot_be_a_package_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("model.mlpackage");
    let refused = |change: &dyn Fn(&str) -> String, weights: &Weights| {
        let program = parse(&change(TEXT)).unwrap();
        let bundle = Bundle { program, weights: weights.clone() };
        save_mlpackage(&bundle, &directory, "").unwrap_err()
    };
    let same = |text: &str| text.to_owned();
    let error = refused(&same, &Weights::new());
    assert_eq!(error.kind(), Kind::Weights, "{error}");
    let error = refused(&|t| t.replace("fp16 s", "bool s"), &bundle().weights);
    assert_eq!(error.kind(), Kind::Program, "{error}");
    assert!(error.to_string().contains("input `s`"), "{error}");
    let mut elsewhere = Weights::new();
    elsewhere.append("@model_path/w.bin", Tensor::from_slice(&[2], &[1.0f32, 2.0]));
    let error = refused(&|t| t.replace("weights/weight.bin", "w.bin"), &elsewhere);
    assert_eq!(error.kind(), Kind::UnsafePath, "{error}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);

    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("precious"), "").unwrap();
    assert_eq!(refused(&same, &bundle().weights).kind(), Kind::AlreadyExists);
    assert_eq!(tree(&directory).len(), 1);
}

#[test]
fn damaged_packages_say_which_file() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("model.mlpackage");
    save_mlpackage(&bundle(), &directory, "").unwrap();
    let failure = || load(&directory).unwrap_err();
    let model = directory.join("Data/com.apple.CoreML/model.mlmodel");
    let manifest = directory.join("Manifest.json");

    let bytes = fs::read(&model).unwrap();
    fs::write(&model, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!((failure().kind(), failure().path()), (Kind::Program, &*model));
    fs::remove_file(&model).unwrap();
    assert_eq!((failure().kind(), failure().path()), (Kind::Io, &*model));
    fs::write(&manifest, "{}").unwrap();
    assert_eq!((failure().kind(), failure().path()), (Kind::Manifest, &*manifest));
    fs::remove_file(&manifest).unwrap();
    assert_eq!((failure().kind(), failure().path()), (Kind::Io, &*directory.join("model.mil")));

    // What a compiled pipeline looks like.
    fs::create_dir(directory.join("model0")).unwrap();
    fs::write(directory.join("model0/model.mil"), TEXT).unwrap();
    assert_eq!(failure().kind(), Kind::Pipeline);
}

#[test]
fn real_packages_load_and_can_be_written_again() {
    let Some(shared) = shared("real_packages_load_and_can_be_written_again") else { return };
    let place = tempfile::tempdir().unwrap();
    let mut count = 0;
    for folder in ["bundles", "synthetic"] {
        for entry in fs::read_dir(shared.join("mil").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                continue;
            }
            let name = path.file_name().unwrap();
            let bundle = load(&path).unwrap_or_else(|e| panic!("{e}"));
            let copy = place.path().join(name).with_extension("mlpackage");
            save_mlpackage(&bundle, &copy, "").unwrap_or_else(|e| panic!("{e}"));
            let again = load(&copy).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(print(&again.program), print(&bundle.program), "{name:?}");
            assert!(again == bundle, "{name:?}");
            // Garbage that old writers left in reserved fields is not written again.
            let weights = "Data/com.apple.CoreML/weights/weight.bin";
            let [old, new] = [&path, &copy].map(|p| fs::read(p.join(weights)).ok());
            if let Some(old) = old {
                assert_eq!(old.len(), new.expect("weights").len(), "{name:?}");
            }
            count += 1;
        }
    }
    assert!(count >= 4 + 9, "only {count} packages");
}

/// Sizes that inputs may have go from text to a package and back, as they were written; of a
/// package by somebody else they are read from its description.
#[test]
fn sizes_that_inputs_may_have_survive() {
    let ranged = "tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>(((\"DefaultShapes\", {{\"x\", [1, 4]}}), (\"RangeDims\", {{\"x\", [[1, 1], [2, 9]]}})))";
    let enumerated = "tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string, dict<string, tensor<int32, [?]>>>>>(((\"DefaultShapes\", {{\"x\", [1, 4]}}), (\"EnumeratedShapes\", {{\"0badcafe\", {{\"x\", [1, 4]}}}, {\"543d0f94\", {{\"x\", [1, 8]}}}})))";
    for attribute in [ranged, enumerated] {
        let text = format!(
            "program(1.3)\n[]\n{{\n    func main<ios18>(tensor<fp32, [1, ?]> x) \
             [FlexibleShapeInformation = {attribute}] {{\n            tensor<fp32, [1, ?]> y = \
             relu(x = x)[name = string(\"y\")];\n        }} -> (y);\n}}"
        );
        let program = orion_mil::text::parse(&text).unwrap();
        let allowed = orion_mil::flexible_inputs(program.main().unwrap());
        assert_eq!(allowed["x"].default, [1, 4]);
        let place = tempfile::tempdir().unwrap();
        let package = place.path().join("a.mlpackage");
        let bundle = Bundle { program: program.clone(), weights: Weights::new() };
        save_mlpackage(&bundle, &package, "").unwrap();
        assert_eq!(
            orion_mil::text::print(&load(&package).unwrap().program),
            orion_mil::text::print(&program)
        );
        // Without our own metadata only the description says it.
        let model = fs::read(package.join("Data/com.apple.CoreML/model.mlmodel")).unwrap();
        let described = &orion_mil::proto::decode_model(&model).unwrap().flexible["main"];
        assert_eq!(*described, allowed);
        let mut other = program.clone();
        other.functions[0].attributes.clear();
        orion_mil::set_flexible_inputs(&mut other.functions[0], described);
        assert_eq!(orion_mil::flexible_inputs(&other.functions[0]), allowed);
    }
}
