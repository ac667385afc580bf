use crate::{Error, ErrorKind, Result};

/// `ak42` read as a little-endian number: what version 1 and later start with.
pub(super) const MAGIC: u32 = 0x616b_3432;

/// Bytes of the header of version 1 and later.
pub(super) const LONG_HEADER_BYTES: usize = 256;

/// No sane model is larger in any direction. Products of up to four of these fit a `u128`.
const MAX_SIZE: u32 = 1 << 24;

/// How a checkpoint is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A header of 28 bytes, f32 weights, rotation tables.
    V0,
    /// A header of 256 bytes, f32 weights, norms first.
    V1,
    /// As version 1, with matrices as int8 in groups that share an f32 scale.
    V2 {
        /// Consecutive elements that share a scale.
        group_size: usize,
    },
}

/// The sizes of a model; letters as in the [module documentation](super).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `E`.
    pub dim: usize,
    /// `F`.
    pub hidden_dim: usize,
    /// `L`.
    pub layers: usize,
    /// `H`.
    pub heads: usize,
    /// `K`.
    pub kv_heads: usize,
    /// `V`.
    pub vocab_size: usize,
    /// `S`, the longest sequence the model was trained for.
    pub seq_len: usize,
    /// Whether the output matrix is the embedding.
    pub shared_classifier: bool,
}

impl Header {
    /// `D`, elements of one head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// `K * D`, rows of the key and value projections.
    pub fn kv_dim(&self) -> usize {
        self.head_dim() * self.kv_heads
    }

    /// Checks that sizes are positive, bounded and divide each other as attention needs.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] naming the first size that is wrong.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("dim", self.dim),
            ("hidden_dim", self.hidden_dim),
            ("n_layers", self.layers),
            ("n_heads", self.heads),
            ("n_kv_heads", self.kv_heads),
            ("vocab_size", self.vocab_size),
            ("seq_len", self.seq_len),
        ] {
            if value == 0 || value > MAX_SIZE as usize {
                return Err(malformed(format!(
                    "{name} is {value}, expected something from 1 to {MAX_SIZE}"
                )));
            }
        }
        let Self { dim, heads, kv_heads, .. } = *self;
        if !dim.is_multiple_of(heads) {
            return Err(malformed(format!("dim {dim} is not a multiple of n_heads {heads}")));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(malformed(format!(
                "n_heads {heads} is not a multiple of n_kv_heads {kv_heads}"
            )));
        }
        if !self.head_dim().is_multiple_of(2) {
            return Err(malformed(format!(
                "the head size {} is odd, rotary embedding needs pairs",
                self.head_dim()
            )));
        }
        Ok(())
    }

    /// Every tensor in the order of `version`'s file, grouped as the file groups them.
    pub(super) fn groups(&self, version: Version) -> Vec<Group> {
        let Self { dim, hidden_dim, vocab_size, .. } = *self;
        let kv_dim = self.kv_dim();
        let one =
            |name: &'static str, rows, columns| Group { name: Name::Once(name), rows, columns };
        let each =
            |name: &'static str, rows, columns| Group { name: Name::PerLayer(name), rows, columns };
        let embedding = one("tok_embeddings.weight", vocab_size, Some(dim));
        let attention_norm = each("attention_norm.weight", dim, None);
        let ffn_norm = each("ffn_norm.weight", dim, None);
        let norm = one("norm.weight", dim, None);
        let attention = [
            each("attention.wq.weight", dim, Some(dim)),
            each("attention.wk.weight", kv_dim, Some(dim)),
            each("attention.wv.weight", kv_dim, Some(dim)),
            each("attention.wo.weight", dim, Some(dim)),
        ];
        let feed_forward = [
            each("feed_forward.w1.weight", hidden_dim, Some(dim)),
            each("feed_forward.w2.weight", dim, Some(hidden_dim)),
            each("feed_forward.w3.weight", hidden_dim, Some(dim)),
        ];
        let mut groups = Vec::with_capacity(13);
        if version == Version::V0 {
            groups.extend([embedding, attention_norm]);
            groups.extend(attention);
            groups.push(ffn_norm);
            groups.extend(feed_forward);
            groups.push(norm);
            groups.push(Group {
                name: Name::RotationTables,
                rows: self.seq_len,
                columns: Some(2 * (self.head_dim() / 2)),
            });
        } else {
            groups.extend([attention_norm, ffn_norm, norm, embedding]);
            groups.extend(attention);
            groups.extend(feed_forward);
        }
        if !self.shared_classifier {
            groups.push(one("output.weight", vocab_size, Some(dim)));
        }
        groups
    }

    /// The exact size of the file.
    pub(super) fn file_bytes(&self, version: Version) -> u128 {
        let header = if version == Version::V0 { 28 } else { LONG_HEADER_BYTES as u128 };
        let body = self.groups(version).into_iter().map(|group| {
            let count = match group.name {
                Name::PerLayer(_) => self.layers as u128,
                _ => 1,
            };
            count * group.bytes(version)
        });
        header + body.sum::<u128>()
    }
}

/// One tensor, or the same tensor of every layer, as it lies in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) name: Name,
    pub(super) rows: usize,
    /// `None` for vectors.
    pub(super) columns: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    Once(&'static str),
    PerLayer(&'static str),
    RotationTables,
}

impl Group {
    pub(super) fn elements(&self) -> u128 {
        self.rows as u128 * self.columns.unwrap_or(1) as u128
    }

    /// Whether `version` stores this as int8.
    pub(super) fn group_size(&self, version: Version) -> Option<usize> {
        match version {
            Version::V2 { group_size } if self.columns.is_some() => Some(group_size),
            _ => None,
        }
    }

    /// Bytes of one tensor of this group.
    pub(super) fn bytes(&self, version: Version) -> u128 {
        match self.group_size(version) {
            Some(group_size) => self.elements() + self.elements() / group_size as u128 * 4,
            None => self.elements() * 4,
        }
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        [Some(self.rows), self.columns].into_iter().flatten().collect()
    }

    /// The names of the tensors of this group, in file order; none for rotation tables.
    pub(super) fn names(&self, layers: usize) -> Vec<String> {
        match self.name {
            Name::Once(name) => vec![name.to_owned()],
            Name::PerLayer(name) => (0..layers).map(|l| format!("layers.{l}.{name}")).collect(),
            Name::RotationTables => Vec::new(),
        }
    }
}

pub(super) fn malformed(detail: String) -> Error {
    Error::new(ErrorKind::Malformed, format!("llama2.c checkpoint: {detail}"))
}
