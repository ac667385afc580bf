//! Checkpoints of llama2.c: version 0 (a bare header), version 1 (f32) and version 2 (Q8_0).
//!
//! Letters: `V` vocabulary, `E` model width (`dim`), `F` feed-forward width, `L` layers, `H` query
//! heads, `K` key/value heads, `D = E / H` head size, `S` sequence length.
//!
//! Tensors carry the names of llama2.c's own PyTorch model, one per layer:
//!
//! | name | shape |
//! |---|---|
//! | `tok_embeddings.weight` | `[V, E]` |
//! | `layers.N.attention_norm.weight` | `[E]` |
//! | `layers.N.attention.wq.weight` | `[E, E]` |
//! | `layers.N.attention.wk.weight`, `.wv.weight` | `[K*D, E]` |
//! | `layers.N.attention.wo.weight` | `[E, E]` |
//! | `layers.N.ffn_norm.weight` | `[E]` |
//! | `layers.N.feed_forward.w1.weight`, `.w3.weight` | `[F, E]` |
//! | `layers.N.feed_forward.w2.weight` | `[E, F]` |
//! | `norm.weight` | `[E]` |
//! | `output.weight`, absent when tied to the embedding | `[V, E]` |
//!
//! All are f32, rows are output features, and query and key rows are in the interleaved RoPE
//! convention. Rotation tables in version 0 files are skipped: they follow from the header.

mod layout;
mod read;
mod write;

pub use layout::{Header, Version};
pub use read::Checkpoint;
pub use write::{write_v0, write_v1};
