//! How much memory a training step is planned to take.

use orion_cpu::{Cpu, CpuOptions};
use orion_engine::programs::gradient_program;
use orion_models::{LlamaConfig, Network, WeightIndex};
use orion_runtime::Device;

/// Bytes of intermediate values, workspace and constants of a step of training.
fn planned_bytes(sequences: usize, length: usize) -> u64 {
    let network = Network::Llama(LlamaConfig {
        vocab_size: 512,
        hidden_size: 96,
        intermediate_size: 256,
        n_layers: 3,
        n_heads: 3,
        n_kv_heads: 3,
        head_dim: 32,
        max_positions: 4096,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
        tied: true,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
    });
    let mut index = WeightIndex::new();
    network.add_tables(&mut index, length);
    let program = gradient_program(&network, &index, sequences, length, false);
    let device = Cpu::new(CpuOptions::with_threads(2));
    let plan = device.compile(&program, index.weights()).unwrap().explain();
    let last = plan.lines().last().unwrap();
    let after = |word: &str| -> u64 {
        let rest =
            &last[last.find(word).unwrap_or_else(|| panic!("`{word}` in: {last}")) + word.len()..];
        let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap();
        digits.parse().unwrap_or_else(|_| panic!("a number after `{word}` in: {last}"))
    };
    after("arena") + after("workspace") + after("constants")
}

/// Attention keeps no matrix of all queries by all keys, so one long sequence takes little more
/// than several short ones of as many tokens together.
#[test]
fn a_long_sequence_takes_no_more_than_twice_the_memory_of_short_ones() {
    let (short, long) = (planned_bytes(4, 1024), planned_bytes(1, 4096));
    // All scores of one layer alone would be 3 heads x 4096 x 4096 x 4 bytes, 201 MB.
    assert!(
        long <= 2 * short,
        "{long} bytes for one sequence of 4096 tokens, {short} for 4 of 1024"
    );
}
