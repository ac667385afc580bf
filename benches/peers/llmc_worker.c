// One contender: llm.c's GPT-2 124M on the CPU, as a process that measures one repetition for
// every line it reads. Compiled together with a checkout of llm.c (`peers.py --llmc`).
//
// usage: llmc_worker CHECKPOINT BATCH TOKENS; CHECKPOINT is written with random weights.

#define TESTING
#include "train_gpt2.c"

#include <sys/resource.h>

static void write_checkpoint(const char *path) {
    const long vocab = 50257, padded = 50304, positions = 1024, layers = 12, width = 768;
    int header[256] = {20240326, 3, positions, vocab, layers, 12, width, padded};
    long count = (padded + positions) * width + 2 * width +
                 layers * (12 * width * width + 13 * width);
    FILE *file = fopen(path, "wb");
    fwrite(header, sizeof header, 1, file);
    unsigned state = 1;
    for (long i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        float value = ((state >> 8) / 8388608.0f - 1.0f) * 0.03f;
        fwrite(&value, sizeof value, 1, file);
    }
    fclose(file);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    long batch = atol(arguments[2]), tokens = atol(arguments[3]);
    write_checkpoint(arguments[1]);
    // What llm.c prints while it loads and in its first step is not an answer.
    int out = dup(1);
    dup2(2, 1);
    GPT2 model;
    gpt2_build_from_checkpoint(&model, arguments[1]);
    int *inputs = malloc(batch * tokens * sizeof(int)), *targets = malloc(batch * tokens * sizeof(int));
    for (long i = 0; i < batch * tokens; ++i) {
        inputs[i] = rand() % 50257;
        targets[i] = rand() % 50257;
    }
    int step = 0;
    for (int warm = 1;; warm = 0) {
        int repetitions = 1;
        if (!warm && scanf("%d", &repetitions) != 1) return 0;
        if (!warm) printf("{\"seconds\": [");
        for (int r = 0; r < repetitions; ++r) {
            double begin = now();
            gpt2_forward(&model, inputs, targets, batch, tokens);
            gpt2_zero_grad(&model);
            gpt2_backward(&model);
            gpt2_update(&model, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.0f, ++step);
            if (!warm) printf("%s%.9g", r ? ", " : "", now() - begin);
        }
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        if (warm) {
            fflush(stdout);
            dup2(out, 1);
        }
        if (warm) printf("{\"ready\": true, \"version\": \"main\"}\n");
        else printf("], \"peak_rss_bytes\": %ld}\n", usage.ru_maxrss * 1024);
        fflush(stdout);
    }
}
