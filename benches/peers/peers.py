#!/usr/bin/env python3
"""Runs the same work on Orion and on its peers, interleaved, and writes what was measured as JSON.

    benches/peers/peers.py --scratch DIR --out benches/peers/results.json [--only TEXT] [--rounds N]

Peers are installed from their registries into --scratch, never into the repository. Every
contender is a process of its own that waits while others work; in each round each of them measures
a few repetitions, in an order that rotates, so that what else the machine does meets them all.
Ratios are taken within a round. Needs Python 3.11, a C compiler and `cargo`.
"""

import argparse
import datetime
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# (test, model, precision, batch, tokens, contenders beside Orion)
CONTESTS = [
    ("train", "stories110m", "f32", 1, 256,
     ["torch", "torch tuned compiled", "burn", "candle"]),
    ("train", "stories110m", "bf16", 1, 256, ["torch tuned", "torch tuned compiled"]),
    ("train", "golf-baseline", "f32", 1, 256, ["torch tuned compiled"]),
    ("train", "golf-baseline", "bf16", 1, 256, ["torch tuned compiled"]),
    ("train", "golfwide", "f32", 1, 256, ["torch tuned compiled"]),
    ("train", "golfwide", "bf16", 1, 256, ["torch tuned compiled"]),
    ("train", "gpt2-124m", "f32", 4, 64, ["torch", "torch tuned", "llm.c"]),
    ("prefill", "gpt2-124m", "f32", 1, 512, ["torch tuned", "llama.cpp f32"]),
    ("prefill", "gpt2-124m", "bf16", 1, 512, ["torch tuned", "llama.cpp bf16"]),
    ("decode", "gpt2-124m", "f32", 1, 128, ["torch tuned", "llama.cpp f32"]),
    ("decode", "gpt2-124m", "f16", 1, 128, ["llama.cpp f16"]),
    ("decode", "gpt2-124m", "bf16", 1, 128, ["torch tuned", "llama.cpp bf16"]),
    ("decode", "gpt2-124m", "int8", 1, 128, ["llama.cpp q8_0"]),
]

# (precision, contenders) of all products that `orion bench gemm` measures
GEMMS = [("f32", ["oneDNN", "faer", "gemm"]), ("bf16", ["oneDNN"])]

# MKL as PyTorch ships it chooses slow kernels on processors of another vendor unless this says so.
MKL_PRELOAD = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def run(*command, **options):
    subprocess.run([str(c) for c in command], check=True, **options)


class Scratch:
    """Where peers are installed."""

    def __init__(self, directory):
        self.directory = Path(directory).resolve()
        if self.directory.is_relative_to(ROOT):
            raise SystemExit("--scratch must lie outside the repository")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.python = self.directory / "venv/bin/python"
        if not self.python.exists():
            run(sys.executable, "-m", "venv", self.directory / "venv")

    def pip(self, module, *packages):
        """Installs packages unless the module can be imported."""
        have = subprocess.run([self.python, "-c", f"import {module}"], capture_output=True)
        if have.returncode != 0:
            print(f"installing {' '.join(packages)}", file=sys.stderr)
            run(self.python, "-m", "pip", "install", "-q", *packages)

    def torch(self):
        self.pip("torch", "torch", "numpy")
        self.pip("transformers", "transformers")

    def tuned(self):
        """Libraries to load before PyTorch."""
        library = self.directory / "libmkl_fast.so"
        if not library.exists():
            source = self.directory / "mkl_fast.c"
            source.write_text(MKL_PRELOAD)
            run(os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source)
        found = [str(library)]
        listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
        for line in listed.splitlines():
            if "libtcmalloc" in line and "debug" not in line and "=>" in line:
                found.append(line.split("=>")[1].strip())
                break
        return found

    def gguf(self, kind):
        """A GPT-2 124M with random weights for llama.cpp."""
        self.pip("gguf", "gguf")
        self.pip("llama_cpp", "llama-cpp-python")
        path = self.directory / f"gpt2-124m-{kind}.gguf"
        if not path.exists():
            run(self.python, HERE / "random_gpt2_gguf.py", path, kind)
        return path

    def rust(self, name):
        """The binary of a peer that is a Rust crate."""
        source = self.directory / name
        shutil.copytree(HERE / name, source, dirs_exist_ok=True)
        environment = {**os.environ, "RUSTFLAGS": "-C target-cpu=native"}
        environment.pop("CARGO_TARGET_DIR", None)
        run("cargo", "build", "--release", "-q", cwd=source, env=environment)
        return source / "target/release" / name


    def llmc(self, checkout):
        """The binary that calls llm.c, which is on no registry."""
        if checkout is None:
            raise RuntimeError("needs --llmc with a checkout of llm.c")
        binary = self.directory / "llmc_worker"
        run(os.environ.get("CC", "cc"), "-Ofast", "-march=native", "-fopenmp", "-DOMP", "-w",
            "-I", Path(checkout).resolve(), HERE / "llmc_worker.c", "-lm", "-o", binary)
        return binary

    def onednn(self):
        """The binary that calls oneDNN."""
        if not (self.directory / "venv/include/oneapi").exists():
            run(self.python, "-m", "pip", "install", "-q", "onednn-cpu-gomp",
                "onednn-devel-cpu-gomp")
        library, binary = self.directory / "venv/lib", self.directory / "gemm_onednn"
        run(os.environ.get("CXX", "c++"), "-O2", "-std=c++17",
            "-I", self.directory / "venv/include", HERE / "gemm_onednn.cpp",
            "-L", library, "-ldnnl", f"-Wl,-rpath,{library}", "-o", binary)
        return binary


class Waiting:
    """A process that measures when it is told to."""

    def __init__(self, name, command, environment=None, flags=""):
        self.name, self.flags = name, flags
        self.process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})}, cwd=HERE,
        )
        self.version = json.loads(self.process.stdout.readline())["version"]

    def ask(self, repetitions):
        self.process.stdin.write(f"{repetitions}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def measure(self, repetitions):
        answer = self.ask(repetitions)
        return statistics.median(answer["seconds"]), answer["peak_rss_bytes"], None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Orion:
    """`orion bench`, which also measures the machine's limits."""

    name, flags = "orion", ""

    def __init__(self, binary, test, model, precision, batch, tokens, threads):
        self.command = [binary, "bench", test, "--model", model, "--precision", precision,
                        "--tokens", str(tokens), "--threads", str(threads), "--format", "json"]
        if batch != 1:
            self.command += ["--batch", str(batch)]
        self.unit_tokens = batch * tokens
        self.version = subprocess.run([binary, "--version"], capture_output=True, text=True,
                                      check=True).stdout.split()[-1]
        self.machine = None

    def measure(self, repetitions):
        out = subprocess.run([*self.command, "--repetitions", str(repetitions)], check=True,
                             capture_output=True, text=True).stdout
        report = json.loads(out)
        self.machine = report["machine"]
        result = report["results"][0]
        seconds = result["median"] / 1e3
        if result["unit"] == "tokens/s":
            seconds = self.unit_tokens / result["median"]
        return seconds, result["peak_rss_bytes"], result["share_of_limit"]

    def close(self):
        pass


def contender(arguments, scratch, name, test, model, precision, batch, tokens):
    threads = arguments.threads
    common = [test, model, precision, batch, tokens, threads]
    environment = {"OMP_NUM_THREADS": str(threads)}
    if name.startswith("torch"):
        scratch.torch()
        flags = "2 threads" if threads == 2 else f"{threads} threads"
        if "tuned" in name:
            libraries = scratch.tuned()
            environment["LD_PRELOAD"] = ":".join(libraries)
            flags += ", " + " and ".join(Path(p).name for p in libraries) + " preloaded"
        mode = "compile" if "compiled" in name else "eager"
        worker = [scratch.python, HERE / "torch_worker.py", *common, mode]
        return Waiting(name, worker, environment, f"{mode}, {flags}")
    if name.startswith("llama.cpp"):
        kind = name.split()[1]
        path = scratch.gguf(kind)
        worker = [scratch.python, HERE / "llamacpp_worker.py", test, path, batch, tokens, threads]
        return Waiting(name, worker, environment, f"{kind} weights, {threads} threads")
    if name == "llm.c":
        worker = [scratch.llmc(arguments.llmc), scratch.directory / "llmc.bin", batch, tokens]
        return Waiting(name, worker, environment, "gcc -Ofast, OpenMP")
    binary = scratch.rust({"burn": "burn-worker"}.get(name, name))
    environment["RAYON_NUM_THREADS"] = str(threads)
    return Waiting(name, [binary, *common], environment, "target-cpu=native")


def contest(arguments, scratch, definition):
    test, model, precision, batch, tokens, peers = definition
    title = f"{test} {model} {precision} {batch}x{tokens}"
    orion = Orion(arguments.orion, test, model, precision, batch, tokens, arguments.threads)
    contenders, missing = [orion], []
    for name in peers:
        if arguments.peers and not any(p in name for p in arguments.peers):
            continue
        try:
            print(f"{title}: starting {name}", file=sys.stderr)
            contenders.append(contender(arguments, scratch, name, test, model, precision, batch,
                                        tokens))
        except Exception as error:  # a peer that cannot be built is reported, not hidden
            missing.append({"name": name, "reason": str(error)[:300]})
    seconds = {c.name: [] for c in contenders}
    peaks, shares = {}, []
    for round_number in range(arguments.rounds):
        turn = round_number % len(contenders)
        for c in contenders[turn:] + contenders[:turn]:
            taken, peaks[c.name], share = c.measure(arguments.repetitions)
            seconds[c.name].append(taken)
            if share is not None:
                shares.append(share)
            print(f"{title}: {c.name} {taken * 1e3:.1f} ms", file=sys.stderr)
    ours = seconds["orion"]
    results = []
    for c in contenders:
        theirs = seconds[c.name]
        results.append({
            "name": c.name, "version": c.version, "flags": c.flags, "seconds": theirs,
            "median": statistics.median(theirs),
            "times_slower_than_orion": statistics.median(t / o for t, o in zip(theirs, ours)),
            "peak_rss_bytes": peaks[c.name],
        })
        c.close()
    return orion.machine, {
        "test": test, "model": model, "precision": precision, "batch": batch, "tokens": tokens,
        "threads": arguments.threads,
        "orion_share_of_limit": statistics.median(shares) if shares else None,
        "contenders": results, "missing": missing,
    }


def gemm_contest(arguments, scratch, precision, peers):
    """Every product of `orion bench gemm`, on Orion and on libraries."""
    command = [arguments.orion, "bench", "gemm", "--precision", precision, "--threads",
               str(arguments.threads), "--repetitions", str(arguments.repetitions),
               "--format", "json"]

    def orion():
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        report, found = json.loads(out), {}
        for result in report["results"]:
            _, kind, sizes = result["test"].split()
            flops = 2 * math.prod(map(int, sizes.split("x")))
            found.setdefault(f"{kind} {sizes}",
                             (flops / result["median"] / 1e9, result["share_of_limit"]))
        return report["machine"], found

    print(f"gemm {precision}: starting", file=sys.stderr)
    _, products = orion()
    shapes = []
    for name in products:
        kind, sizes = name.split()
        # What is constant to Orion is an ordinary matrix to the others.
        shapes.append(":".join(["fwd" if kind == "fwd-const" else kind, *sizes.split("x")]))
    environment = {"OMP_NUM_THREADS": str(arguments.threads),
                   "RAYON_NUM_THREADS": str(arguments.threads)}
    contenders, missing = [], []
    for name in peers:
        if arguments.peers and not any(p in name for p in arguments.peers):
            continue
        try:
            if name == "oneDNN":
                worker = [scratch.onednn(), precision, *shapes]
            else:
                worker = [scratch.rust("gemm-crates"), name, arguments.threads, *shapes]
            contenders.append(Waiting(name, worker, environment))
        except Exception as error:
            missing.append({"name": name, "reason": str(error)[:300]})
    rounds = []
    for round_number in range(arguments.rounds):
        print(f"gemm {precision}: round {round_number + 1}", file=sys.stderr)
        machine, ours = orion()
        rounds.append((ours, [c.ask(arguments.repetitions)["seconds"] for c in contenders]))
    rows = []
    for at, name in enumerate(products):
        ours = [r[0][name][0] for r in rounds]
        rows.append({
            "product": name,
            "orion_seconds": ours,
            "orion_share_of_limit": statistics.median(r[0][name][1] for r in rounds),
            "peer_seconds": [[r[1][c][at] for r in rounds] for c in range(len(contenders))],
        })
    for c in contenders:
        c.close()
    return machine, {
        "precision": precision, "threads": arguments.threads, "products": rows,
        "peers": [{"name": c.name, "version": c.version} for c in contenders], "missing": missing,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", required=True, help="directory to install peers in")
    parser.add_argument("--orion", default=ROOT / "target/release/orion", type=Path)
    parser.add_argument("--out", type=Path, help="JSON to write [default: standard output]")
    parser.add_argument("--llmc", help="a checkout of llm.c")
    parser.add_argument("--only", help="contests whose title contains this text")
    parser.add_argument("--peers", nargs="*", help="only peers whose names contain one of these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3, help="in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    scratch = Scratch(arguments.scratch)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT,
                            capture_output=True, text=True).stdout.strip()
    machine, contests = None, []
    for definition in CONTESTS:
        title = "{} {} {} {}x{}".format(*definition[:5])
        if arguments.only and arguments.only not in title:
            continue
        machine, result = contest(arguments, scratch, definition)
        contests.append(result)
    gemms = []
    for precision, peers in GEMMS:
        if not arguments.only or arguments.only in f"gemm {precision}":
            machine, result = gemm_contest(arguments, scratch, precision, peers)
            gemms.append(result)
    if not contests and not gemms:
        raise SystemExit(f"no contest is called anything with {arguments.only!r}")
    report = {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "system": platform.system(),
        "machine": {k: machine[k] for k in ("cpu", "instructions", "threads")},
        "rounds": arguments.rounds,
        "repetitions": arguments.repetitions,
        "contests": contests,
        "gemms": gemms,
    }
    text = json.dumps(report, indent=1) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
