use crate::adapters::Adapters;
use crate::divided::{Divider, ModelDevices};
use crate::programs::{loss_program, loss_source};
use crate::{
    Adapter, ByteCounts, Error, ErrorKind, LayerSchedule, LoadedModel, RangeReport, Result,
};
use orion_formats::TokenFile;
use orion_runtime::{Bindings, Executable, Layout, Surface};
use orion_tensor::DType;
use std::f64::consts::LN_2;

/// Which windows of a file are looked at, and which of their tokens count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowRule {
    /// Windows one behind the other, every token of each; the rest that fills none is left out.
    Disjoint,
    /// A window every `stride` tokens up to the end of the file, where they get shorter. All of
    /// the first counts, of the others the last `stride` tokens, so that some at the end count
    /// more than once: the sliding evaluation of Parameter Golf's records.
    Sliding {
        /// Tokens between windows; at most a window.
        stride: usize,
    },
    /// The same with full windows only, so that every token counts once: submission 801's.
    SlidingFull {
        /// Tokens between windows; at most a window.
        stride: usize,
    },
}

/// How a file is cut up for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationShape {
    /// Sequences at once.
    pub batch: usize,
    /// Tokens of a window.
    pub seq: usize,
    /// Which windows.
    pub rule: WindowRule,
    /// The most tokens to predict; `None` for the whole file.
    pub max_tokens: Option<usize>,
}

/// How well a model predicts a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Mean negative log likelihood of a token, in nats.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Windows looked at.
    pub windows: u64,
    /// Bytes of text that the tokens stand for, where a tokenizer was given.
    pub bytes: Option<u64>,
    /// What may have made numbers wrong.
    pub range: RangeReport,
}

impl Evaluation {
    /// `e` to the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }

    /// Bits that the model needs for a byte of text, on average: `val_bpb` of Parameter Golf.
    /// `None` without a tokenizer, or where there is no text.
    pub fn bits_per_byte(&self) -> Option<f64> {
        let bytes = self.bytes.filter(|&bytes| bytes > 0)?;
        Some(self.loss / LN_2 * (self.tokens as f64 / bytes as f64))
    }
}

/// The loss of a model on a token file, and per byte of text where `bytes` says what tokens stand
/// for.
///
/// # Errors
/// When the file does not fill a window or holds tokens outside the vocabulary, the window is
/// longer than the model takes, the stride is 0 or longer than a window, the device fails, or the
/// loss is not finite.
pub fn evaluate(
    model: &LoadedModel,
    devices: impl Into<ModelDevices>,
    file: &TokenFile,
    shape: EvaluationShape,
    bytes: Option<&ByteCounts>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Evaluation> {
    evaluate_adapted(model, None, devices, file, shape, bytes, progress)
}

/// [`evaluate`] with an adapter beside the model, if there is one.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_adapted(
    model: &LoadedModel,
    adapter: Option<&Adapter>,
    devices: impl Into<ModelDevices>,
    file: &TokenFile,
    shape: EvaluationShape,
    bytes: Option<&ByteCounts>,
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
    let devices = devices.into();
    let divider = Divider::new(model, shape.seq, &devices);
    let mut index = match &divider {
        Some(divider) => divider.index().clone(),
        None => model.index(shape.seq),
    };
    let mut adapters = Adapters::new(network);
    let chosen = [adapter.map(|adapter| adapters.load(adapter))];
    if let Some(shape) = adapters.shape(Adapters::bound(&chosen)) {
        index = index.with_adapters(shape);
    }
    let inputs = adapters.inputs(&chosen);
    let mut total = LossSum::new(file.clone(), shape, bytes)?;
    let mut range = RangeReport::default();
    // The windows at the end may not fill a batch; they go through one by one.
    for batch in [shape.batch, 1] {
        if !total.has_next(batch) {
            continue;
        }
        let mut loss = match &divider {
            Some(divider) => {
                let source = loss_source(network, &index, batch, shape.seq);
                Loss::Divided(Box::new(divider.divide(&source, None)?))
            }
            None => {
                let program = loss_program(network, &index, batch, shape.seq);
                Loss::Whole(devices.device.compile(&program, index.weights())?)
            }
        };
        while total.has_next(batch) {
            total.add(loss.executable(), batch, &mut |bindings| {
                if let Some(inputs) = &inputs {
                    inputs.bind(bindings);
                }
            })?;
            range.overflowed += loss.executable().numeric_events().overflowed;
            if let (None, Loss::Divided(layers)) = (&range.large, &loss) {
                range.large = layers.large_activation();
            }
            if !total.sum.is_finite() {
                let what = format!("the model gave no loss for window {}", total.done);
                let first = match &loss {
                    Loss::Divided(layers) => layers.first_not_finite(),
                    Loss::Whole(_) => None,
                };
                return Err(Error::not_finite(&what, &devices.name(), first));
            }
            progress(total.done as u64, total.windows as u64);
        }
    }
    Ok(Evaluation { range, ..total.result() })
}

/// A loss program on one device or on two.
enum Loss {
    Whole(Box<dyn Executable>),
    Divided(Box<LayerSchedule>),
}

impl Loss {
    fn executable(&mut self) -> &mut dyn Executable {
        match self {
            Self::Whole(executable) => executable.as_mut(),
            Self::Divided(layers) => layers.as_mut(),
        }
    }
}

/// The loss of a file being added up, window by window.
pub(crate) struct LossSum<'c> {
    file: TokenFile,
    shape: EvaluationShape,
    counts: Option<&'c ByteCounts>,
    /// Tokens that can be predicted.
    available: usize,
    done: usize,
    pub(crate) windows: usize,
    sum: f64,
    tokens: u64,
    bytes: u64,
}

/// A part of a file: inputs `start..start + length`, of whose targets those from `scored` on
/// count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    start: usize,
    length: usize,
    scored: usize,
}

impl<'c> LossSum<'c> {
    pub(crate) fn new(
        file: TokenFile,
        shape: EvaluationShape,
        counts: Option<&'c ByteCounts>,
    ) -> Result<Self> {
        if let WindowRule::Sliding { stride } | WindowRule::SlidingFull { stride } = shape.rule
            && !(1..=shape.seq).contains(&stride)
        {
            return Err(Error::new(
                ErrorKind::Length,
                format!(
                    "the stride is {stride}; it must be between 1 and the {} of a window",
                    shape.seq
                ),
            ));
        }
        let most = shape.max_tokens.unwrap_or(usize::MAX);
        let available = file.len().saturating_sub(1).min(most);
        let windows = window_count(shape.rule, shape.seq, available);
        if windows == 0 {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("there are {} tokens; one sequence needs {}", available + 1, shape.seq + 1),
            )
            .hint("use shorter sequences"));
        }
        let (done, sum, tokens, bytes) = (0, 0.0, 0, 0);
        Ok(Self { file, shape, counts, available, done, windows, sum, tokens, bytes })
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
        let seq = self.shape.seq;
        let windows: Vec<Window> = (self.done..self.done + batch)
            .map(|i| window(self.shape.rule, seq, self.available, i))
            .collect();
        // Behind the end of a short window stands anything: no token sees those behind it.
        let mut inputs = vec![0i32; batch * seq];
        let mut answers = vec![0i32; batch * seq];
        let mut ids = vec![0u32; seq + 1];
        for (i, window) in windows.iter().enumerate() {
            let ids = &mut ids[..window.length + 1];
            self.file.copy_window(window.start, ids);
            for (at, pair) in ids.windows(2).enumerate() {
                inputs[i * seq + at] = pair[0] as i32;
                answers[i * seq + at] = pair[1] as i32;
                if at >= window.scored
                    && let Some(counts) = self.counts
                {
                    self.bytes += counts.bytes(pair[0], pair[1]);
                }
            }
        }
        let tokens = Surface::from_slice(&[batch * seq], &inputs);
        let targets = Surface::from_slice(&[batch * seq], &answers);
        let mut loss = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let mut losses = Surface::zeros(Layout::dense(DType::F32, &[batch * seq]));
        let mut bindings = Bindings::new();
        bind(&mut bindings);
        // The surfaces above live shorter than what `bind` adds; the map's lifetime shrinks to
        // theirs here.
        run_bound(executable, bindings, &tokens, &targets, &mut loss, &mut losses)?;
        let rows = losses.elements::<f32>().chunks_exact(seq);
        for (window, row) in windows.iter().zip(rows) {
            let scored = &row[window.scored..window.length];
            self.sum += scored.iter().map(|&l| f64::from(l)).sum::<f64>();
            self.tokens += scored.len() as u64;
        }
        self.done += batch;
        Ok(())
    }

    pub(crate) fn result(&self) -> Evaluation {
        Evaluation {
            loss: self.sum / self.tokens as f64,
            tokens: self.tokens,
            windows: self.done as u64,
            bytes: self.counts.map(|_| self.bytes),
            range: RangeReport::default(),
        }
    }
}

/// How many windows of `seq` there are over `available` targets.
fn window_count(rule: WindowRule, seq: usize, available: usize) -> usize {
    match rule {
        WindowRule::Disjoint => available / seq,
        WindowRule::Sliding { stride } => available.div_ceil(stride),
        WindowRule::SlidingFull { .. } if available < seq => 0,
        WindowRule::SlidingFull { stride } => (available - seq) / stride + 1,
    }
}

/// The window of that number.
fn window(rule: WindowRule, seq: usize, available: usize, number: usize) -> Window {
    let (step, new) = match rule {
        WindowRule::Disjoint => (seq, seq),
        WindowRule::Sliding { stride } | WindowRule::SlidingFull { stride } => (stride, stride),
    };
    let start = number * step;
    let length = seq.min(available - start);
    let scored = if number == 0 { 0 } else { length.saturating_sub(new) };
    Window { start, length, scored }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(rule: WindowRule, seq: usize, available: usize) -> Vec<[usize; 3]> {
        (0..window_count(rule, seq, available))
            .map(|i| window(rule, seq, available, i))
            .map(|w| [w.start, w.length, w.scored])
            .collect()
    }

    #[test]
    fn windows_by_hand() {
        assert_eq!(windows(WindowRule::Disjoint, 4, 11), [[0, 4, 0], [4, 4, 0]]);
        let sliding = WindowRule::Sliding { stride: 2 };
        let expected = [[0, 4, 0], [2, 4, 2], [4, 4, 2], [6, 3, 1], [8, 1, 0]];
        assert_eq!(windows(sliding, 4, 9), expected);
        let full = WindowRule::SlidingFull { stride: 2 };
        assert_eq!(windows(full, 4, 9), [[0, 4, 0], [2, 4, 2], [4, 4, 2]]);
        assert!(windows(full, 4, 3).is_empty());
    }

    /// The counts that the golf repository's own functions and logs give.
    #[test]
    fn windows_are_as_many_as_in_published_logs() {
        let full = WindowRule::SlidingFull { stride: 64 };
        assert_eq!(window_count(full, 256, 524_288), 8189);
        let scored = |rule| -> usize {
            windows(rule, 64, 512).iter().map(|[_, length, scored]| length - scored).sum()
        };
        let sliding = WindowRule::Sliding { stride: 16 };
        assert_eq!((window_count(sliding, 64, 512), scored(sliding)), (32, 560));
        assert_eq!(scored(WindowRule::SlidingFull { stride: 16 }), 512);
    }
}
