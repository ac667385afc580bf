use crate::adapters::Adapters;
use crate::divided::{ACCELERATED_SIZES, Divider, ModelDevices, SHORTEST_ACCELERATED_CONTEXT};
use crate::programs::step_program;
use crate::{Error, ErrorKind, LoadedModel, RangeReport, Result};
use orion_models::{Adapter, Network, StepShape, WeightIndex, cache_of};
use orion_runtime::{Bindings, Layout, ProgramCache, Surface};
use orion_tensor::DType;
use std::time::Duration;

/// How many tokens a prefill program takes at once. A prompt goes through in chunks of these;
/// the last chunk may be filled up with tokens whose results are not used.
pub const PREFILL_SIZES: [usize; 3] = [16, 64, 256];

/// The shortest key/value cache. Caches double when they are full.
const SHORTEST_CONTEXT: usize = 128;

/// Sequences being read and continued by a model on a device. They share the weights; each has
/// caches and a position of its own.
///
/// Programs are compiled per number of sequences, number of tokens and cache length when first
/// needed; the caller never sees these buckets.
pub struct Generator {
    network: Network,
    /// Of one sequence's caches.
    cache_names: Vec<String>,
    index: WeightIndex,
    programs: ProgramCache,
    /// What is computed on two devices.
    divider: Option<Divider>,
    adapters: Adapters,
    sequences: Vec<Sequence>,
    context: usize,
    limit: usize,
    /// What the last program gave, `[1, V, 1, B]`.
    surfaces: Vec<(usize, Surface)>,
    /// The logits of each sequence after another.
    logits: Vec<f32>,
    /// What computes all this.
    device_name: String,
    range: RangeReport,
}

/// One sequence.
#[derive(Default)]
struct Sequence {
    /// In the order of [`Network::caches`].
    caches: Vec<Surface>,
    position: usize,
    /// The number of its adapter.
    adapter: Option<usize>,
}

impl Generator {
    /// A generator at the start of one sequence. `limit` is the longest sequence in tokens; the
    /// model's own limit when not given.
    ///
    /// # Errors
    /// When `limit` is 0 or beyond what the model was made for.
    pub fn new(
        model: &LoadedModel,
        devices: impl Into<ModelDevices>,
        limit: Option<usize>,
    ) -> Result<Self> {
        Self::with_sequences(model, devices, limit, 1)
    }

    /// A generator at the start of `count` sequences.
    ///
    /// # Errors
    /// As [`Generator::new`].
    ///
    /// # Panics
    /// When `count` is 0.
    pub fn with_sequences(
        model: &LoadedModel,
        devices: impl Into<ModelDevices>,
        limit: Option<usize>,
        count: usize,
    ) -> Result<Self> {
        assert!(count > 0, "a generator of no sequences");
        let network = model.network.clone();
        let most = network.max_positions();
        let limit = limit.unwrap_or(most);
        if limit == 0 || limit > most {
            return Err(Error::new(
                ErrorKind::Length,
                format!("a context of {limit} tokens was asked for; this model takes 1 to {most}"),
            ));
        }
        let devices = devices.into();
        let device_name = devices.name();
        let index = model.index(most);
        let divider = Divider::new(model, most, &devices);
        let programs = ProgramCache::new(devices.device, index.weights().clone());
        let mut this = Self {
            cache_names: network.caches(0).into_iter().map(|(name, _)| name).collect(),
            adapters: Adapters::new(&network),
            network,
            index,
            programs,
            divider,
            sequences: (0..count).map(|_| Sequence::default()).collect(),
            context: 0,
            limit,
            surfaces: Vec::new(),
            logits: Vec::new(),
            device_name,
            range: RangeReport::default(),
        };
        this.grow(1);
        Ok(this)
    }

    /// What may have made numbers wrong since the generator was made.
    pub fn range(&self) -> &RangeReport {
        &self.range
    }

    /// The longest sequence, in tokens.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// How many tokens of the first sequence have been read.
    pub fn position(&self) -> usize {
        self.position_of(0)
    }

    /// How many tokens of a sequence have been read.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn position_of(&self, sequence: usize) -> usize {
        self.sequences[sequence].position
    }

    /// All sequences back to their start; compiled programs stay.
    pub fn reset(&mut self) {
        (0..self.sequences.len()).for_each(|i| self.reset_sequence(i));
    }

    /// A sequence back to its start.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn reset_sequence(&mut self, sequence: usize) {
        self.sequences[sequence].position = 0;
    }

    /// Loads an adapter beside the model and those loaded before, and gives its number: see
    /// [`Generator::choose_adapter`]. Nothing is compiled until a sequence uses it, and nothing
    /// then if a program for its modules and a rank as high is there.
    pub fn add_adapter(&mut self, adapter: &Adapter) -> usize {
        self.adapters.load(adapter)
    }

    /// Gives a sequence the adapter of that number, or none: what it reads from now on goes
    /// through it. Keys and values in its caches stay those of what was read before; reset it to
    /// read everything with the adapter.
    ///
    /// # Panics
    /// When there is no such sequence or adapter.
    pub fn choose_adapter(&mut self, sequence: usize, adapter: Option<usize>) {
        assert!(adapter.is_none_or(|number| number < self.adapters.len()), "no such adapter");
        self.sequences[sequence].adapter = adapter;
    }

    /// The adapter of a sequence.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn adapter_of(&self, sequence: usize) -> Option<usize> {
        self.sequences[sequence].adapter
    }

    /// How long it took to go to another adapter the last time: to choose surfaces and factors,
    /// of which every run binds some. `None` before the first time.
    pub fn adapter_swap_time(&self) -> Option<Duration> {
        self.adapters.swap_time()
    }

    /// How many programs are compiled that one device runs.
    pub fn compiled_programs(&self) -> usize {
        self.programs.len()
    }

    /// How many programs are compiled for an accelerator beside that device.
    pub fn accelerator_programs(&self) -> usize {
        self.divider.as_ref().map_or(0, Divider::compiled_programs)
    }

    /// Makes the caches hold at least `needed` tokens, keeping what is in them.
    fn grow(&mut self, needed: usize) {
        if needed <= self.context {
            return;
        }
        let shortest =
            if self.divider.is_some() { SHORTEST_ACCELERATED_CONTEXT } else { SHORTEST_CONTEXT };
        let context = needed.next_power_of_two().max(shortest).min(self.network.max_positions());
        for sequence in &mut self.sequences {
            let old = std::mem::take(&mut sequence.caches);
            for (i, (_, shape)) in self.network.caches(context).into_iter().enumerate() {
                let mut surface = Surface::zeros(Layout::dense(DType::F32, &shape));
                if let Some(before) = old.get(i) {
                    let (from, to) = (before.elements::<f32>(), surface.elements_mut::<f32>());
                    for (from, to) in from.chunks(self.context).zip(to.chunks_mut(context)) {
                        to[..sequence.position].copy_from_slice(&from[..sequence.position]);
                    }
                }
                sequence.caches.push(surface);
            }
        }
        self.context = context;
    }

    /// Reads tokens of the first sequence and gives the logits `[V]` that follow the last of
    /// them, all of which are finite.
    ///
    /// # Errors
    /// When a token is outside the vocabulary, the sequence gets longer than the limit, the device
    /// fails, or a logit is not finite.
    ///
    /// # Panics
    /// When there are no tokens.
    pub fn read(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.read_in(0, tokens)
    }

    /// [`Generator::read`] for any sequence.
    ///
    /// # Errors
    /// As [`Generator::read`].
    ///
    /// # Panics
    /// When there are no tokens, or there is no such sequence.
    pub fn read_in(&mut self, sequence: usize, tokens: &[u32]) -> Result<&[f32]> {
        assert!(!tokens.is_empty(), "nothing to read");
        self.check(sequence, tokens)?;
        let begin = self.sequences[sequence].position;
        self.grow(begin + tokens.len());
        let mut rest = tokens;
        while !rest.is_empty() {
            let room = self.context - self.sequences[sequence].position;
            let size = self.chunk_size(rest.len(), room);
            let (chunk, after) = rest.split_at(rest.len().min(size));
            self.step(&[sequence], 1, chunk, size)?;
            rest = after;
        }
        Ok(&self.logits)
    }

    /// Reads the next token of several sequences together: pairs of sequence and token. Gives the
    /// logits `[V]` of each pair, one after the other.
    ///
    /// # Errors
    /// As [`Generator::read`].
    ///
    /// # Panics
    /// When there are no pairs, a sequence is there twice, or there is no such sequence.
    pub fn read_each(&mut self, next: &[(usize, u32)]) -> Result<&[f32]> {
        assert!(!next.is_empty(), "nothing to read");
        let mut taking_part: Vec<usize> = next.iter().map(|&(sequence, _)| sequence).collect();
        let mut tokens: Vec<u32> = next.iter().map(|&(_, token)| token).collect();
        for (&sequence, token) in taking_part.iter().zip(tokens.chunks(1)) {
            self.check(sequence, token)?;
        }
        // Programs are for a few numbers of sequences. Places left over are taken by sequences
        // that have nothing to read: what is written behind their last token is overwritten when
        // they go on.
        let size = batch_size(next.len(), self.sequences.len());
        let idle = (0..self.sequences.len()).filter(|i| !taking_part.contains(i));
        taking_part.extend(idle.take(size - next.len()).collect::<Vec<_>>());
        tokens.resize(size, 0);
        let needed = taking_part.iter().map(|&i| self.sequences[i].position + 1).max();
        self.grow(needed.expect("at least one").min(self.limit));
        self.step(&taking_part, next.len(), &tokens, 1)?;
        for &idle in &taking_part[next.len()..] {
            self.sequences[idle].position -= 1;
        }
        Ok(&self.logits[..next.len() * self.network.vocab_size()])
    }

    /// The size of the next chunk of a prompt.
    fn chunk_size(&self, rest: usize, room: usize) -> usize {
        let accelerated = match self.divider {
            Some(_) => chunk_size(&ACCELERATED_SIZES, rest, room),
            None => 1,
        };
        if accelerated > 1 { accelerated } else { chunk_size(&PREFILL_SIZES, rest, room) }
    }

    /// Whether a sequence can go on with these tokens.
    fn check(&self, sequence: usize, tokens: &[u32]) -> Result<()> {
        let position = self.sequences[sequence].position;
        if position + tokens.len() > self.limit {
            return Err(Error::new(
                ErrorKind::Length,
                format!(
                    "{} tokens after {position} are more than the context of {}",
                    tokens.len(),
                    self.limit
                ),
            ));
        }
        let vocab_size = self.network.vocab_size();
        match tokens.iter().find(|&&t| t as usize >= vocab_size) {
            Some(bad) => Err(Error::new(
                ErrorKind::Mismatch,
                format!("token {bad} is outside the model's vocabulary of {vocab_size}"),
            )
            .hint("is this the tokenizer the model was trained with?")),
            None => Ok(()),
        }
    }

    /// Runs one program of `size` tokens for each of the sequences. `tokens` are those of one
    /// sequence after another; those of the last one may be fewer. Sequences behind the first
    /// `active` only fill the program up.
    fn step(
        &mut self,
        sequences: &[usize],
        active: usize,
        tokens: &[u32],
        size: usize,
    ) -> Result<()> {
        let count = sequences.len();
        let shape = StepShape { sequences: count, tokens: size, context: self.context };
        let mut ids: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
        ids.resize(count * size, 0);
        let read = tokens.len() - (count - 1) * size;
        let ids = Surface::from_slice(&[count * size], &ids);
        // A full sequence that has nothing to read is overwritten at its end: it cannot go on.
        let positions = sequences.iter().map(|&i| self.sequences[i].position);
        let positions: Vec<i32> = positions.map(|p| p.min(self.context - 1) as i32).collect();
        let positions = Surface::from_slice(&[count], &positions);
        let last = Surface::from_slice(&[count], &vec![read as i32 - 1; count]);
        let (network, index) = (&self.network, &self.index);
        // What becomes of sequences that have nothing to read does not matter.
        let of_sequence =
            |(place, &i): (usize, &usize)| self.sequences[i].adapter.filter(|_| place < active);
        let chosen: Vec<Option<usize>> = sequences.iter().enumerate().map(of_sequence).collect();
        let bound = Adapters::bound(&chosen);
        let adapted = |index: &WeightIndex| match self.adapters.shape(bound) {
            Some(adapters) => index.clone().with_adapters(adapters),
            None => index.clone(),
        };
        let mut key = format!("step {count} {size} {} {}", self.context, self.adapters.key(bound));
        let position = self.sequences[sequences[0]].position;
        let cut = self.divider.as_mut().and_then(|d| Some((d.cut(shape, position)?, d)));
        let executable = match cut {
            Some((cut, divider)) => {
                let index = adapted(divider.index());
                key = format!("{key} {cut:?}");
                divider.step(&key, &index, shape, cut)?
            }
            None => self.programs.get(&key, || step_program(network, &adapted(index), shape))?,
        };
        let adapters = self.adapters.inputs(&chosen);

        let vocab_size = network.vocab_size();
        let at = self.surfaces.iter().position(|(n, _)| *n == count).unwrap_or_else(|| {
            let layout = Layout::dense(DType::F32, &[1, vocab_size, 1, count]);
            self.surfaces.push((count, Surface::zeros(layout)));
            self.surfaces.len() - 1
        });
        let logits = &mut self.surfaces[at].1;
        let mut bindings = Bindings::new();
        bindings.input("tokens", &ids).input("position", &positions);
        if size > 1 {
            bindings.input("last", &last);
        }
        bindings.output("logits", logits);
        if let Some(adapters) = &adapters {
            adapters.bind(&mut bindings);
        }
        let names = &self.cache_names;
        let mut cached: Vec<(usize, &mut Sequence)> = self
            .sequences
            .iter_mut()
            .enumerate()
            .filter_map(|(i, s)| Some((sequences.iter().position(|&taken| taken == i)?, s)))
            .collect();
        assert_eq!(cached.len(), count, "every sequence takes part once");
        let cache_names: Vec<Vec<String>> = cached
            .iter()
            .map(|(place, _)| names.iter().map(|name| cache_of(name, *place, count)).collect())
            .collect();
        for ((_, sequence), names) in cached.iter_mut().zip(&cache_names) {
            for (name, cache) in names.iter().zip(&mut sequence.caches) {
                bindings.update(name, cache);
            }
        }
        executable.run(&mut bindings)?;
        self.range.overflowed += executable.numeric_events().overflowed;
        if let (None, Some(divider)) = (&self.range.large, &self.divider) {
            self.range.large = divider.large_activation(&key);
        }
        for &i in sequences {
            self.sequences[i].position += read;
        }
        // From a column for each sequence to a row.
        self.logits.resize(count * vocab_size, 0.0);
        let columns = self.surfaces[at].1.elements::<f32>();
        for (place, row) in self.logits.chunks_exact_mut(vocab_size).enumerate() {
            for (to, from) in row.iter_mut().zip(columns.chunks_exact(count)) {
                *to = from[place];
            }
        }
        // Sampling would take them for something.
        if self.logits[..active * vocab_size].iter().all(|logit| logit.is_finite()) {
            return Ok(());
        }
        let first = self.divider.as_ref().and_then(|divider| divider.first_not_finite(&key));
        let what = format!("the model gave no logits at token {}", position + read);
        Err(Error::not_finite(&what, &self.device_name, first))
    }
}

/// The program size of those given for the next chunk of a prompt with `rest` tokens to go and
/// `room` columns left in the caches: the smallest that takes all, or the largest there is.
fn chunk_size(sizes: &[usize], rest: usize, room: usize) -> usize {
    if rest == 1 {
        return 1;
    }
    let fitting = || sizes.iter().copied().filter(|&n| n <= room);
    fitting().find(|&n| n >= rest).or_else(|| fitting().next_back()).unwrap_or(1)
}

/// How many sequences a program takes when `active` of `all` have something to read: all of them
/// or the next power of two.
fn batch_size(active: usize, all: usize) -> usize {
    active.next_power_of_two().min(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fit_the_room() {
        let size = |rest, room| chunk_size(&PREFILL_SIZES, rest, room);
        assert_eq!(size(1, 500), 1);
        assert_eq!(size(2, 500), 16);
        assert_eq!(size(17, 500), 64);
        assert_eq!(size(1000, 500), 256);
        assert_eq!(size(100, 70), 64);
        assert_eq!(size(100, 3), 1);
    }

    #[test]
    fn batches_are_few_sizes() {
        assert_eq!([1, 2, 3, 5, 6].map(|n| batch_size(n, 6)), [1, 2, 4, 6, 6]);
    }
}
