//! What a run looks at beside its training data: the loss on other data, and sample texts.

use super::{Event, Trainer};
use crate::evaluate::LossSum;
use crate::examples::{Corpus, Example, Examples};
use crate::generate::{TextEvent, TextRule, generate};
use crate::programs::loss_program;
use crate::{
    DataPosition, Error, EvaluationShape, Generator, Order, Result, Sampler, SamplerConfig,
    WindowRule,
};
use orion_runtime::{Bindings, Layout, Surface};
use orion_tensor::DType;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;

impl Trainer {
    /// The loss on the evaluation file, when there is one.
    pub(super) fn evaluate(
        &mut self,
        observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<f64>> {
        self.finish_update()?;
        let file = match &self.eval_file {
            None => return Ok(None),
            Some(Corpus::Tokens(file)) => file.clone(),
            Some(Corpus::Examples(examples)) => {
                let loss = self.loss_of_examples(examples.clone())?;
                return self.evaluated(loss, observer);
            }
        };
        let (seq, most) = (self.config.train.seq, self.config.eval.batches);
        let mut batch = self.config.train.batch;
        let mut sum = LossSum::new(
            file,
            EvaluationShape {
                batch,
                seq,
                rule: WindowRule::Disjoint,
                max_tokens: (most > 0).then(|| most.saturating_mul(batch * seq)),
            },
            None,
        )?;
        let (network, index, parameters) = (&self.network, &self.index, &self.parameters);
        let base = &self.base;
        while sum.has_next(1) {
            if !sum.has_next(batch) {
                batch = 1;
            }
            let key = format!("loss {batch}");
            let executable =
                self.programs.get(&key, || loss_program(network, index, batch, seq))?;
            sum.add(executable, batch, &mut |bindings| {
                for p in parameters {
                    bindings.input(&p.names.value, &p.value);
                }
                if let Some(base) = base {
                    base.bind(bindings);
                }
            })?;
        }
        self.evaluated(sum.result().loss, observer)
    }

    /// The mean loss of what examples want to be learned.
    fn loss_of_examples(&mut self, examples: Vec<Example>) -> Result<f64> {
        let (batch, seq) = (self.config.train.batch, self.config.train.seq);
        let start = DataPosition::default();
        let mut examples = Examples::new(examples, seq, Order::Sequential, 0, start)?;
        let most = match self.config.eval.batches {
            0 => usize::MAX,
            batches => batches.saturating_mul(batch),
        };
        let wanted = examples.count().min(most);
        let (mut sum, mut tokens) = (0.0, 0);
        for done in (0..wanted).step_by(batch) {
            let data = examples.next_batch(batch);
            // What fills the last batch up was looked at before.
            let rows = batch.min(wanted - done);
            let inputs = Surface::from_slice(&[batch * seq], &data.tokens);
            let targets = Surface::from_slice(&[batch * seq], &data.targets);
            let mut loss = Surface::zeros(Layout::dense(DType::F32, &[1]));
            let mut losses = Surface::zeros(Layout::dense(DType::F32, &[batch * seq]));
            let (network, index) = (&self.network, &self.index);
            let key = format!("loss {batch}");
            let executable =
                self.programs.get(&key, || loss_program(network, index, batch, seq))?;
            let mut bindings = Bindings::new();
            bindings.input("tokens", &inputs).input("targets", &targets);
            bindings.output("loss", &mut loss).output("token_losses", &mut losses);
            for p in &self.parameters {
                bindings.input(&p.names.value, &p.value);
            }
            if let Some(base) = &self.base {
                base.bind(&mut bindings);
            }
            executable.run(&mut bindings)?;
            let counted = data.counted.expect("examples say what counts");
            let each = losses.elements::<f32>().iter().zip(counted).take(rows * seq);
            for (&loss, _) in each.filter(|(_, counts)| *counts) {
                sum += f64::from(loss);
                tokens += 1;
            }
        }
        Ok(sum / f64::from(tokens))
    }

    fn evaluated(
        &mut self,
        loss: f64,
        observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<f64>> {
        let step = self.state.step;
        self.metrics.evaluation(step, loss)?;
        // Only steps can be interrupted, so the answer does not matter here.
        let _ = observer(&Event::Evaluation { step, loss });
        Ok(Some(loss))
    }

    pub(super) fn sample(
        &mut self,
        observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.finish_update()?;
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let mut generator = Generator::new(&self.model(), self.device.clone(), None)?;
        if let Some(adapter) = self.adapter() {
            let number = generator.add_adapter(&adapter);
            generator.choose_adapter(0, Some(number));
        }
        let prompt = tokenizer.encode(&self.config.sample.prompt);
        let seed = self.config.train.seed ^ self.state.step;
        let config =
            SamplerConfig { temperature: 0.8, top_p: 0.95, seed, ..SamplerConfig::greedy() };
        let rule = TextRule::new(self.config.sample.tokens, tokenizer.end_ids());
        let mut stream = tokenizer.decode_stream();
        let mut text = String::new();
        generate(
            &mut generator,
            &prompt,
            tokenizer.bos(),
            &mut Sampler::new(config),
            &rule,
            &mut |event| {
                if let TextEvent::Prompt(token) | TextEvent::Token(token, _) = event {
                    text += &stream.feed(token);
                }
                ControlFlow::Continue(())
            },
        )?;
        text += &stream.finish();
        let step = self.state.step;
        let path = self.directory.join("samples.txt");
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut f| write!(f, "── after {step} steps ──\n{text}\n\n"))
            .map_err(|e| Error::io(&path, e))?;
        let _ = observer(&Event::Sample { step, text: &text });
        Ok(())
    }
}
