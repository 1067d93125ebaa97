// SPDX-License-Identifier: Apache-2.0
// usage: fuzz [--cases N] [--seconds S] [--seed K]; a case depends on its number and the seed alone.
// Each case is a random layer and input in every instruction set against the reference, then the same layer with a
// field spoilt, which must be refused, then with random fields, which must not crash.
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "support/check.hpp"

using namespace lmbq_test;

namespace {

constexpr int32_t lmbq_layer_desc::*kFields[] = {
    &lmbq_layer_desc::isa,        &lmbq_layer_desc::in_channels, &lmbq_layer_desc::out_channels,
    &lmbq_layer_desc::groups,     &lmbq_layer_desc::kernel_h,    &lmbq_layer_desc::kernel_w,
    &lmbq_layer_desc::stride_h,   &lmbq_layer_desc::stride_w,    &lmbq_layer_desc::dilation_h,
    &lmbq_layer_desc::dilation_w, &lmbq_layer_desc::pad_top,     &lmbq_layer_desc::pad_left,
    &lmbq_layer_desc::pad_bottom, &lmbq_layer_desc::pad_right,   &lmbq_layer_desc::threshold,
    &lmbq_layer_desc::window,     &lmbq_layer_desc::act,         &lmbq_layer_desc::slope_count,
    &lmbq_layer_desc::act_on};

int extreme() {
    return one_of({INT_MIN, INT_MIN + 1, -65536, -2, -1, 0, 1, 2, 3, 8, 63, 64, 255, 256, 1024, 16384, 65535, 65536,
                   65537, 1 << 24, 1 << 30, INT_MAX - 1, INT_MAX});
}

void refused(const lmbq_layer_desc& s, const std::string& what) {
    lmbq_layer* layer = nullptr;
    const lmbq_status status = lmbq_layer_create(&s, &layer);
    expect((status == LMBQ_INVALID || status == LMBQ_UNSUPPORTED) && !layer && *lmbq_last_error(), "refuses " + what);
    lmbq_layer_destroy(layer);
}

// A value that its field never has.
void spoil_one(const Case& c, const Data& d) {
    lmbq_layer_desc s = d.describe(c, LMBQ_ISA_PORTABLE);
    const int field = pick(0, 17);
    const int bad = one_of({INT_MIN, -65536, -1, INT_MAX, 1 << 24});
    s.*kFields[field] = bad;
    if (kFields[field] == &lmbq_layer_desc::window) s.threshold = LMBQ_THRESHOLD_LOCAL;
    if (kFields[field] == &lmbq_layer_desc::slope_count) s.act = LMBQ_ACT_PRELU;
    refused(s, "field " + std::to_string(field) + " = " + std::to_string(bad) + " in " + c.text());

    s = d.describe(c, LMBQ_ISA_PORTABLE);
    switch (rng() % 4) {
        case 0: s.struct_size = (uint32_t)extreme(); break;
        case 1: s.weight_bytes += (uint64_t)(int64_t)one_of({INT_MIN, -8, -1, 1, 8, INT_MAX}); break;
        case 2: s.weight = nullptr; break;
        default: s.scale = nullptr;
    }
    if (s.struct_size != sizeof s || s.weight_bytes != d.packed_weight.size() || !s.weight || !s.scale)
        refused(s, "size or pointer in " + c.text());
}

// Anything. Arrays are long enough for what may be accepted: weight_bytes is at most true, and channels fit in it.
void garbage(const Case& c, const Data& d) {
    const std::vector<float> numbers((1 << 16) + 1, 1.0f);
    lmbq_layer_desc s = d.describe(c, LMBQ_ISA_PORTABLE);
    s.scale = s.bias = s.thresholds = s.slope = s.gamma = s.zeta = numbers.data();
    if (s.gain) s.gain = numbers.data();
    if (s.pixel_factor) s.pixel_factor = numbers.data();
    for (auto field : kFields)
        if (rng() % 6 == 0) s.*field = extreme();
    if (rng() % 4 == 0) s.weight_bytes = rng() % (d.packed_weight.size() + 1);
    for (auto pointer : {&lmbq_layer_desc::bias, &lmbq_layer_desc::thresholds, &lmbq_layer_desc::gain,
                         &lmbq_layer_desc::slope, &lmbq_layer_desc::gamma, &lmbq_layer_desc::zeta,
                         &lmbq_layer_desc::pixel_factor})
        if (rng() % 8 == 0) s.*pointer = nullptr;
    lmbq_layer* layer = nullptr;
    const lmbq_status status = lmbq_layer_create(&s, &layer);
    expect((status == LMBQ_OK) == (layer != nullptr), "a layer or an error in " + c.text());
    if (layer) {
        int64_t oh = 0, ow = 0;
        if (lmbq_layer_output_size(layer, extreme(), extreme(), &oh, &ow) == LMBQ_OK)
            expect(oh >= 1 && ow >= 1, "an output of at least a pixel");
        int64_t h = pick(1, 4), w = pick(1, 4);
        if (lmbq_layer_output_size(layer, h, w, &oh, &ow) == LMBQ_OK && oh * ow * s.out_channels < 1 << 20) {
            const std::vector<float> x((size_t)(h * w * s.in_channels), -1.0f);
            std::vector<float> y((size_t)(oh * ow * s.out_channels));
            expect(lmbq_layer_run(layer, x.data(), nullptr, y.data(), 1, h, w, extreme()) == LMBQ_OK, "what is accepted runs");
        }
    }
    lmbq_layer_destroy(layer);
}

long option(int argc, char** argv, const char* name, long otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return atol(argv[i + 1]);
    return otherwise;
}

}  // namespace

int main(int argc, char** argv) {
    const long cases = option(argc, argv, "--cases", 1000), seed = option(argc, argv, "--seed", 1);
    const std::chrono::seconds limit(option(argc, argv, "--seconds", 60));
    const auto start = std::chrono::steady_clock::now();
    long i = 0;
    for (; i < cases && std::chrono::steady_clock::now() - start < limit; i++) {
        rng.seed((unsigned)(seed * 1000003 + i));
        const Case c = random_case();
        const Data d = make(c);
        check(c, d);
        for (int k = 0; k < 4; k++) spoil_one(c, d);
        for (int k = 0; k < 4; k++) garbage(c, d);
    }
    printf("%ld cases of seed %ld\n", i, seed);
    return report("fuzz");
}
