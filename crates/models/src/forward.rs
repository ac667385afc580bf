//! The parts that the programs of every network share: where tokens and positions come from, and
//! what attention looks back on.

use crate::adapter::{LinearLayer, SCALE, matrix_names};
use crate::rotary::{COSINES, Rotary, SINES};
use crate::{Graph, StepShape};
use orion_mil::composite::{HeadShape, RotaryPairs};
use orion_mil::op::Reduction;
use orion_mil::{Builder, Op, TensorType, ValueId};
use orion_tensor::DType;
use std::ops::{Deref, DerefMut};

/// What Hugging Face's networks call the layer that gives the logits.
const CLASSIFIER_MODULE: &str = "lm_head";

/// The attention of a network, the same in all of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    /// Number of blocks.
    pub(crate) layers: usize,
    /// `G`, key/value heads.
    pub(crate) kv_heads: usize,
    /// `R`, query heads of each key/value head.
    pub(crate) group: usize,
    /// `D`, channels of a head.
    pub(crate) head_dim: usize,
}

impl AttentionShape {
    fn of_sequences(self, sequences: usize) -> HeadShape {
        let Self { kv_heads, group, head_dim, .. } = self;
        HeadShape { sequences, kv_heads, group, head_dim }
    }

    /// The shape of a cache of one sequence.
    fn cache(self, context: usize) -> [usize; 4] {
        [self.kv_heads, 1, self.head_dim, context]
    }
}

/// What attention looks back on.
enum Past {
    /// Whole sequences: each token on those before it.
    Nothing { mask: ValueId },
    /// Caches of one sequence or several.
    Caches { context: usize, sequences: Vec<CachedSequence> },
    /// Caches of one sequence that are read as they were before, with the new keys and values
    /// beside them.
    Beside { mask: ValueId, begin: ValueId, layers: Vec<BesideCaches> },
}

/// The caches of a block, key and value, and what is read of them.
struct BesideCaches {
    caches: [ValueId; 2],
    past: Option<[ValueId; 2]>,
}

/// What attention needs to know of a sequence that has caches.
struct CachedSequence {
    mask: ValueId,
    /// Where new keys and values go: `(0, 0, 0, position)`.
    begin: ValueId,
}

/// A program of a network under construction. `N` tokens go through it at once, those of one
/// sequence after those of another.
pub(crate) struct Forward<'a> {
    graph: Graph<'a>,
    /// int32 `[N]`.
    pub(crate) tokens: ValueId,
    /// Position of each token in its sequence, int32 `[N]`.
    pub(crate) positions: ValueId,
    attention: AttentionShape,
    angles: Option<(ValueId, ValueId, RotaryPairs)>,
    past: Past,
    /// Caches with their new columns, and the names of output and input.
    caches: Vec<(ValueId, [String; 2])>,
    /// The linear layers so far.
    linear_layers: Vec<LinearLayer>,
    /// The factors of adapters, once one was asked for.
    adapter_scale: Option<ValueId>,
}

impl Deref for Forward<'_> {
    type Target = Builder;

    fn deref(&self) -> &Builder {
        &self.graph.builder
    }
}

impl DerefMut for Forward<'_> {
    fn deref_mut(&mut self) -> &mut Builder {
        &mut self.graph.builder
    }
}

impl<'a> Forward<'a> {
    /// The beginning of a program over whole sequences.
    pub(crate) fn whole(
        mut graph: Graph<'a>,
        attention: AttentionShape,
        rotary: Option<Rotary>,
        [sequences, length]: [usize; 2],
    ) -> Self {
        let b = &mut graph.builder;
        let tokens = b.input("tokens", TensorType::new(DType::I32, &[sequences * length]));
        let row: Vec<i32> = (0..length as i32).collect();
        let positions = b.ints(&row);
        let mask = b.causal_mask(positions, length, DType::F32);
        let positions = b.ints(&row.repeat(sequences));
        let angles = rotary.map(|r| angles(&mut graph, r, positions));
        let past = Past::Nothing { mask };
        Self::begin(graph, [tokens, positions], attention, angles, past)
    }

    /// The beginning of a program over the next tokens of sequences that have caches.
    pub(crate) fn next(
        mut graph: Graph<'a>,
        attention: AttentionShape,
        rotary: Option<Rotary>,
        shape: StepShape,
    ) -> Self {
        let StepShape { sequences: count, tokens: each, context } = shape;
        let b = &mut graph.builder;
        let tokens = b.input("tokens", TensorType::new(DType::I32, &[count * each]));
        let position = b.input("position", TensorType::new(DType::I32, &[count]));
        let offsets = b.push(&Op::Range { dtype: DType::I32, start: 0.0, step: 1.0, count: each });
        let zeros = b.ints(&[0, 0, 0]);
        let starts =
            if count == 1 { vec![position] } else { b.split(position, 0, &vec![1; count]) };
        let mut parts = Vec::new();
        let mut sequences = Vec::new();
        for start in starts {
            let positions = b.add(offsets, start);
            let mask = b.causal_mask(positions, context, DType::F32);
            let begin = b.concat(&[zeros, start], 0);
            parts.push(positions);
            sequences.push(CachedSequence { mask, begin });
        }
        let positions = if count == 1 { parts[0] } else { b.concat(&parts, 0) };
        let angles = rotary.map(|r| angles(&mut graph, r, positions));
        let past = Past::Caches { context, sequences };
        Self::begin(graph, [tokens, positions], attention, angles, past)
    }

    /// The beginning of a program over the next tokens of one sequence, of whose caches the first
    /// `past` columns are read.
    pub(crate) fn chunk(
        mut graph: Graph<'a>,
        attention: AttentionShape,
        rotary: Option<Rotary>,
        shape: StepShape,
        past: usize,
    ) -> Self {
        let StepShape { tokens: each, context, .. } = shape;
        let b = &mut graph.builder;
        let tokens = b.input("tokens", TensorType::new(DType::I32, &[each]));
        let start = b.input("position", TensorType::new(DType::I32, &[1]));
        let offsets: Vec<i32> = (0..each as i32).collect();
        let offsets = b.ints(&offsets);
        let positions = b.add(offsets, start);
        let zeros = b.ints(&[0, 0, 0]);
        let begin = b.concat(&[zeros, start], 0);
        let mut mask = b.causal_mask(offsets, each, DType::F32);
        if past > 0 {
            // Of the caches, every token sees what was there before the first.
            let before = b.ints(&vec![-1; each]);
            let before = b.add(before, start);
            let seen = b.causal_mask(before, past, DType::F32);
            mask = b.concat(&[seen, mask], 3);
        }
        let cache = attention.cache(context);
        let ty = TensorType::new(DType::F32, &cache);
        let read = [cache[0], cache[1], cache[2], past];
        let layers = (0..attention.layers).map(|layer| {
            let caches = cache_names(layer).map(|name| b.input(&name, ty.clone()));
            let past = (past > 0).then(|| caches.map(|cache| b.slice(cache, &[0; 4], &read)));
            BesideCaches { caches, past }
        });
        let past = Past::Beside { mask, begin, layers: layers.collect() };
        let angles = rotary.map(|r| angles(&mut graph, r, positions));
        Self::begin(graph, [tokens, positions], attention, angles, past)
    }

    fn begin(
        graph: Graph<'a>,
        [tokens, positions]: [ValueId; 2],
        attention: AttentionShape,
        angles: Option<(ValueId, ValueId, RotaryPairs)>,
        past: Past,
    ) -> Self {
        let (caches, linear_layers) = (Vec::new(), Vec::new());
        let adapter_scale = None;
        Self {
            graph,
            tokens,
            positions,
            attention,
            angles,
            past,
            caches,
            linear_layers,
            adapter_scale,
        }
    }

    /// The parameter of that name, as fp32.
    pub(crate) fn parameter(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.graph.parameter(name, shape)
    }

    /// Rows of the parameter `{name}` `[rows, C]`, as `[1, C, 1, N]`, for int32 `[N]`.
    pub(crate) fn rows(&mut self, name: &str, shape: &[usize; 2], indices: ValueId) -> ValueId {
        self.graph.embedding(name, shape, indices)
    }

    /// `weight · x` for the parameter `{name}` of shape `[O, I]`: x `[1, I, 1, N]`, result
    /// `[1, O, 1, N]`.
    pub(crate) fn linear(&mut self, name: &str, x: ValueId, outputs: usize) -> ValueId {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        self.layer(module, name, None, x, outputs)
    }

    /// `weight · x + bias` for the parameters `{name}.weight` `[O, I]` and `{name}.bias` `[O]`: x
    /// `[1, I, 1, N]`, result `[1, O, 1, N]`.
    pub(crate) fn linear_with_bias(&mut self, name: &str, x: ValueId, outputs: usize) -> ValueId {
        let bias = format!("{name}.bias");
        self.layer(name, &format!("{name}.weight"), Some(&bias), x, outputs)
    }

    /// [`Forward::linear`] for the layer that gives the logits, whose parameter may be the
    /// embedding.
    pub(crate) fn classifier(&mut self, name: &str, x: ValueId, vocabulary: usize) -> ValueId {
        self.layer(CLASSIFIER_MODULE, name, None, x, vocabulary)
    }

    fn layer(
        &mut self,
        module: &str,
        parameter: &str,
        bias: Option<&str>,
        x: ValueId,
        outputs: usize,
    ) -> ValueId {
        let inputs = self.shape(x)[1];
        self.linear_layers.push(LinearLayer {
            module: module.to_owned(),
            parameter: parameter.to_owned(),
            outputs,
            inputs,
        });
        let weight = self.parameter(parameter, &[outputs, inputs]);
        let bias = bias.map(|bias| self.parameter(bias, &[outputs]));
        let y = self.linear_as_conv(x, weight, bias);
        match self.graph.adapters() {
            Some(adapters) if adapters.modules.contains(module) => {
                let rank = adapters.rank;
                self.adapt(module, rank, x, y)
            }
            _ => y,
        }
    }

    /// `y + B · (scale ⊙ A · x)`: products, because the Neural Engine takes computed operands
    /// there and not in convolutions.
    fn adapt(&mut self, module: &str, rank: usize, x: ValueId, y: ValueId) -> ValueId {
        let (inputs, outputs) = (self.shape(x)[1], self.shape(y)[1]);
        let [a, b] = matrix_names(module);
        let a = self.parameter(&a, &[rank, inputs]);
        let b = self.parameter(&b, &[outputs, rank]);
        let inner = self.linear_as_matmul(x, a);
        let inner = self.scaled(inner, rank);
        let change = self.linear_as_matmul(inner, b);
        self.add(y, change)
    }

    /// `inner` `[1, R, 1, N]` times the factors of adapters, which are of each sequence.
    fn scaled(&mut self, inner: ValueId, rank: usize) -> ValueId {
        let sequences = match &self.past {
            Past::Caches { sequences, .. } => sequences.len(),
            Past::Nothing { .. } | Past::Beside { .. } => 1,
        };
        let tokens = self.shape(inner)[3];
        let scale = match self.adapter_scale {
            Some(scale) => scale,
            None => {
                let scale = self.input(SCALE, TensorType::new(DType::F32, &[rank, sequences]));
                self.adapter_scale = Some(scale);
                scale
            }
        };
        if sequences == 1 || sequences == tokens {
            let scale = self.reshape(scale, &[1, rank, 1, sequences]);
            return self.mul(inner, scale);
        }
        let scale = self.reshape(scale, &[1, rank, sequences, 1]);
        let each = self.reshape(inner, &[1, rank, sequences, tokens / sequences]);
        let each = self.mul(each, scale);
        self.reshape(each, &[1, rank, 1, tokens])
    }

    /// The linear layers of the program so far, in the order in which they are used.
    pub(crate) fn into_linear_layers(self) -> Vec<LinearLayer> {
        self.linear_layers
    }

    /// Turns every head of x `[1, H·D, 1, N]` by its position.
    ///
    /// # Panics
    /// When the network has no rotary positions.
    pub(crate) fn turn(&mut self, x: ValueId) -> ValueId {
        let (cosines, sines, pairs) = self.angles.expect("the network says how heads turn");
        self.rotary(x, cosines, sines, pairs)
    }

    /// Attention of a block: query `[1, G·R·D, 1, N]`, key and value `[1, G·D, 1, N]`; result like
    /// query.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        query: ValueId,
        key: ValueId,
        value: ValueId,
    ) -> ValueId {
        let shape = self.attention;
        let b = &mut self.graph.builder;
        match &self.past {
            Past::Nothing { mask } => {
                let sequences = b.shape(query)[3] / b.shape(*mask)[2];
                b.causal_attention(query, key, value, *mask, shape.of_sequences(sequences))
            }
            Past::Caches { context, sequences } => {
                let (count, cache) = (sequences.len(), shape.cache(*context));
                let ty = TensorType::new(DType::F32, &cache);
                let mut parts = [query, key, value].map(|x| {
                    let each = b.shape(x)[3] / count;
                    let parts =
                        if count == 1 { vec![x] } else { b.split(x, 3, &vec![each; count]) };
                    parts.into_iter()
                });
                let mut attended = Vec::new();
                for (i, sequence) in sequences.iter().enumerate() {
                    let new = parts.each_mut().map(|p| p.next().expect("a part for each"));
                    let names = cache_names(layer).map(|name| cache_of(&name, i, count));
                    let caches = names.each_ref().map(|name| b.input(name, ty.clone()));
                    let (begin, mask) = (sequence.begin, sequence.mask);
                    let heads = shape.of_sequences(1);
                    let (result, next) = b.cached_attention(new, caches, begin, mask, heads);
                    attended.push(result);
                    for (name, id) in names.into_iter().zip(next) {
                        let output = format!("{name}_next");
                        b.rename(id, &output);
                        self.caches.push((id, [output, name]));
                    }
                }
                if count == 1 { attended[0] } else { b.concat(&attended, 3) }
            }
            Past::Beside { mask, begin, layers } => {
                let BesideCaches { caches, past } = &layers[layer];
                let (new, heads) = ([query, key, value], shape.of_sequences(1));
                let (result, next) = b.chunk_attention(new, *past, *caches, *begin, *mask, heads);
                self.keep(layer, next);
                result
            }
        }
    }

    /// Makes what is in the caches of one sequence from here on results of the program.
    fn keep(&mut self, layer: usize, next: [ValueId; 2]) {
        for (name, id) in cache_names(layer).into_iter().zip(next) {
            let output = format!("{name}_next");
            self.rename(id, &output);
            self.caches.push((id, [output, name]));
        }
    }

    /// Keeps one token of each sequence, for whose logits is asked: x `[1, C, 1, N]`, result
    /// `[1, C, 1, B]`.
    pub(crate) fn last(&mut self, x: ValueId) -> ValueId {
        let count = match &self.past {
            Past::Caches { sequences, .. } => sequences.len(),
            Past::Beside { .. } => 1,
            Past::Nothing { .. } => return x,
        };
        self.set_scope("");
        let each = self.shape(x)[3] / count;
        if each == 1 {
            return x;
        }
        let mut last = self.input("last", TensorType::new(DType::I32, &[count]));
        if count > 1 {
            let starts: Vec<i32> = (0..count).map(|i| (i * each) as i32).collect();
            let starts = self.ints(&starts);
            last = self.add(last, starts);
        }
        self.gather(x, last, 3)
    }

    /// Ends a program over whole sequences with their loss; see [`crate::Network::loss`] and
    /// [`crate::Network::weighted_loss`].
    pub(crate) fn finish_with_loss(
        mut self,
        logits: ValueId,
        weighted: bool,
    ) -> orion_mil::Function {
        let count = self.shape(logits)[3];
        let targets = self.input("targets", TensorType::new(DType::I32, &[count]));
        let losses = self.cross_entropy(logits, targets);
        let loss = if weighted {
            let weights = self.input("weights", TensorType::new(DType::F32, &[count]));
            let shares = self.mul(losses, weights);
            self.reduce(Reduction::Sum, shares, &[0], true)
        } else {
            self.reduce(Reduction::Mean, losses, &[0], true)
        };
        self.rename(losses, "token_losses");
        self.rename(loss, "loss");
        self.graph.builder.finish(&[loss, losses])
    }

    /// Ends a program over caches with the logits; see [`crate::Network::step`].
    pub(crate) fn finish_with_logits(mut self, logits: ValueId) -> orion_mil::Function {
        self.rename(logits, "logits");
        let results: Vec<ValueId> =
            [logits].into_iter().chain(self.caches.iter().map(|(id, _)| *id)).collect();
        let mut function = self.graph.builder.finish(&results);
        let pairs = self.caches.iter().map(|(_, [output, input])| (&**output, &**input));
        function.set_in_place(pairs);
        function
    }
}

fn angles(
    graph: &mut Graph<'_>,
    rotary: Rotary,
    positions: ValueId,
) -> (ValueId, ValueId, RotaryPairs) {
    let [cosines, sines] = [COSINES, SINES].map(|name| {
        let table = graph.table(name);
        graph.builder.rotary_angles(table, positions)
    });
    (cosines, sines, rotary.pairs)
}

/// Names and shapes of the caches of one sequence.
pub(crate) fn caches(attention: AttentionShape, context: usize) -> Vec<(String, Vec<usize>)> {
    let shape = attention.cache(context).to_vec();
    (0..attention.layers).flat_map(cache_names).map(|name| (name, shape.clone())).collect()
}

fn cache_names(layer: usize) -> [String; 2] {
    [format!("layer{layer}_key_cache"), format!("layer{layer}_value_cache")]
}

/// The name a cache has in a program for several sequences: see [`crate::Network::caches`].
pub fn cache_of(name: &str, sequence: usize, sequences: usize) -> String {
    if sequences == 1 { name.to_owned() } else { format!("sequence{sequence}_{name}") }
}
