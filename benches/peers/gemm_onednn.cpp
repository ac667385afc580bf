// One contender: oneDNN's plain matmul, as a process that measures for every line it reads.
//
// usage: gemm_onednn f32|bf16 SHAPE...
// A shape is KIND:O:I:N with KIND fwd (W[O,I] X[I,N]), dX (W' dY[O,N]) or dW (dY X').
// For every line, the median of that many samples for each shape, in seconds a product.

#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

using namespace dnnl;

struct Product {
    matmul primitive;
    std::vector<memory> operands;
    long calls = 1;

    void run(stream &s) {
        primitive.execute(s, {{DNNL_ARG_SRC, operands[0]}, {DNNL_ARG_WEIGHTS, operands[1]},
                              {DNNL_ARG_DST, operands[2]}});
    }

    double sample(stream &s) {
        auto begin = std::chrono::steady_clock::now();
        for (long i = 0; i < calls; ++i) run(s);
        s.wait();
        std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
        return taken.count() / calls;
    }
};

// A row-major matrix, or the transpose of one, filled with numbers of ordinary size.
static memory matrix(engine &e, memory::data_type type, long rows, long columns, bool transposed) {
    memory::desc plain({rows, columns}, type,
                       transposed ? memory::format_tag::ba : memory::format_tag::ab);
    memory made(plain, e);
    auto *bytes = static_cast<unsigned char *>(made.get_data_handle());
    size_t size = plain.get_size();
    if (type == memory::data_type::f32) {
        auto *values = reinterpret_cast<float *>(bytes);
        for (size_t i = 0; i < size / 4; ++i) values[i] = float(int(i * 2654435761u >> 24) - 128) / 64;
    } else {
        auto *values = reinterpret_cast<unsigned short *>(bytes);
        for (size_t i = 0; i < size / 2; ++i) {
            float value = float(int(i * 2654435761u >> 24) - 128) / 64;
            unsigned bits;
            std::memcpy(&bits, &value, 4);
            values[i] = bits >> 16;
        }
    }
    return made;
}

int main(int count, char **arguments) {
    engine e(engine::kind::cpu, 0);
    stream s(e);
    auto type = std::string(arguments[1]) == "bf16" ? memory::data_type::bf16
                                                    : memory::data_type::f32;
    std::vector<Product> products;
    for (int at = 2; at < count; ++at) {
        char kind[8];
        long o, i, n;
        if (std::sscanf(arguments[at], "%7[^:]:%ld:%ld:%ld", kind, &o, &i, &n) != 4) return 2;
        std::string k = kind;
        long rows = k == "dX" ? i : o, inner = k == "fwd" ? i : k == "dX" ? o : n;
        long columns = k == "dW" ? i : n;
        memory a = matrix(e, type, rows, inner, k == "dX");
        memory b = matrix(e, type, inner, columns, k == "dW");
        // Like Orion's, sums leave as fp32.
        memory c = matrix(e, memory::data_type::f32, rows, columns, false);
        matmul::primitive_desc description(e, a.get_desc(), b.get_desc(), c.get_desc());
        Product p{matmul(description), {a, b, c}};
        p.run(s);
        s.wait();
        p.calls = std::max(1L, long(0.02 / p.sample(s)));
        products.push_back(p);
    }
    std::printf("{\"ready\": true, \"version\": \"%d.%d\"}\n", dnnl_version()->major,
                dnnl_version()->minor);
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        std::printf("{\"seconds\": [");
        for (size_t at = 0; at < products.size(); ++at) {
            std::vector<double> samples;
            for (int r = 0; r < std::stoi(line); ++r) samples.push_back(products[at].sample(s));
            std::sort(samples.begin(), samples.end());
            std::printf("%s%.9g", at ? ", " : "", samples[samples.size() / 2]);
        }
        std::printf("]}\n");
        std::fflush(stdout);
    }
}
