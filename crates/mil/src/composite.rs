//! Building blocks of language models, expanded to plain ops.
//!
//! Tensors are channel-first, as the Neural Engine wants them and the CPU accepts them:
//! `[1, C, 1, N]`. Letters: `B` sequences, `S` tokens of a sequence, `N = B·S` tokens, `C` channels,
//! `V` vocabulary, `G` key/value heads, `R` query heads per key/value head, `D` head dimension,
//! `T` length of the key/value cache. Query head `h` reads key/value head `h / R`.

use crate::op::{Binary, Reduction, Unary};
use crate::{Builder, ValueId};
use orion_tensor::DType;

/// What masked attention scores are lowered by. Small enough for fp16, and far below the point
/// (about -17 on the Neural Engine, -104 in f32) where `exp` becomes zero.
pub const MASKED_SCORE: f64 = -3e4;

/// Which channels a rotary embedding turns together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryPairs {
    /// Channels `2i` and `2i + 1`: Meta's checkpoints and llama2.c.
    Interleaved,
    /// Channels `i` and `i + D/2`: Hugging Face's checkpoints.
    Halves,
}

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// `B`
    pub sequences: usize,
    /// `G`
    pub kv_heads: usize,
    /// `R`
    pub group: usize,
    /// `D`
    pub head_dim: usize,
}

impl Builder {
    /// SiLU: `x · sigmoid(x)`.
    pub fn silu(&mut self, x: ValueId) -> ValueId {
        self.unary(Unary::Silu, x)
    }

    /// A linear layer as a matrix product: x `[1, I, 1, N]`, weight `[O, I]`, result
    /// `[1, O, 1, N]`. The same numbers as [`Builder::conv_1x1`].
    pub fn linear_as_matmul(&mut self, x: ValueId, weight: ValueId) -> ValueId {
        let (x_shape, w_shape) = (self.shape(x), self.shape(weight));
        let flat = self.reshape(x, &[x_shape[1], x_shape[3]]);
        let y = self.matmul(weight, flat, false, false);
        self.reshape(y, &[1, w_shape[0], 1, x_shape[3]])
    }

    /// A linear layer as a 1×1 convolution: x `[1, I, 1, N]`, weight `[O, I]`, bias `[O]`, result
    /// `[1, O, 1, N]`.
    pub fn linear_as_conv(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
    ) -> ValueId {
        let shape = self.shape(weight);
        let kernel = self.reshape(weight, &[shape[0], shape[1], 1, 1]);
        self.conv_1x1(x, kernel, bias)
    }

    /// Rows of a table: table `[V, C]`, tokens int32 `[N]`, result `[1, C, 1, N]`.
    pub fn embedding(&mut self, table: ValueId, tokens: ValueId) -> ValueId {
        let rows = self.gather(table, tokens, 0);
        let shape = self.shape(rows);
        let columns = self.transpose(rows, &[1, 0]);
        self.reshape(columns, &[1, shape[1], 1, shape[0]])
    }

    /// `x / √(mean(x²) + epsilon)` over channels: x `[1, C, 1, N]`.
    pub fn rms_normalize(&mut self, x: ValueId, epsilon: f64) -> ValueId {
        let square = self.mul(x, x);
        let mean = self.reduce(Reduction::Mean, square, &[1], true);
        let inverse = self.unary(Unary::Rsqrt { epsilon }, mean);
        self.mul(x, inverse)
    }

    /// [`Builder::rms_normalize`] over the channels of each head: x `[1, H·D, 1, N]`.
    pub fn rms_normalize_heads(&mut self, x: ValueId, head_dim: usize, epsilon: f64) -> ValueId {
        let shape = self.shape(x);
        let heads = self.reshape(x, &[shape[1] / head_dim, head_dim, 1, shape[3]]);
        let normal = self.rms_normalize(heads, epsilon);
        self.reshape(normal, &shape)
    }

    /// [`Builder::rms_norm`] over the channels of each head: x `[1, H·D, 1, N]`, weight `[D]`.
    pub fn rms_norm_heads(&mut self, x: ValueId, weight: ValueId, epsilon: f64) -> ValueId {
        let (shape, head_dim) = (self.shape(x), self.shape(weight)[0]);
        let heads = self.reshape(x, &[shape[1] / head_dim, head_dim, 1, shape[3]]);
        let normal = self.rms_norm(heads, weight, epsilon);
        self.reshape(normal, &shape)
    }

    /// Every head times a number of its own: x `[1, H·D, 1, N]`, factors `[H]`.
    pub fn scale_heads(&mut self, x: ValueId, factors: ValueId) -> ValueId {
        let (shape, heads) = (self.shape(x), self.shape(factors)[0]);
        let factors = self.reshape(factors, &[heads, 1, 1, 1]);
        let x = self.reshape(x, &[heads, shape[1] / heads, 1, shape[3]]);
        let scaled = self.mul(x, factors);
        self.reshape(scaled, &shape)
    }

    /// Numbers kept between `-cap` and `cap`: `cap · tanh(x / cap)`.
    pub fn softcap(&mut self, x: ValueId, cap: f64) -> ValueId {
        let x = self.scale(x, 1.0 / cap);
        let x = self.unary(Unary::Tanh, x);
        self.scale(x, cap)
    }

    /// `x / √(mean(x²) + epsilon) · weight` over channels: x `[1, C, 1, N]`, weight `[C]`.
    /// Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    pub fn rms_norm(&mut self, x: ValueId, weight: ValueId, epsilon: f64) -> ValueId {
        let channels = self.shape(x)[1];
        let normal = self.rms_normalize(x, epsilon);
        let weight = self.reshape(weight, &[1, channels, 1, 1]);
        self.mul(normal, weight)
    }

    /// `(x - mean) / √(variance + epsilon) · weight + bias` over channels: x `[1, C, 1, N]`,
    /// weight and bias `[C]`.
    pub fn layer_norm(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: ValueId,
        epsilon: f64,
    ) -> ValueId {
        let channels = self.shape(x)[1];
        let mean = self.reduce(Reduction::Mean, x, &[1], true);
        let centered = self.sub(x, mean);
        let square = self.mul(centered, centered);
        let variance = self.reduce(Reduction::Mean, square, &[1], true);
        let inverse = self.unary(Unary::Rsqrt { epsilon }, variance);
        let normal = self.mul(centered, inverse);
        let weight = self.reshape(weight, &[1, channels, 1, 1]);
        let bias = self.reshape(bias, &[1, channels, 1, 1]);
        let scaled = self.mul(normal, weight);
        self.add(scaled, bias)
    }

    /// Cosines or sines of a rotary embedding for the tokens at hand: table `[T, D/2]`, positions
    /// int32 `[N]`, result `[D/2, N]`.
    pub fn rotary_angles(&mut self, table: ValueId, positions: ValueId) -> ValueId {
        let rows = self.gather(table, positions, 0);
        self.transpose(rows, &[1, 0])
    }

    /// Turns pairs of channels of every head by their position: x `[1, H·D, 1, N]`, cos and sin
    /// `[D/2, N]`. Su et al., "RoFormer", 2021.
    pub fn rotary(
        &mut self,
        x: ValueId,
        cos: ValueId,
        sin: ValueId,
        pairs: RotaryPairs,
    ) -> ValueId {
        let shape = self.shape(x);
        let (channels, n) = (shape[1], shape[3]);
        let half = self.shape(cos)[0];
        let heads = channels / (2 * half);
        let (split, table, axis) = match pairs {
            RotaryPairs::Interleaved => ([heads, half, 2, n], [1, half, 1, n], 2),
            RotaryPairs::Halves => ([heads, 2, half, n], [1, 1, half, n], 1),
        };
        let x = self.reshape(x, &split);
        let cos = self.reshape(cos, &table);
        let sin = self.reshape(sin, &table);
        let parts = self.split(x, axis, &[1, 1]);
        let (a_cos, b_sin) = (self.mul(parts[0], cos), self.mul(parts[1], sin));
        let (a_sin, b_cos) = (self.mul(parts[0], sin), self.mul(parts[1], cos));
        let first = self.sub(a_cos, b_sin);
        let second = self.add(a_sin, b_cos);
        let turned = self.concat(&[first, second], axis);
        self.reshape(turned, &shape)
    }

    /// `[1, C, 1, B·S]` to `[B·G, R, D, S]`; `group` is 1 for keys and values.
    fn split_heads(&mut self, x: ValueId, heads: HeadShape, group: usize) -> ValueId {
        let shape = self.shape(x);
        let (b, s) = (heads.sequences, shape[3] / heads.sequences);
        let x = if b == 1 {
            x
        } else {
            let x = self.reshape(x, &[shape[1], b, s]);
            self.transpose(x, &[1, 0, 2])
        };
        self.reshape(x, &[b * heads.kv_heads, group, heads.head_dim, s])
    }

    /// The inverse of [`Builder::split_heads`] for query heads.
    fn merge_heads(&mut self, x: ValueId, heads: HeadShape) -> ValueId {
        let (b, s) = (heads.sequences, self.shape(x)[3]);
        let channels = heads.kv_heads * heads.group * heads.head_dim;
        let x = if b == 1 {
            x
        } else {
            let x = self.reshape(x, &[b, channels, s]);
            self.transpose(x, &[1, 0, 2])
        };
        self.reshape(x, &[1, channels, 1, b * s])
    }

    /// Additive mask for tokens at `positions` (int32 `[S]`) over `keys` earlier or equal ones:
    /// `[1, 1, S, keys]`, 0 where key ≤ position, else [`MASKED_SCORE`].
    pub fn causal_mask(&mut self, positions: ValueId, keys: usize, dtype: DType) -> ValueId {
        let s = self.shape(positions)[0];
        let key =
            self.push(&crate::Op::Range { dtype: DType::I32, start: 0.0, step: 1.0, count: keys });
        let key = self.reshape(key, &[1, 1, 1, keys]);
        let position = self.reshape(positions, &[1, 1, s, 1]);
        let visible = self.binary(Binary::LessEqual, key, position);
        let zero = self.fill(dtype, &[], 0.0);
        let masked = self.fill(dtype, &[], MASKED_SCORE);
        self.select(visible, zero, masked)
    }

    /// Attention over keys and values in heads: query `[B·G, R, D, S]`, keys and values
    /// `[B·G, 1, D, T]`, mask `[1, 1, S, T]`; result `[B·G, R, D, S]`.
    fn attend(&mut self, query: ValueId, key: ValueId, value: ValueId, mask: ValueId) -> ValueId {
        let head_dim = self.shape(query)[2];
        let query = self.scale(query, 1.0 / (head_dim as f64).sqrt());
        let scores = self.matmul(query, key, true, false);
        let scores = self.add(scores, mask);
        let weights = self.softmax(scores, 3);
        self.matmul(value, weights, false, true)
    }

    /// Causal attention of whole sequences: query `[1, G·R·D, 1, B·S]`, key and value
    /// `[1, G·D, 1, B·S]`, mask from [`Builder::causal_mask`] `[1, 1, S, S]`; result like query.
    pub fn causal_attention(
        &mut self,
        query: ValueId,
        key: ValueId,
        value: ValueId,
        mask: ValueId,
        heads: HeadShape,
    ) -> ValueId {
        let query = self.split_heads(query, heads, heads.group);
        let key = self.split_heads(key, heads, 1);
        let value = self.split_heads(value, heads, 1);
        let attended = self.attend(query, key, value, mask);
        self.merge_heads(attended, heads)
    }

    /// Causal attention of the next tokens of one sequence over a cache: query
    /// `[1, G·R·D, 1, S]`, key and value `[1, G·D, 1, S]`, caches `[G, 1, D, T]`, `begin` the
    /// int32 `[4]` index `(0, 0, 0, position)`, mask `[1, 1, S, T]`. Returns the result, like
    /// query, and the caches with the new columns.
    pub fn cached_attention(
        &mut self,
        [query, key, value]: [ValueId; 3],
        [key_cache, value_cache]: [ValueId; 2],
        begin: ValueId,
        mask: ValueId,
        heads: HeadShape,
    ) -> (ValueId, [ValueId; 2]) {
        let query = self.split_heads(query, heads, heads.group);
        let key = self.split_heads(key, heads, 1);
        let value = self.split_heads(value, heads, 1);
        let key = self.slice_update(key_cache, key, begin);
        let value = self.slice_update(value_cache, value, begin);
        let attended = self.attend(query, key, value, mask);
        (self.merge_heads(attended, heads), [key, value])
    }

    /// [`Builder::cached_attention`] for programs in which nothing of a layer is to wait for what is
    /// written to caches: keys and values of the past, `[G, 1, D, P]` where there are any, are read
    /// from elsewhere and the new ones behind them, so that the mask is `[1, 1, S, P + S]`.
    pub fn chunk_attention(
        &mut self,
        [query, key, value]: [ValueId; 3],
        past: Option<[ValueId; 2]>,
        [key_cache, value_cache]: [ValueId; 2],
        begin: ValueId,
        mask: ValueId,
        heads: HeadShape,
    ) -> (ValueId, [ValueId; 2]) {
        let query = self.split_heads(query, heads, heads.group);
        let key = self.split_heads(key, heads, 1);
        let value = self.split_heads(value, heads, 1);
        let next = [
            self.slice_update(key_cache, key, begin),
            self.slice_update(value_cache, value, begin),
        ];
        let [keys, values] = match past {
            Some([keys, values]) => {
                [self.concat(&[keys, key], 3), self.concat(&[values, value], 3)]
            }
            None => [key, value],
        };
        let attended = self.attend(query, keys, values, mask);
        (self.merge_heads(attended, heads), next)
    }

    /// Negative log likelihood of each target: logits `[1, V, 1, N]`, targets int32 `[N]`, result
    /// `[N]`.
    pub fn cross_entropy(&mut self, logits: ValueId, targets: ValueId) -> ValueId {
        let n = self.shape(logits)[3];
        let targets = self.reshape(targets, &[1, 1, 1, n]);
        let total = self.reduce(Reduction::LogSumExp, logits, &[1], true);
        let picked = self.gather_along_axis(logits, targets, 1);
        let loss = self.sub(total, picked);
        self.reshape(loss, &[n])
    }
}
