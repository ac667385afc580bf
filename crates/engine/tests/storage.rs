//! Weights in fewer bits: a model whose matrices are kept as bf16, fp16 or int8 gives the logits
//! of a model whose fp32 matrices hold the rounded numbers.

use orion_cpu::Cpu;
use orion_cpu::reference::Reference;
use orion_engine::{
    Companions, Generator, LoadedModel, Numbers, Random, Target, convert, load_model,
    load_model_for_inference,
};
use orion_models::{WeightStorage, preset, quantize_rows};
use orion_runtime::Device;
use orion_tensor::{DType, Tensor, Tolerance};
use std::sync::Arc;

fn random_model() -> LoadedModel {
    let network = preset("stories260k").unwrap().network();
    let mut random = Random::new(5);
    let parameters = network.parameters().into_iter().map(|spec| {
        let count = spec.shape.iter().product();
        let values: Vec<f32> = match spec.shape.len() {
            1 => vec![1.0; count],
            _ => (0..count).map(|_| (random.uniform() - 0.5) as f32 * 0.3).collect(),
        };
        (spec.name, Tensor::from_slice(&spec.shape, &values))
    });
    LoadedModel::new(network.clone(), parameters.collect())
}

/// The form that is asked for is made while the file is read, and is that of the programs.
#[test]
fn what_is_made_while_loading_is_what_programs_make() {
    let directory = tempfile::tempdir().unwrap();
    let (model, none) = (random_model(), Companions::default());
    let [hf, gguf] = ["hf", "model.gguf"].map(|name| directory.path().join(name));
    convert(&model, none, Target::SafeTensors, None, &hf, &mut |_| {}).unwrap();
    convert(&model, none, Target::Gguf, None, &gguf, &mut |_| {}).unwrap();
    for storage in [WeightStorage::Int8, WeightStorage::Float(DType::F16)] {
        let whole = LoadedModel { storage, ..model.clone() };
        let expected = whole.index(16).weights().clone();
        for path in [&hf, &gguf] {
            let loaded = load_model_for_inference(path, storage).unwrap();
            let narrow = |t: &&Tensor| t.shape().len() == 2 && t.dtype() == DType::F32;
            assert_eq!(loaded.parameters.values().find(narrow), None, "{storage:?}");
            assert_eq!(*loaded.index(16).weights(), expected, "{storage:?}");
        }
    }
}

/// The numbers that remain of a matrix.
fn rounded(matrix: &Tensor, storage: WeightStorage) -> Tensor {
    let values: Vec<f64> = match storage {
        WeightStorage::Int8 => {
            let quantized = quantize_rows(matrix);
            let (data, scale) = (quantized.data.to_f32_vec(), quantized.scale.to_f32_vec());
            let block = data.len() / scale.len();
            data.iter().enumerate().map(|(i, q)| f64::from(q * scale[i / block])).collect()
        }
        WeightStorage::Float(dtype) => {
            let wide: Vec<f64> = matrix.to_f32_vec().into_iter().map(f64::from).collect();
            let narrow = Tensor::from_f64(dtype, matrix.shape(), &wide);
            narrow.to_f32_vec().into_iter().map(f64::from).collect()
        }
        other => panic!("{other:?} rounds nothing"),
    };
    Tensor::from_f64(DType::F32, matrix.shape(), &values)
}

#[test]
fn logits_are_those_of_the_rounded_weights() {
    let model = random_model();
    let storages = [
        WeightStorage::Int8,
        WeightStorage::Float(DType::BF16),
        WeightStorage::Float(DType::F16),
        WeightStorage::Float(DType::F32),
    ];
    let prompt: Vec<u32> = (0..21).map(|i| i * 23 % 512).collect();
    let devices: [Arc<dyn Device>; 2] = [Arc::new(Cpu::default()), Arc::new(Reference)];
    for storage in storages {
        let narrow = LoadedModel { storage, ..model.clone() };
        let mut wide = model.clone();
        for tensor in wide.parameters.values_mut().filter(|t| t.shape().len() == 2) {
            *tensor = rounded(tensor, storage);
        }
        for device in &devices {
            let logits = |model: &LoadedModel| {
                let mut generator = Generator::new(model, device.clone(), None).unwrap();
                // A prefill program, then one for a single token.
                let mut logits = generator.read(&prompt).unwrap().to_vec();
                logits.extend_from_slice(generator.read(&[7]).unwrap());
                logits.into_iter().map(f64::from).collect::<Vec<f64>>()
            };
            let place = format!("{storage:?} on {}", device.name());
            Tolerance::F32Network
                .check(&logits(&narrow), &logits(&wide))
                .unwrap_or_else(|e| panic!("{place}: {e}"));
        }
    }
}

#[test]
fn what_a_file_has_in_int8_stays_so_for_inference() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let (model, none) = (random_model(), Companions::default());
    convert(&model, none, Target::Gguf, Some(Numbers::Q8_0), &path, &mut |_| {}).unwrap();
    let wide = load_model(&path).unwrap();
    let narrow = load_model_for_inference(&path, WeightStorage::AsGiven).unwrap();
    assert!(wide.quantized.is_empty() && !narrow.quantized.is_empty());
    for (name, matrix) in &narrow.quantized {
        assert!(!narrow.parameters.contains_key(name), "{name} is there twice");
        assert_eq!(matrix.dequantize(), wide.parameters[name], "{name}");
    }
    assert_eq!(narrow.quantized.len() + narrow.parameters.len(), wide.parameters.len());
    let prompt: Vec<u32> = (0..21).map(|i| i * 23 % 512).collect();
    let devices: [Arc<dyn Device>; 2] = [Arc::new(Cpu::default()), Arc::new(Reference)];
    for device in &devices {
        let logits = |model: &LoadedModel| -> Vec<f64> {
            let mut generator = Generator::new(model, device.clone(), None).unwrap();
            let mut logits = generator.read(&prompt).unwrap().to_vec();
            logits.extend_from_slice(generator.read(&[7]).unwrap());
            logits.into_iter().map(f64::from).collect()
        };
        let expected = logits(&wide);
        Tolerance::F32Network.check(&logits(&narrow), &expected).unwrap();
        // Asked for otherwise, they are widened.
        for dtype in [DType::F32, DType::F16] {
            let storage = WeightStorage::Float(dtype);
            let ours = logits(&LoadedModel { storage, ..narrow.clone() });
            let theirs = logits(&LoadedModel { storage, ..wide.clone() });
            Tolerance::F32Network.check(&ours, &theirs).unwrap();
        }
    }
}
