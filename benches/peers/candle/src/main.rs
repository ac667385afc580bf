//! One contender: candle, as a process that measures one repetition for every line it reads.
//!
//! usage: candle train stories110m f32 BATCH TOKENS THREADS

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap, ops};
use std::io::BufRead;
use std::time::Instant;

const WIDTH: usize = 768;
const INNER: usize = 2048;
const LAYERS: usize = 12;
const HEADS: usize = 12;
const VOCAB: usize = 32000;

struct Block {
    norms: [Tensor; 2],
    qkvo: [Tensor; 4],
    gate_up_down: [Tensor; 3],
}

struct Llama {
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    cosines: Tensor,
    sines: Tensor,
    mask: Tensor,
}

fn matrix(vb: &VarBuilder, name: &str, outputs: usize, inputs: usize) -> Result<Tensor> {
    let init = candle_nn::Init::Randn { mean: 0.0, stdev: 0.02 };
    vb.get_with_hints((outputs, inputs), name, init)
}

fn ones(vb: &VarBuilder, name: &str) -> Result<Tensor> {
    vb.get_with_hints(WIDTH, name, candle_nn::Init::Const(1.0))
}

fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    let y = x.reshape((batch * length, width))?.matmul(&weight.t()?)?;
    y.reshape((batch, length, weight.dim(0)?))
}

fn rms_norm(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
    x.broadcast_div(&scale)?.broadcast_mul(weight)
}

impl Llama {
    fn new(vb: &VarBuilder, length: usize, device: &Device) -> Result<Self> {
        let blocks = (0..LAYERS).map(|i| {
            let vb = vb.pp(i);
            let square = |name| matrix(&vb, name, WIDTH, WIDTH);
            Ok(Block {
                norms: [ones(&vb, "norm1")?, ones(&vb, "norm2")?],
                qkvo: [square("q")?, square("k")?, square("v")?, square("o")?],
                gate_up_down: [
                    matrix(&vb, "gate", INNER, WIDTH)?,
                    matrix(&vb, "up", INNER, WIDTH)?,
                    matrix(&vb, "down", WIDTH, INNER)?,
                ],
            })
        });
        let half = WIDTH / HEADS / 2;
        let angles: Vec<f32> = (0..length)
            .flat_map(|p| (0..half).map(move |i| p as f32 * 1e4f32.powf(-(i as f32) / half as f32)))
            .collect();
        let angles = Tensor::from_vec(angles, (1, 1, length, half), device)?;
        let mask: Vec<f32> = (0..length)
            .flat_map(|q| (0..length).map(move |k| if k > q { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        Ok(Self {
            embedding: matrix(vb, "embedding", VOCAB, WIDTH)?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: ones(vb, "norm")?,
            cosines: angles.cos()?,
            sines: angles.sin()?,
            mask: Tensor::from_vec(mask, (1, 1, length, length), device)?,
        })
    }

    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let times = |x: &Tensor, y: &Tensor| x.broadcast_mul(y);
        let first = (times(&a, &self.cosines)? - times(&b, &self.sines)?)?;
        let second = (times(&a, &self.sines)? + times(&b, &self.cosines)?)?;
        Tensor::cat(&[first, second], D::Minus1)
    }

    fn loss(&self, tokens: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (batch, length) = tokens.dims2()?;
        let mut x = self.embedding.index_select(&tokens.flatten_all()?, 0)?;
        x = x.reshape((batch, length, WIDTH))?;
        let split = |y: Tensor| -> Result<Tensor> {
            y.reshape((batch, length, HEADS, WIDTH / HEADS))?.transpose(1, 2)?.contiguous()
        };
        for block in &self.blocks {
            let n = rms_norm(&x, &block.norms[0])?;
            let [q, k, v, o] = &block.qkvo;
            let q = self.rotate(&split(linear(&n, q)?)?)?;
            let k = self.rotate(&split(linear(&n, k)?)?)?;
            let v = split(linear(&n, v)?)?;
            let scale = 1.0 / ((WIDTH / HEADS) as f64).sqrt();
            let scores = (q.matmul(&k.t()?)? * scale)?.broadcast_add(&self.mask)?;
            let attended = ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
            let attended = attended.transpose(1, 2)?.reshape((batch, length, WIDTH))?;
            x = (x + linear(&attended, o)?)?;
            let n = rms_norm(&x, &block.norms[1])?;
            let [gate, up, down] = &block.gate_up_down;
            let inner = (linear(&n, gate)?.silu()? * linear(&n, up)?)?;
            x = (x + linear(&inner, down)?)?;
        }
        let logits = linear(&rms_norm(&x, &self.norm)?, &self.embedding)?;
        candle_nn::loss::cross_entropy(&logits.flatten(0, 1)?, &targets.flatten_all()?)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, test, model, precision, batch, tokens, _threads] = &arguments[..] else {
        panic!("usage: candle train stories110m f32 BATCH TOKENS THREADS");
    };
    assert_eq!((test.as_str(), model.as_str(), precision.as_str()), ("train", "stories110m", "f32"));
    let (batch, tokens): (usize, usize) = (batch.parse().unwrap(), tokens.parse().unwrap());
    let device = Device::Cpu;
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &device);
    let model = Llama::new(&vb, tokens, &device)?;
    let all: Vec<Var> = variables.all_vars();
    let mut optimizer = AdamW::new(all, ParamsAdamW { lr: 1e-4, ..ParamsAdamW::default() })?;
    let ids: Vec<u32> = (0..batch * (tokens + 1)).map(|_| rand::random_range(0..VOCAB as u32)).collect();
    let ids = Tensor::from_vec(ids, (batch, tokens + 1), &device)?;
    let (inputs, targets) = (ids.narrow(1, 0, tokens)?, ids.narrow(1, 1, tokens)?);
    let mut step = || -> Result<f64> {
        let begin = Instant::now();
        let loss = model.loss(&inputs, &targets)?;
        optimizer.backward_step(&loss)?;
        Ok(begin.elapsed().as_secs_f64())
    };
    step()?;
    println!("{{\"ready\": true, \"version\": \"0.11\"}}");
    for line in std::io::stdin().lock().lines() {
        let count: usize = line?.trim().parse().unwrap();
        let seconds: Vec<f64> = (0..count).map(|_| step()).collect::<Result<_>>()?;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0);
        println!("{{\"seconds\": {seconds:?}, \"peak_rss_bytes\": {}}}", peak * 1024);
    }
    Ok(())
}
