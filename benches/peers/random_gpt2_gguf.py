"""Writes a GPT-2 124M with random weights as GGUF, for llama.cpp.

usage: random_gpt2_gguf.py FILE f32|f16|bf16|q8_0
"""

import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, POSITIONS, VOCAB = 768, 12, 12, 1024, 50257


def main():
    path, kind = sys.argv[1:]
    quantization = {
        "f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16,
        "bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }[kind]
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(4 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{i}>" for i in range(VOCAB)])
    writer.add_token_types([gguf.TokenType.NORMAL] * VOCAB)
    writer.add_token_merges(["< 0"])
    writer.add_eos_token_id(VOCAB - 1)
    writer.add_bos_token_id(VOCAB - 1)

    def matrix(name, *shape):
        values = random.standard_normal(shape, dtype=np.float32) * 0.02
        data = gguf.quants.quantize(values, quantization)
        writer.add_tensor(name, data, raw_dtype=quantization)

    def vector(name, values):
        writer.add_tensor(name, np.asarray(values, dtype=np.float32))

    matrix("token_embd.weight", VOCAB, WIDTH)
    writer.add_tensor("position_embd.weight",
                      random.standard_normal((POSITIONS, WIDTH), dtype=np.float32) * 0.02)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            vector(f"{block}.{norm}.weight", np.ones(WIDTH))
            vector(f"{block}.{norm}.bias", np.zeros(WIDTH))
        for name, outputs, inputs in (("attn_qkv", 3 * WIDTH, WIDTH), ("attn_output", WIDTH, WIDTH),
                                      ("ffn_up", 4 * WIDTH, WIDTH), ("ffn_down", WIDTH, 4 * WIDTH)):
            matrix(f"{block}.{name}.weight", outputs, inputs)
            vector(f"{block}.{name}.bias", np.zeros(outputs))
    vector("output_norm.weight", np.ones(WIDTH))
    vector("output_norm.bias", np.zeros(WIDTH))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
