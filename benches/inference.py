#!/usr/bin/env python3
"""Speed, time to first token and memory of inference, as the tables of docs/models.md.

    inference.py ORION DIRECTORY GPT2_TOKENIZER LLAMA_TOKENIZER [PREFIX …]

ORION is a release build; DIRECTORY gets 3 GB of models with random weights, in the shapes of GPT-2
124M and Stories110M; the tokenizers are any with 50257 and with 32000 ids. Files like
gpt2-124m-q4_k_m.gguf that llama.cpp's quantization put there are measured with the others. PREFIX
is put before every command that is measured, `taskset -c 0,1` for one. Needs GNU time. Times and
rates are medians of five.
"""
import json
import statistics
import subprocess
import sys
from pathlib import Path

orion, directory, *tokenizers = sys.argv[1:5]
prefix = sys.argv[5:]
directory = Path(directory)
directory.mkdir(parents=True, exist_ok=True)
PRECISIONS = ["f32", "bf16", "f16", "int8"]


def once(*arguments):
    """Seconds of a whole command, and the most memory it had, in MiB, as GNU time says."""
    words = [*prefix, "/usr/bin/time", "-f", "%e %M", orion, *map(str, arguments)]
    process = subprocess.run(words, check=True, capture_output=True, text=True)
    seconds, kibibytes = process.stderr.splitlines()[-1].split()
    return float(seconds), float(kibibytes) / 1024


def generated(file, extra):
    """Tokens per second of `orion run`, which keeps quantized matrices as their file has them."""
    words = [*prefix, orion, "run", str(file), "-p", "Once", "-n", "129", "--format", "json", *extra]
    return json.loads(subprocess.run(words, check=True, capture_output=True).stdout)["tokens_per_second"]


def make(*arguments):
    subprocess.run([orion, *map(str, arguments), "--quiet"], check=True)


def rate(test, model, precision, tokens):
    words = [*prefix, orion, "bench", test, "-m", str(model), "-n", str(tokens), "--precision",
             precision, "--format", "json", "-r", "5"]
    report = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return next(r for r in report["results"] if r["test"].endswith(str(tokens)))


prompt = directory / "prompt.txt"
prompt.write_text("the cat " * 256)
for preset, tokenizer in zip(["gpt2-124m", "stories110m"], tokenizers):
    hf = directory / preset
    files = {"Hugging Face, fp32": hf}
    if not hf.exists():
        make("init", preset, "--out", hf, "--tokenizer", tokenizer)
    for dtype in ["f32", "f16", "bf16", "q8_0"]:
        file = files[f"GGUF {dtype.upper()}"] = directory / f"{preset}-{dtype}.gguf"
        if not file.exists():
            make("convert", hf, "--to", "gguf", "--dtype", dtype, "--out", file, "--no-tokenizer")
    files |= {f"GGUF {f.stem.split('-')[-1].upper()}": f for f in directory.glob(f"{preset}-q[45]*.gguf")}
    print(f"\n{preset}\n\n| precision | prompt of 512, tokens/s | share | generating 128, tokens/s | share |")
    print("|---|---|---|---|---|")
    for precision in PRECISIONS:
        rates = [rate("prefill", hf, precision, 512), rate("decode", hf, precision, 128)]
        cells = " | ".join(f"{r['median']:.0f} | {r['share_of_limit']:.2f}" for r in rates)
        print(f"| {precision} | {cells} |", flush=True)
    print("\n| file | weights | first token | a token | prompt of 512 | generating 128 | tokens/s |\n|---|---|---|---|---|---|---|")
    rows = [(name, file, None) for name, file in files.items()]
    rows += [(f"Hugging Face, fp32, `--precision {p}`", hf, p) for p in PRECISIONS[1:]]
    for name, file, precision in rows:
        size = (file / "model.safetensors" if file.is_dir() else file).stat().st_size / 1e6
        extra = ["--precision", precision] if precision else []
        extra += ["--tokenizer", tokenizer, "--temperature", "0"]
        begin = [once("run", file, "-p", "Once", "-n", "2", *extra) for _ in range(6)][1:]
        seconds = statistics.median(s for s, _ in begin)
        memory = [statistics.median(m for _, m in begin)]
        memory.append(once("run", file, "-f", prompt, "-n", "514", *extra)[1])
        memory.append(once("run", file, "-p", "Once", "-n", "129", *extra)[1])
        cells = " | ".join(f"{m:.0f} MiB" for m in memory)
        speed = statistics.median(generated(file, extra) for _ in range(5))
        print(f"| {name} | {size:.0f} MB | {seconds * 1e3:.0f} ms | {cells} | {speed:.0f} |", flush=True)
