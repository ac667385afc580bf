//! One training step: gradients of every micro-batch, the update, and the scale of the loss.

use super::Trainer;
use crate::programs::{gradient_program, update_program, weighted_gradient_program};
use crate::{Batch, Error, ErrorKind, LayerSchedule, Result, StepReport};
use orion_runtime::{Bindings, Executable, Layout, NumericEvents, Surface};
use orion_tensor::DType;
use std::time::Instant;

/// Steps in a row whose gradients are not finite before a run gives up.
const MOST_SKIPPED_IN_A_ROW: u32 = 10;

/// Finite steps after which a dynamic loss scale doubles.
const GROWTH_INTERVAL: u64 = 2000;

impl Trainer {
    /// One optimizer update.
    pub(super) fn train_step(&mut self) -> Result<StepReport> {
        let begin = Instant::now();
        let micro_batches = self.config.train.grad_accum;
        let sequences = self.config.train.batch;
        let batches: Vec<Batch> =
            (0..micro_batches).map(|_| self.data.next_batch(sequences)).collect();
        let counted = batches.iter().flat_map(|b| b.counted.iter().flatten());
        // The loss of a step is the mean over all tokens that count, whichever micro-batch they
        // are in.
        let share = micro_batches as f64 / counted.filter(|&&counts| counts).count() as f64;
        let mut loss = 0.0;
        let (mut numbers, mut overflowed_in) = (NumericEvents::default(), None);
        let (mut backward, mut large) = (NumericEvents::default(), None);
        for (i, batch) in batches.iter().enumerate() {
            loss += self.accumulate_gradients(batch, share, i)?;
            if let Some(layers) = &self.layers {
                numbers.add(layers.numeric_events());
                backward.add(layers.backward_events());
                overflowed_in = overflowed_in.or_else(|| layers.first_overflowed());
                large = large.or_else(|| layers.large_activation());
            }
        }
        loss /= micro_batches as f64;
        let lr = self.config.learning_rate(self.state.step);
        let grad_norm = match self.layers {
            Some(_) => self.update_later(lr),
            None => self.update(lr)?,
        };
        let loss_scale = self.state.loss_scale;
        let finite = grad_norm.is_finite();
        let not_finite = self.layers.as_ref().filter(|_| !finite);
        let not_finite = not_finite.and_then(LayerSchedule::first_not_finite);
        self.adapt_loss_scale(finite, loss)?;
        let step = self.state.step;
        let step_tokens = batches.iter().map(|b| b.read as u64).sum::<u64>();
        self.state.step += 1;
        self.state.tokens += step_tokens;
        self.state.micro_batches += micro_batches as u64;
        self.state.data = self.data.position();
        if self.layers.as_ref().is_some_and(|layers| !layers.overlaps_update()) {
            self.finish_update()?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        Ok(StepReport {
            step,
            loss,
            grad_norm,
            lr,
            tokens: self.state.tokens,
            tokens_per_s: step_tokens as f64 / seconds,
            ms: seconds * 1e3,
            skipped: !finite,
            loss_scale,
            numbers,
            dropped: (backward.products > 0)
                .then(|| backward.dropped as f64 / backward.products as f64),
            overflowed_in,
            not_finite,
            large,
        })
    }

    /// Forward and backward of one micro-batch of the step, counted from 0; returns its loss. `share` is that of a token of
    /// the loss, where only some count.
    fn accumulate_gradients(&mut self, batch: &Batch, share: f64, number: usize) -> Result<f64> {
        let (sequences, seq) = (self.config.train.batch, self.config.train.seq);
        let tokens = Surface::from_slice(&[batch.tokens.len()], &batch.tokens);
        let targets = Surface::from_slice(&[batch.targets.len()], &batch.targets);
        let weights = batch.counted.as_ref().map(|counted| {
            let weights: Vec<f32> =
                counted.iter().map(|&counts| if counts { share as f32 } else { 0.0 }).collect();
            Surface::from_slice(&[weights.len()], &weights)
        });
        let loss_scale = Surface::from_slice(&[1], &[self.state.loss_scale as f32]);
        let mut loss = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let gradient_scale = self.gradient_scale();
        let (is_first, is_last) = (number == 0, number + 1 == self.config.train.grad_accum);
        let program = match weights {
            Some(_) => weighted_gradient_program,
            None => gradient_program,
        };
        let mut bindings = Bindings::new();
        bindings.input("tokens", &tokens).input("targets", &targets);
        bindings.input("loss_scale", &loss_scale).output("loss", &mut loss);
        if let Some(weights) = &weights {
            bindings.input("weights", weights);
        }
        if let Some(base) = &self.base {
            base.bind(&mut bindings);
        }
        for p in &mut self.parameters {
            if self.layers.is_some() {
                p.bind_update(&mut bindings);
                continue;
            }
            bindings.input(&p.names.value, &p.value);
            if is_first {
                bindings.output(&p.names.gradient, &mut p.gradient);
            } else {
                bindings.update(&p.names.gradient, &mut p.gradient);
            }
        }
        let begin = Instant::now();
        match &mut self.layers {
            Some(layers) => {
                layers.run_micro_batch(&mut bindings, [is_first, is_last], gradient_scale)?;
            }
            None => {
                let (network, index) = (&self.network, &self.index);
                let key = if is_first { "gradients" } else { "accumulate" };
                let executable = self
                    .programs
                    .get(key, || program(network, index, sequences, seq, !is_first))?;
                executable.run(&mut bindings)?;
            }
        }
        if let Some(trace) = &mut self.trace {
            match &self.layers {
                Some(layers) => trace.parts(layers, self.state.step)?,
                None => trace.gradients(self.state.step, begin)?,
            }
        }
        Ok(f64::from(loss.elements::<f32>()[0]))
    }

    /// What gradients of a step's micro-batches together are multiplied by first.
    fn gradient_scale(&self) -> f64 {
        1.0 / (self.state.loss_scale * self.config.train.grad_accum as f64)
    }

    /// How far the moments of this step are from what they tend to.
    fn bias_corrections(&self) -> [f64; 2] {
        let o = &self.config.optimizer;
        [o.beta1, o.beta2].map(|beta| 1.0 - beta.powf((self.state.step + 1) as f64))
    }

    /// The optimizer on two devices, which is put off; returns the global gradient norm. Weights
    /// and moments stay as they are when that is not finite.
    fn update_later(&mut self, lr: f64) -> f64 {
        let corrections = self.bias_corrections();
        let layers = self.layers.as_mut().expect("there are two devices");
        let norm = layers.gradient_norm();
        if norm.is_finite() {
            layers.update_later(lr, corrections);
        }
        norm
    }

    /// Makes an update that was put off, so that weights are those of all steps made.
    pub(super) fn finish_update(&mut self) -> Result<()> {
        let Some(layers) = &mut self.layers else { return Ok(()) };
        if !layers.is_update_due() {
            return Ok(());
        }
        let mut bindings = Bindings::new();
        self.parameters.iter_mut().for_each(|p| p.bind_update(&mut bindings));
        layers.finish_update(&mut bindings)?;
        if let Some(trace) = &mut self.trace {
            trace.parts(layers, self.state.step)?;
        }
        Ok(())
    }

    /// The optimizer; returns the global gradient norm. Weights and moments stay as they are
    /// when that is not finite.
    fn update(&mut self, lr: f64) -> Result<f64> {
        let scalar = |v: f64| Surface::from_slice(&[1], &[v as f32]);
        let learning_rate = scalar(lr);
        let [beta1_correction, beta2_correction] = self.bias_corrections().map(scalar);
        let gradient_scale = scalar(self.gradient_scale());
        let o = &self.config.optimizer;
        let mut norm = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let mut finite = norm.clone();
        let specs = || self.parameters.iter().map(|p| p.spec.clone()).collect::<Vec<_>>();
        let executable = self.programs.get("update", || update_program(&specs(), o))?;
        let mut bindings = Bindings::new();
        bindings
            .input("learning_rate", &learning_rate)
            .input("beta1_correction", &beta1_correction)
            .input("beta2_correction", &beta2_correction)
            .input("gradient_scale", &gradient_scale)
            .output("gradient_norm", &mut norm)
            .output("finite", &mut finite);
        for p in &mut self.parameters {
            bindings.update(&p.names.value, &mut p.value);
            bindings.input(&p.names.gradient, &p.gradient);
            bindings.update(&p.names.first_moment, &mut p.first_moment);
            bindings.update(&p.names.second_moment, &mut p.second_moment);
        }
        let begin = Instant::now();
        executable.run(&mut bindings)?;
        if let Some(trace) = &mut self.trace {
            trace.update(self.state.step, begin)?;
        }
        Ok(f64::from(norm.elements::<f32>()[0]))
    }

    fn adapt_loss_scale(&mut self, finite: bool, loss: f64) -> Result<()> {
        if finite {
            self.skipped_in_a_row = 0;
            self.state.finite_steps += 1;
            if self.config.train.dynamic_loss_scale
                && self.state.finite_steps.is_multiple_of(GROWTH_INTERVAL)
            {
                self.state.loss_scale = (self.state.loss_scale * 2.0).min(65536.0);
            }
            return Ok(());
        }
        self.state.skipped_steps += 1;
        self.skipped_in_a_row += 1;
        self.state.finite_steps = 0;
        if self.config.train.dynamic_loss_scale {
            self.state.loss_scale = (self.state.loss_scale / 2.0).max(1.0);
        }
        if self.skipped_in_a_row < MOST_SKIPPED_IN_A_ROW {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Diverged,
            format!(
                "the gradients of {MOST_SKIPPED_IN_A_ROW} steps in a row were not finite \
                 (step {}, loss {loss})",
                self.state.step
            ),
        )
        .hint(match self.state.loss_scale {
            scale if scale > 1.0 => format!(
                "lower train.loss_scale, which is {scale}, or optimizer.lr, and begin again from a \
                 checkpoint before this"
            ),
            _ => "lower optimizer.lr, and begin again from a checkpoint before this".to_owned(),
        }))
    }
}
