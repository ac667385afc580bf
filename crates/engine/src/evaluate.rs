use crate::programs::loss_program;
use crate::{DataPosition, Error, ErrorKind, LoadedModel, Order, Result, Windows};
use orion_formats::TokenFile;
use orion_runtime::{Bindings, Device, Executable, Layout, Surface};
use orion_tensor::DType;
use std::sync::Arc;

/// How a file is cut up for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationShape {
    /// Sequences at once.
    pub batch: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// The most batches to take; `None` for the whole file.
    pub batches: Option<usize>,
}

/// How well a model predicts a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean negative log likelihood of a token, in nats.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: u64,
}

impl Evaluation {
    /// `e` to the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// The loss of a model on a token file, over windows that do not overlap.
///
/// # Errors
/// When the file does not fill a window or holds tokens outside the vocabulary, the window is
/// longer than the model takes, or the device fails.
pub fn evaluate(
    model: &LoadedModel,
    device: &Arc<dyn Device>,
    file: &TokenFile,
    shape: EvaluationShape,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Evaluation> {
    let network = &model.network;
    if shape.seq > network.max_positions() {
        return Err(Error::new(
            ErrorKind::Length,
            format!(
                "sequences of {} tokens were asked for; this model takes at most {}",
                shape.seq,
                network.max_positions()
            ),
        ));
    }
    file.check_vocab(network.vocab_size())?;
    let index = model.index(shape.seq);
    let mut total = LossSum::new(file.clone(), shape)?;
    // The windows at the end may not fill a batch; they go through one by one.
    for batch in [shape.batch, 1] {
        if !total.has_next(batch) {
            continue;
        }
        let program = loss_program(network, &index, batch, shape.seq);
        let mut executable = device.compile(&program, index.weights())?;
        while total.has_next(batch) {
            total.add(executable.as_mut(), batch, &mut |_| {})?;
            progress(total.done as u64, total.windows as u64);
        }
    }
    Ok(total.result())
}

/// The loss of a file being added up, window by window.
pub(crate) struct LossSum {
    source: Windows,
    seq: usize,
    done: usize,
    pub(crate) windows: usize,
    sum: f64,
    tokens: Vec<i32>,
    targets: Vec<i32>,
}

impl LossSum {
    pub(crate) fn new(file: TokenFile, shape: EvaluationShape) -> Result<Self> {
        let position = DataPosition::default();
        let source = Windows::new(file, shape.seq, Order::Sequential, 0, position)?;
        let most = shape.batches.map_or(usize::MAX, |n| n.saturating_mul(shape.batch));
        let windows = source.count().min(most);
        let (tokens, targets) = (Vec::new(), Vec::new());
        Ok(Self { source, seq: shape.seq, done: 0, windows, sum: 0.0, tokens, targets })
    }

    /// Whether another `batch` windows are left.
    pub(crate) fn has_next(&self, batch: usize) -> bool {
        self.done + batch <= self.windows
    }

    /// Runs a loss program on the next windows; `bind` adds what else the program wants.
    pub(crate) fn add<'a>(
        &mut self,
        executable: &mut dyn Executable,
        batch: usize,
        bind: &mut dyn FnMut(&mut Bindings<'a>),
    ) -> Result<()> {
        self.source.next_batch(batch, &mut self.tokens, &mut self.targets);
        let count = batch * self.seq;
        let tokens = Surface::from_slice(&[count], &self.tokens);
        let targets = Surface::from_slice(&[count], &self.targets);
        let mut loss = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let mut losses = Surface::zeros(Layout::dense(DType::F32, &[count]));
        let mut bindings = Bindings::new();
        bind(&mut bindings);
        // The surfaces above live shorter than what `bind` adds; the map's lifetime shrinks to
        // theirs here.
        run_bound(executable, bindings, &tokens, &targets, &mut loss, &mut losses)?;
        self.sum += losses.elements::<f32>().iter().map(|&l| f64::from(l)).sum::<f64>();
        self.done += batch;
        Ok(())
    }

    pub(crate) fn result(&self) -> Evaluation {
        let tokens = (self.done * self.seq) as u64;
        Evaluation { loss: self.sum / tokens as f64, tokens }
    }
}

fn run_bound<'a>(
    executable: &mut dyn Executable,
    mut bindings: Bindings<'a>,
    tokens: &'a Surface,
    targets: &'a Surface,
    loss: &'a mut Surface,
    losses: &'a mut Surface,
) -> Result<()> {
    bindings.input("tokens", tokens).input("targets", targets);
    bindings.output("loss", loss).output("token_losses", losses);
    Ok(executable.run(&mut bindings)?)
}
