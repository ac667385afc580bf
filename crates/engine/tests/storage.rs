//! Weights in fewer bits: a model whose matrices are kept as bf16, fp16 or int8, or as a GGUF file
//! has them, gives the logits of a model whose fp32 matrices hold the same numbers.

use orion_cpu::Cpu;
use orion_cpu::reference::Reference;
use orion_engine::{
    Companions, Generator, LoadedModel, Numbers, Random, Target, convert, load_model,
    load_model_for_inference,
};
use orion_formats::Gguf;
use orion_formats::gguf::TensorKind;
use orion_models::{LlamaConfig, Network, WeightStorage, preset, quantize_rows};
use orion_runtime::Device;
use orion_tensor::{Bytes, DType, Tensor, Tolerance, f16};
use std::path::Path;
use std::sync::Arc;

fn random_model() -> LoadedModel {
    random_model_of(&preset("stories260k").unwrap().network())
}

fn random_model_of(network: &Network) -> LoadedModel {
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
    runs_as_in_f32(&narrow, &wide);
    // Asked for otherwise, they are widened.
    for dtype in [DType::F32, DType::F16] {
        let storage = WeightStorage::Float(dtype);
        let narrow = LoadedModel { storage, ..narrow.clone() };
        runs_as_in_f32(&narrow, &LoadedModel { storage, ..wide.clone() });
    }
}

/// Compares logits of both models, on both devices, after a prompt, a few tokens and a single one.
fn runs_as_in_f32(narrow: &LoadedModel, wide: &LoadedModel) {
    let vocab = wide.network.vocab_size() as u32;
    let prompt: Vec<u32> = (0..21).map(|i| i * 23 % vocab).collect();
    let devices: [Arc<dyn Device>; 2] = [Arc::new(Cpu::default()), Arc::new(Reference)];
    for device in &devices {
        let logits = |model: &LoadedModel| -> Vec<f64> {
            let mut generator = Generator::new(model, device.clone(), None).unwrap();
            let mut logits = generator.read(&prompt).unwrap().to_vec();
            logits.extend_from_slice(generator.read(&[3, 9, 5]).unwrap());
            logits.extend_from_slice(generator.read(&[7]).unwrap());
            logits.into_iter().map(f64::from).collect()
        };
        Tolerance::F32Network
            .check(&logits(narrow), &logits(wide))
            .unwrap_or_else(|e| panic!("{}: {e}", device.name()));
    }
}

/// Writes a model all of whose matrices are random blocks of that kind. They take the places of
/// Q8_0's, which no kind's are longer than.
fn write_random_blocks(kind: TensorKind, path: &Path) {
    let network = Network::Llama(LlamaConfig {
        vocab_size: 96,
        hidden_size: 256,
        intermediate_size: 512,
        n_layers: 1,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 64,
        max_positions: 64,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
        tied: true,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
    });
    let (model, none) = (random_model_of(&network), Companions::default());
    convert(&model, none, Target::Gguf, Some(Numbers::Q8_0), path, &mut |_| {}).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let whole = Bytes::from_elements(&bytes);
    let file = Gguf::parse(whole.clone()).unwrap();
    let mut random = orion_testing::Random::new(17);
    for (name, tensor) in file.tensors.iter().filter(|(_, t)| t.kind == TensorKind::Q8_0) {
        // The length of the name, the name, the number of axes and each axis, the kind.
        let entry = [&(name.len() as u64).to_le_bytes()[..], name.as_bytes()].concat();
        let found = whole.windows(entry.len()).position(|w| w == entry).unwrap();
        let at = found + entry.len() + 4 + 8 * tensor.shape.len();
        bytes[at..at + 4].copy_from_slice(&(kind as u32).to_le_bytes());
        let start = tensor.bytes.as_ptr() as usize - whole.as_ptr() as usize;
        let elements: usize = tensor.shape.iter().product();
        let blocks = elements / kind.block_elements();
        let data = &mut bytes[start..start + blocks * kind.block_bytes()];
        data.iter_mut().for_each(|byte| *byte = random.bits() as u8);
        for (i, block) in data.chunks_exact_mut(kind.block_bytes()).enumerate() {
            // Scales and minima with which numbers are about 0.1, whatever their bits.
            let (scale, minimum) = match kind {
                TensorKind::Q8_0 => (1e-3, None),
                TensorKind::Q4_0 => (2e-2, None),
                TensorKind::Q4_1 => (2e-2, Some(-0.15)),
                TensorKind::Q5_0 => (1e-2, None),
                TensorKind::Q5_1 => (1e-2, Some(-0.16)),
                TensorKind::Q4_K => (4e-4, Some(3e-3)),
                TensorKind::Q5_K => (2e-4, Some(3e-3)),
                TensorKind::Q6_K => (5e-5, None),
                plain => panic!("{} is not quantized", plain.name()),
            };
            let mut put = |at: usize, value: f64| {
                let value = value * random.uniform(0.5, 1.5);
                block[at..at + 2].copy_from_slice(&f16::from_f64(value).to_le_bytes());
            };
            let at = if kind == TensorKind::Q6_K { 208 } else { 0 };
            // Some blocks are their minimum and nothing else.
            put(at, if i % 7 == 3 { 0.0 } else { scale });
            if let Some(minimum) = minimum {
                put(2, minimum);
            }
        }
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn every_quantized_kind_runs_in_int8_as_in_f32() {
    let directory = tempfile::tempdir().unwrap();
    for kind in TensorKind::ALL.into_iter().filter(|k| k.scaled_elements().is_some()) {
        let path = directory.path().join(format!("{}.gguf", kind.name()));
        write_random_blocks(kind, &path);
        let wide = load_model(&path).unwrap();
        let narrow = load_model_for_inference(&path, WeightStorage::AsGiven).unwrap();
        let matrices = wide.parameters.values().filter(|t| t.shape().len() == 2).count();
        assert_eq!((wide.quantized.len(), narrow.quantized.len()), (0, matrices));
        for (name, matrix) in &narrow.quantized {
            let (ours, theirs) = (matrix.dequantize(), &wide.parameters[name]);
            let tolerance = if kind.has_minimum() { Tolerance::F32Accum } else { Tolerance::Exact };
            tolerance
                .check(&ours.to_f64_vec(), &theirs.to_f64_vec())
                .unwrap_or_else(|e| panic!("{name} as {}: {e}", kind.name()));
        }
        runs_as_in_f32(&narrow, &wide);
        // What `--precision` asks for is made of the file's own numbers.
        let storage = WeightStorage::Float(DType::BF16);
        let rounded = load_model_for_inference(&path, storage).unwrap();
        let expected = LoadedModel { storage, ..wide.clone() };
        assert_eq!(*rounded.index(16).weights(), *expected.index(16).weights(), "{}", kind.name());
    }
}
