"""One contender: llama.cpp through llama-cpp-python, as a process like torch_worker.py.

usage: llamacpp_worker.py TEST GGUF BATCH TOKENS THREADS
TEST is prefill or decode.
"""

import json
import random
import resource
import sys
import time

import llama_cpp
from llama_cpp import Llama


def main():
    test, path, batch, tokens, threads = sys.argv[1:]
    tokens, threads = int(tokens), int(threads)
    assert batch == "1"
    model = Llama(path, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads,
                  n_threads_batch=threads, verbose=False)
    random.seed(1)
    ids = [random.randrange(model.n_vocab()) for _ in range(tokens)]

    def step():
        model.reset()
        begin = time.perf_counter()
        if test == "prefill":
            model.eval(ids)
        else:
            for token in ids:
                model.eval([token])
        return time.perf_counter() - begin

    for _ in range(2):
        step()
    print(json.dumps({"ready": True, "version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        seconds = sorted(step() for _ in range(int(line)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak}), flush=True)


main()
