"""One contender: PyTorch, as a process that measures one repetition for every line it reads.

usage: torch_worker.py TEST MODEL PRECISION BATCH TOKENS THREADS eager|compile
TEST is train, prefill or decode; prefill and decode use Hugging Face transformers' GPT-2.
"""

import json
import resource
import sys
import time

import torch


def train(model_name, precision, batch, tokens, compiled):
    from torch_networks import network

    torch.manual_seed(1)
    model, vocab = network(model_name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, vocab, (batch, tokens + 1))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    loss_of = torch.compile(model) if compiled else model

    def step():
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(inputs, targets)
        loss.backward()
        # Orion clips in the same step; so does the peer.
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        return time.perf_counter() - begin

    return step


def gpt2(precision):
    import transformers

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_implementation="sdpa"))
    return model.to(dtype).eval()


def prefill(model_name, precision, batch, tokens, compiled):
    assert model_name == "gpt2-124m"
    model = gpt2(precision)
    run = torch.compile(model) if compiled else model
    ids = torch.randint(0, 50257, (batch, tokens))

    @torch.inference_mode()
    def step():
        begin = time.perf_counter()
        run(ids, logits_to_keep=1, use_cache=False)
        return time.perf_counter() - begin

    return step


def decode(model_name, precision, batch, tokens, compiled):
    assert model_name == "gpt2-124m" and not compiled
    model = gpt2(precision)
    ids = torch.randint(0, 50257, (batch, tokens))

    @torch.inference_mode()
    def step():
        cache = None
        begin = time.perf_counter()
        for i in range(tokens):
            out = model(ids[:, i : i + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
        return time.perf_counter() - begin

    return step


def main():
    test, model, precision, batch, tokens, threads, mode = sys.argv[1:]
    torch.set_num_threads(int(threads))
    make = {"train": train, "prefill": prefill, "decode": decode}[test]
    step = make(model, precision, int(batch), int(tokens), mode == "compile")
    for _ in range(2):
        step()
    print(json.dumps({"ready": True, "version": torch.__version__}), flush=True)
    for line in sys.stdin:
        seconds = sorted(step() for _ in range(int(line)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak}), flush=True)


main()
