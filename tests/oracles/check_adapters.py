#!/usr/bin/env python3
"""Reads adapters that Orion wrote with PEFT, and lets Orion read PEFT's, over random small models.

    check_adapters.py ORION

ORION is the program. For GPT-2, Llama, Qwen2 and Qwen3: `orion finetune` trains an adapter, PEFT loads it,
and its logits are compared with those of the model that `orion fuse` wrote, and its loss with that
of `orion eval --adapter`; then PEFT writes adapters with patterns, regular expressions and
rank-stabilized factors, and `orion eval --adapter` and `orion fuse` are compared again. Ends with 1
when something differs, with 0 and a line that starts with SKIPPED when there is no PEFT.
"""
import json
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
try:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import (AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig,
                              LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                              Qwen3ForCausalLM)
except ImportError as error:
    print(f"SKIPPED: PEFT cannot be loaded ({error}); pip install torch transformers peft")
    sys.exit(0)

# Relative to the largest logit, as the tolerance of whole fp32 networks is.
NETWORK = 1e-4
VOCABULARY, SEQUENCE, WINDOWS = 300, 24, 6

SIZES = dict(vocab_size=VOCABULARY, hidden_size=48, intermediate_size=96, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=48, n_layer=3,
                                               n_head=4, n_positions=64)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True)),
}


def of_peft(name):
    """What PEFT is asked to write for a family."""
    queries, mlp = ("c_attn", "c_fc") if name == "gpt2" else ("q_proj", "down_proj")
    fan = dict(fan_in_fan_out=name == "gpt2", task_type="CAUSAL_LM", init_lora_weights=False)
    return {
        "names": LoraConfig(r=4, lora_alpha=12, target_modules=[queries, mlp], **fan),
        "all-linear, rank-stabilized": LoraConfig(r=6, lora_alpha=3, target_modules="all-linear",
                                                  use_rslora=True, **fan),
        "a pattern, ranks and alphas": LoraConfig(
            r=4, lora_alpha=8, target_modules=rf".*\.[0-2]\..*({queries}|{mlp})",
            rank_pattern={queries: 2, rf"1\..*{mlp}": 7}, alpha_pattern={mlp: 3}, **fan),
        "two of the blocks": LoraConfig(r=3, lora_alpha=9, target_modules=[queries, mlp],
                                        layers_to_transform=[0, 2], **fan),
    }


def main(orion):
    directory = tempfile.TemporaryDirectory()
    here = Path(directory.name)
    torch.manual_seed(7)
    ids = torch.randint(VOCABULARY, (SEQUENCE * WINDOWS + 1,))
    data = here / "tokens.bin"
    data.write_bytes(b"".join(struct.pack("<H", i) for i in ids.tolist()))
    inputs = ids[:-1].view(WINDOWS, SEQUENCE)
    targets = ids[1:].view(WINDOWS, SEQUENCE)
    failures = 0

    def run(*arguments):
        done = subprocess.run([orion, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"orion {' '.join(map(str, arguments))}\n{done.stderr}")
        return done.stdout

    def logits(model):
        with torch.no_grad():
            return model.eval()(inputs).logits.double()

    def compare(what, base, adapter):
        nonlocal failures
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
        expected = logits(model)
        changed = (expected - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max()
        merged = here / "merged"
        run("fuse", base, "--adapter", adapter, "--out", merged)
        found = logits(AutoModelForCausalLM.from_pretrained(merged))
        for file in merged.iterdir():
            file.unlink()
        merged.rmdir()
        apart = ((found - expected).abs().max() / expected.abs().max()).item()
        loss = torch.nn.functional.cross_entropy(
            expected.flatten(0, 1), targets.flatten()).item()
        flags = ["--data", data, "--seq", SEQUENCE, "--format", "json"]
        evaluated = json.loads(run("eval", base, "--adapter", adapter, *flags))["loss"]
        loss_apart = abs(evaluated - loss) / loss
        good = apart < NETWORK and loss_apart < NETWORK and changed > 1e-2
        failures += not good
        print(f"{'ok ' if good else 'BAD'} {what}: the adapter moves logits by {changed:.2g}; "
              f"fused logits are {apart:.1e} apart, the loss {loss_apart:.1e}")

    for name, make in MODELS.items():
        base = here / name
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter *= 5
        model.save_pretrained(base)
        out = here / f"{name}-run"
        targets_of_ours = "q,v,o,up,down" if name == "gpt2" else "q,k,v,o,gate,up,down"
        run("finetune", base, "--data", data, "--rank", 4, "--alpha", 8, "--targets",
            targets_of_ours, "--steps", 30, "--seq", SEQUENCE, "--lr", "2e-2", "--out", out)
        compare(f"{name}, written by orion finetune", base, out / "adapter")
        compare(f"{name}, its last checkpoint", base, (out / "latest").resolve())
        for what, config in of_peft(name).items():
            adapter = here / f"{name}-peft"
            get_peft_model(make(), config).save_pretrained(adapter)
            compare(f"{name}, written by PEFT: {what}", base, adapter)
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
