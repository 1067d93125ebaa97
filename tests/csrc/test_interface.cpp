// SPDX-License-Identifier: Apache-2.0
// What the C interface refuses, and how the instruction set is chosen.
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "support/check.hpp"

using namespace lmbq_test;

namespace {

void descriptions() {
    const Case c;
    const Data d = make(c);
    auto bad = [&](const char* what, const std::function<void(lmbq_layer_desc&)>& spoil, int status = LMBQ_INVALID) {
        lmbq_layer_desc s = d.describe(c, LMBQ_ISA_PORTABLE);
        spoil(s);
        lmbq_layer* layer = nullptr;
        expect(lmbq_layer_create(&s, &layer) == status && !layer && *lmbq_last_error(), std::string("refuses ") + what);
        lmbq_layer_destroy(layer);
    };
    bad("struct size", [](lmbq_layer_desc& s) { s.struct_size--; });
    bad("weight bytes", [](lmbq_layer_desc& s) { s.weight_bytes--; });
    bad("no weight", [](lmbq_layer_desc& s) { s.weight = nullptr; });
    bad("no scale", [](lmbq_layer_desc& s) { s.scale = nullptr; });
    bad("no channels", [](lmbq_layer_desc& s) { s.in_channels = 0; });
    bad("huge channels", [](lmbq_layer_desc& s) { s.out_channels = 1 << 30; });
    bad("groups that do not divide", [](lmbq_layer_desc& s) { s.groups = 3; });
    bad("no groups", [](lmbq_layer_desc& s) { s.groups = 0; });
    bad("tail bits", [](lmbq_layer_desc& s) { s.in_channels = 63; });
    bad("kernel", [](lmbq_layer_desc& s) { s.kernel_w = 32; });
    bad("stride", [](lmbq_layer_desc& s) { s.stride_w = 0; });
    bad("dilation", [](lmbq_layer_desc& s) { s.dilation_h = -1; });
    bad("padding", [](lmbq_layer_desc& s) { s.pad_top = -1; });
    bad("even window", [](lmbq_layer_desc& s) { s.window = 4; });
    bad("huge window", [](lmbq_layer_desc& s) { s.window = 257; });
    bad("threshold", [](lmbq_layer_desc& s) { s.threshold = 4; });
    bad("gain without a mean", [](lmbq_layer_desc& s) { s.threshold = LMBQ_THRESHOLD_NONE, s.gain = s.scale; });
    bad("act_on", [](lmbq_layer_desc& s) { s.act_on = -1; });
    bad("no thresholds", [](lmbq_layer_desc& s) { s.threshold = LMBQ_THRESHOLD_CHANNEL, s.thresholds = nullptr; });
    bad("act", [](lmbq_layer_desc& s) { s.act = LMBQ_ACT_COUNT; });
    bad("leaky slopes", [](lmbq_layer_desc& s) { s.act = LMBQ_ACT_LEAKY; });
    bad("prelu slopes", [](lmbq_layer_desc& s) { s.act = LMBQ_ACT_PRELU, s.slope_count = 2; });
    bad("no gamma", [](lmbq_layer_desc& s) { s.gamma = nullptr; });
    bad("factor and stride", [](lmbq_layer_desc& s) { s.pixel_factor = s.scale, s.stride_w = 2; });
    bad("factor and padding", [](lmbq_layer_desc& s) { s.pixel_factor = s.scale, s.pad_top = 2; });
    bad("instruction set", [](lmbq_layer_desc& s) { s.isa = 77; }, LMBQ_UNSUPPORTED);
    setenv("LMB_QUANT_ISA", "sse9", 1);
    bad("environment", [](lmbq_layer_desc& s) { s.isa = LMBQ_ISA_AUTO; }, LMBQ_UNSUPPORTED);
    unsetenv("LMB_QUANT_ISA");

    lmbq_layer* layer = nullptr;
    expect(lmbq_layer_create(nullptr, &layer) == LMBQ_INVALID, "refuses no description");
    const lmbq_layer_desc s = d.describe(c, LMBQ_ISA_AUTO);
    expect(lmbq_layer_create(&s, nullptr) == LMBQ_INVALID, "refuses no place for the layer");
    lmbq_layer_destroy(nullptr);
}

void calls() {
    const Case c;
    const Data d = make(c);
    const Layer layer = create(c, d, LMBQ_ISA_AUTO);
    std::vector<float> x = d.x;
    x.resize(2 * x.size());
    float* p = x.data();
    auto refused = [&](const char* what, const float* in, const float* skip, float* out, int64_t n, int64_t h,
                       int64_t w) {
        expect(lmbq_layer_run(layer.get(), in, skip, out, n, h, w, 1) == LMBQ_INVALID, std::string("refuses ") + what);
    };
    refused("overlap", p, nullptr, p + 64, 1, 7, 9);
    refused("overlap with the skip", p + d.x.size(), p + 1, p, 1, 7, 9);
    refused("no input", nullptr, nullptr, p, 1, 7, 9);
    refused("no output", p, nullptr, nullptr, 1, 7, 9);
    refused("no images", p, nullptr, p, 0, 7, 9);
    for (int64_t size : {(int64_t)0, (int64_t)-1, (int64_t)(1 << 24) + 1, INT64_MIN, INT64_MAX}) {
        refused("height", p, nullptr, p, 1, size, 9);
        refused("width", p, nullptr, p, 1, 7, size);
        refused("batch", p, nullptr, p, size > 9 || size < 0 ? size : -1, 7, 9);
        int64_t oh, ow;
        expect(lmbq_layer_output_size(layer.get(), size, 9, &oh, &ow) == LMBQ_INVALID, "refuses the size");
    }
    refused("more than memory can hold", p, nullptr, p, 1 << 20, 1 << 24, 1 << 24);
    expect(lmbq_layer_run(nullptr, p, nullptr, p, 1, 7, 9, 1) == LMBQ_INVALID, "refuses no layer");
    for (int threads : {INT_MIN, -1, 0, INT_MAX}) {
        x = d.x;
        expect(lmbq_layer_run(layer.get(), x.data(), x.data(), x.data(), c.n, c.h, c.w, threads) == LMBQ_OK &&
                   different(x.data(), d.y) == 0, "any number of threads");
    }

    std::vector<uint8_t> bits(d.y_bits.size());
    auto binarize = [&](int isa, int threshold, int window, int64_t channels) {
        return lmbq_binarize(isa, threshold, window, nullptr, nullptr, d.x.data(), bits.data(), c.n, c.h, c.w,
                             channels, 1);
    };
    expect(binarize(77, LMBQ_THRESHOLD_NONE, 1, c.I) == LMBQ_UNSUPPORTED, "binarize refuses the instruction set");
    expect(binarize(LMBQ_ISA_PORTABLE, LMBQ_THRESHOLD_CHANNEL, 1, c.I) == LMBQ_INVALID, "binarize needs thresholds");
    expect(binarize(LMBQ_ISA_PORTABLE, LMBQ_THRESHOLD_LOCAL, 2, c.I) == LMBQ_INVALID, "binarize refuses the window");
    expect(binarize(LMBQ_ISA_PORTABLE, LMBQ_THRESHOLD_NONE, 1, 0) == LMBQ_INVALID, "binarize refuses no channels");
}

// The definition, one output at a time.
float upscaled(const std::vector<float>& image, int h, int w, int upscale, size_t plane, int y, int x) {
    auto taps = [&](int at, int size, int (&index)[2], float (&weight)[2]) {
        const float f = ((float)(at % upscale) + 0.5f) / (float)upscale - 0.5f;
        index[0] = at / upscale, index[1] = std::min(std::max(at / upscale + (f < 0 ? -1 : 1), 0), size - 1);
        weight[1] = std::fabs(f), weight[0] = 1 - weight[1];
    };
    int rows[2], columns[2];
    float down[2], across[2], sum = 0;
    taps(y, h, rows, down), taps(x, w, columns, across);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            sum += down[i] * across[j] * image[(plane * (size_t)h + (size_t)rows[i]) * (size_t)w + (size_t)columns[j]];
    return sum;
}

void upscaling() {
    for (int upscale : {2, 3, 4})
        for (int size : {1, 2, 9}) {
            const int n = 2, c = 3, h = size, w = size + 1, r = upscale, area = r * r;
            std::vector<float> image((size_t)(n * c * h * w)), detail(image.size() * (size_t)area), out(detail.size());
            for (float& v : image) v = real();
            for (float& v : detail) v = real();
            std::vector<float> other(out.size());
            auto run = [&](float* to, int threads) {
                return lmbq_upscale_with_detail(image.data(), detail.data(), to, n, c, h, w, r, 0.25f, threads);
            };
            expect(run(out.data(), 1) == LMBQ_OK, "upscaling runs");
            size_t bad = 0, at = 0;
            for (int plane = 0; plane < n * c; plane++)
                for (int y = 0; y < h * r; y++)
                    for (int x = 0; x < w * r; x++, at++) {
                        const size_t pixel = ((size_t)(plane / c) * h + (size_t)(y / r)) * (size_t)w + (size_t)(x / r);
                        const size_t channel = (size_t)(plane % c * area + y % r * r + x % r);
                        const float wanted = upscaled(image, h, w, r, (size_t)plane, y, x) +
                                             0.25f * detail[pixel * (size_t)(c * area) + channel];
                        bad += !(std::fabs(out[at] - wanted) <= 1e-5f);
                    }
            expect(bad == 0, "upscaling: " + std::to_string(bad) + " values are wrong at upscale " + std::to_string(r));
            expect(run(other.data(), 3) == LMBQ_OK && other == out, "upscaling: any number of threads");
        }
    float one = 0, details[25], many[25];
    auto refuses = [&](const float* image, const float* detail, int c, int64_t h, int upscale) {
        return lmbq_upscale_with_detail(image, detail, many, 1, c, h, 1, upscale, 1.0f, 1) == LMBQ_INVALID;
    };
    expect(!refuses(&one, details, 1, 1, 4), "upscaling of one pixel");
    expect(refuses(&one, details, 1, 1, 5), "upscaling refuses upscale 5");
    expect(refuses(&one, details, 0, 1, 4), "upscaling refuses no channels");
    expect(refuses(&one, nullptr, 1, 1, 4), "upscaling needs detail");
    expect(refuses(&one, details, 1, INT64_MAX, 4), "upscaling refuses the height");
    expect(refuses(many + 15, details, 1, 1, 4), "upscaling refuses out over the image");
    expect(refuses(&one, many + 15, 1, 1, 4), "upscaling refuses out over the detail");
}

void instruction_sets() {
    for (int isa : isas()) {
        setenv("LMB_QUANT_ISA", lmbq_isa_name(isa), 1);
        int selected = 0;
        expect(lmbq_isa_selected(&selected) == LMBQ_OK && selected == isa, "LMB_QUANT_ISA chooses");
        Case c;
        const Data d = make(c);
        const Layer layer = create(c, d, LMBQ_ISA_AUTO);
        expect(strncmp(lmbq_layer_kernel(layer.get()), lmbq_isa_name(isa), strlen(lmbq_isa_name(isa))) == 0,
               "the kernel is of that instruction set");
        expect(lmbq_layer_bytes(layer.get()) >= d.packed_weight.size(), "the layer holds its weights");
    }
    unsetenv("LMB_QUANT_ISA");
    expect(!lmbq_isa_name(-1) && !lmbq_isa_name(99) && !lmbq_isa_available(99), "unknown instruction sets");
    expect(lmbq_abi_version() == LMBQ_ABI_VERSION, "the header is the library's");
}

}  // namespace

int main() {
    descriptions();
    calls();
    upscaling();
    instruction_sets();
    return report("interface");
}
