#!/usr/bin/env python3
"""Says what transformers makes of small networks whose weights follow from a rule, so that only
configs, tokens and logits need to be kept: `crates/engine/tests/transformers.rs` makes the same
weights, loads them with these configs and compares.

    networks.py > results/networks.json

Needs numpy, torch and transformers.
"""
import json
import sys

import numpy as np
import torch
from transformers import (LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

LENGTH = 40
# The tokens whose logits are kept.
KEPT = [0, 7, 15, 23, 31, 39]


def numbers(count, salt):
    """From -0.5 to 0.5, by the mixing function of MurmurHash3."""
    h = np.arange(count, dtype=np.uint32) + np.uint32(salt * 1000003 % 2**32)
    for shift, factor in [(16, 0x85EBCA6B), (13, 0xC2B2AE35)]:
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float64) / 2**24 - 0.5


def weight(name, shape, salt):
    x = numbers(int(np.prod(shape)), salt).reshape(shape)
    if name.endswith("embed_tokens.weight"):
        return 2 * x
    if name.endswith(".bias"):
        return x
    # Wide enough that tokens attend to some more than to others.
    return 5 * x / np.sqrt(shape[1]) if len(shape) == 2 else 1 + 0.5 * x


def case(name, kind, config, **keys):
    sizes = dict(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                 num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                 max_position_embeddings=64, rms_norm_eps=1e-6, tie_word_embeddings=False,
                 bos_token_id=0, eos_token_id=1)
    config = config(**{**sizes, **keys})
    model = kind(config).to(torch.float64).eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for salt, parameter in enumerate(sorted(parameters)):
            values = weight(parameter, tuple(parameters[parameter].shape), salt)
            parameters[parameter].copy_(torch.from_numpy(values.astype(np.float32)))
    # transformers computes frequencies in fp32; everything else is in fp64 here.
    tokens = torch.from_numpy(((numbers(LENGTH, 12345) + 0.5) * config.vocab_size).astype(np.int64))
    logits = model(tokens[None]).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], tokens[1:])
    loss.backward()
    config = json.loads(config.to_json_string(use_diff=False))
    for gone in ["transformers_version", "_name_or_path", "id2label", "label2id"]:
        config.pop(gone, None)
    config["architectures"] = [kind.__name__]
    return {
        "name": name,
        "config": config,
        "tokens": tokens.tolist(),
        "logits": [[float(f"{x:.8g}") for x in logits[i].tolist()] for i in KEPT],
        "loss": float(f"{loss.item():.10g}"),
        "gradient_norms": {n: float(f"{p.grad.norm().item():.8g}") for n, p in parameters.items()},
    }


def llama(name, **keys):
    return case(name, LlamaForCausalLM, LlamaConfig, **keys)


def rope(**parameters):
    return {"rope_parameters": {"rope_theta": 10000.0, **parameters}}


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
cases = [
    llama("llama, plain"),
    llama("llama, llama3", **rope(**LLAMA3)),
    llama("llama, linear", **rope(rope_type="linear", factor=4.0)),
    llama("llama, yarn",
          **rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    llama("llama, yarn with all its keys",
          **rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=8.0,
                 beta_slow=0.5, attention_factor=1.5, truncate=False)),
    llama("llama, yarn with mscale",
          **rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=32, mscale=1.0,
                 mscale_all_dim=0.7)),
    llama("llama, longrope",
          **rope(rope_type="longrope", short_factor=[1.0, 1.0, 1.1, 1.5, 2.0, 3.0, 5.0, 8.0],
                 long_factor=[1.0, 1.0, 1.1, 1.5, 2.0, 3.0, 5.0, 8.0], factor=1.0,
                 original_max_position_embeddings=64)),
    llama("llama, attention bias", attention_bias=True),
    llama("llama, both biases, tied", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    case("qwen2", Qwen2ForCausalLM, Qwen2Config),
    case("qwen2, tied, yarn", Qwen2ForCausalLM, Qwen2Config, tie_word_embeddings=True,
         **rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    case("qwen3, attention bias", Qwen3ForCausalLM, Qwen3Config, attention_bias=True),
    case("qwen3, llama3", Qwen3ForCausalLM, Qwen3Config, **rope(**LLAMA3)),
]
json.dump(cases, sys.stdout, indent=None, separators=(",", ":"))
print()
