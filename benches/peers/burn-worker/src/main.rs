//! One contender: burn, as a process that measures one repetition for every line it reads.
//!
//! usage: burn-worker train stories110m f32 BATCH TOKENS THREADS

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::io::BufRead;
use std::time::Instant;

const WIDTH: usize = 768;
const INNER: usize = 2048;
const LAYERS: usize = 12;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;
const VOCAB: usize = 32000;

#[derive(Module, Debug)]
struct Block {
    norm1: RmsNorm,
    norm2: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
}

#[derive(Module, Debug)]
struct Llama {
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
}

/// What depends on positions only.
struct Tables {
    cosines: Tensor<4>,
    sines: Tensor<4>,
    mask: Tensor<4>,
}

impl Tables {
    fn new(length: usize, device: &Device) -> Self {
        let half = HEAD / 2;
        let angle = |p: usize, i: usize| p as f32 * 1e4f32.powf(-(i as f32) / half as f32);
        let angles: Vec<f32> =
            (0..length).flat_map(|p| (0..half).map(move |i| angle(p, i))).collect();
        let angles = Tensor::from_data(TensorData::new(angles, [1, 1, length, half]), device);
        let mask: Vec<f32> = (0..length)
            .flat_map(|q| (0..length).map(move |k| if k > q { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        Self {
            cosines: Tensor::cos(angles.clone()),
            sines: Tensor::sin(angles),
            mask: Tensor::from_data(TensorData::new(mask, [1, 1, length, length]), device),
        }
    }

    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let mut halves = x.chunk(2, 3);
        let (b, a) = (halves.pop().expect("two"), halves.pop().expect("two"));
        let (cosines, sines) = (&self.cosines, &self.sines);
        let first = a.clone() * cosines.clone() - b.clone() * sines.clone();
        let second = a * sines.clone() + b * cosines.clone();
        Tensor::cat(vec![first, second], 3)
    }
}

impl Llama {
    fn new(device: &Device) -> Self {
        let linear = |i, o| LinearConfig::new(i, o).with_bias(false).init(device);
        let norm = || RmsNormConfig::new(WIDTH).init(device);
        let block = |_| Block {
            norm1: norm(),
            norm2: norm(),
            q: linear(WIDTH, WIDTH),
            k: linear(WIDTH, WIDTH),
            v: linear(WIDTH, WIDTH),
            o: linear(WIDTH, WIDTH),
            gate: linear(WIDTH, INNER),
            up: linear(WIDTH, INNER),
            down: linear(INNER, WIDTH),
        };
        Self {
            embedding: EmbeddingConfig::new(VOCAB, WIDTH).init(device),
            blocks: (0..LAYERS).map(block).collect(),
            norm: norm(),
        }
    }

    fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>, tables: &Tables) -> Tensor<1> {
        let [batch, length] = tokens.dims();
        let split =
            |y: Tensor<3>| y.reshape([batch, length, HEADS, HEAD]).swap_dims(1, 2);
        let mut x = self.embedding.forward(tokens);
        for block in &self.blocks {
            let n = block.norm1.forward(x.clone());
            let q = tables.rotate(split(block.q.forward(n.clone())));
            let k = tables.rotate(split(block.k.forward(n.clone())));
            let v = split(block.v.forward(n));
            let scores = q.matmul(k.swap_dims(2, 3)).div_scalar((HEAD as f32).sqrt());
            let attended = softmax(scores + tables.mask.clone(), 3).matmul(v);
            let attended = attended.swap_dims(1, 2).reshape([batch, length, WIDTH]);
            x = x + block.o.forward(attended);
            let n = block.norm2.forward(x.clone());
            let inner = silu(block.gate.forward(n.clone())) * block.up.forward(n);
            x = x + block.down.forward(inner);
        }
        let x = self.norm.forward(x).reshape([batch * length, WIDTH]);
        let logits = x.matmul(self.embedding.weight.val().transpose());
        let device = logits.device();
        CrossEntropyLossConfig::new()
            .init(&device)
            .forward(logits, targets.reshape([batch * length]))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, test, model, precision, batch, tokens, _threads] = &arguments[..] else {
        panic!("usage: burn-worker train stories110m f32 BATCH TOKENS THREADS");
    };
    assert_eq!((test.as_str(), model.as_str(), precision.as_str()), ("train", "stories110m", "f32"));
    let (batch, tokens): (usize, usize) = (batch.parse().unwrap(), tokens.parse().unwrap());
    let device = Device::flex().autodiff();
    let tables = Tables::new(tokens, &device);
    let mut model = Some(Llama::new(&device));
    let mut optimizer = AdamWConfig::new().init();
    let ids = |_| {
        let ids: Vec<i64> =
            (0..batch * tokens).map(|_| rand::random_range(0..VOCAB as i64)).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, tokens]), &device)
    };
    let [inputs, targets] = [0, 1].map(ids);
    let mut step = || {
        let begin = Instant::now();
        let now = model.take().expect("the last step gave it back");
        let loss = now.loss(inputs.clone(), targets.clone(), &tables);
        let gradients = GradientsParams::from_grads(loss.backward(), &now);
        model = Some(optimizer.step(1e-4, now, gradients));
        begin.elapsed().as_secs_f64()
    };
    step();
    println!("{{\"ready\": true, \"version\": \"0.22\"}}");
    for line in std::io::stdin().lock().lines() {
        let count: usize = line.unwrap().trim().parse().unwrap();
        let seconds: Vec<f64> = (0..count).map(|_| step()).collect();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0);
        println!("{{\"seconds\": {seconds:?}, \"peak_rss_bytes\": {}}}", peak * 1024);
    }
}
