// SPDX-License-Identifier: Apache-2.0
// The C boundary of layers.
#include <string>

#include "backward.hpp"
#include "boundary.hpp"
#include "error.hpp"
#include "overlap.hpp"
#include "run.hpp"
#include "upscale.hpp"
#include "workspace.hpp"

struct lmbq_layer {
    lmbq::Layer impl;
};

namespace lmbq {
namespace {

thread_local char message[512];

}  // namespace

lmbq_status fail(lmbq_status status, const char* what) noexcept {
    size_t i = 0;
    for (; what[i] && i + 1 < sizeof message; i++) message[i] = what[i];
    message[i] = 0;
    return status;
}

}  // namespace lmbq

using lmbq::guarded;

extern "C" {

int lmbq_abi_version(void) { return LMBQ_ABI_VERSION; }
const char* lmbq_last_error(void) { return lmbq::message; }
const char* lmbq_isa_name(int isa) { return lmbq::isa_name(isa); }
int lmbq_isa_available(int isa) { return lmbq::find_isa(isa) != nullptr; }

lmbq_status lmbq_isa_selected(int* isa) {
    return guarded([&] {
        lmbq::require(isa, "isa must be given");
        *isa = lmbq::select_isa(LMBQ_ISA_AUTO);
    });
}

lmbq_status lmbq_layer_create(const lmbq_layer_desc* desc, lmbq_layer** out) {
    return guarded([&] {
        lmbq::require(out, "out must be given");
        *out = nullptr;
        lmbq::require(desc && desc->struct_size == sizeof(lmbq_layer_desc),
                      "struct_size is not that of this library's lmbq_layer_desc");
        *out = new lmbq_layer{lmbq::Layer(*desc)};
    });
}

void lmbq_layer_destroy(lmbq_layer* layer) { delete layer; }
const char* lmbq_layer_kernel(const lmbq_layer* layer) { return layer ? layer->impl.conv->name : nullptr; }
size_t lmbq_layer_bytes(const lmbq_layer* layer) { return layer ? layer->impl.bytes : 0; }

lmbq_status lmbq_layer_output_size(const lmbq_layer* layer, int64_t h, int64_t w, int64_t* oh, int64_t* ow) {
    return guarded([&] {
        lmbq::require(layer && oh && ow, "layer, oh and ow must be given");
        const lmbq::Shape s = layer->impl.shape(h, w);
        *oh = s.oh;
        *ow = s.ow;
    });
}

lmbq_status lmbq_layer_run(const lmbq_layer* layer, const float* x, const float* skip, float* out, int64_t n,
                           int64_t h, int64_t w, int threads) {
    return guarded([&] {
        lmbq::require(layer, "layer must be given");
        lmbq::run_layer(layer->impl, x, skip, out, n, h, w, threads);
    });
}

lmbq_status lmbq_layer_run_bits(const lmbq_layer* layer, const float* x, const uint8_t* given, uint8_t* kept,
                                const float* skip, float* out, int64_t n, int64_t h, int64_t w, int threads) {
    return guarded([&] {
        lmbq::require(layer, "layer must be given");
        lmbq::run_layer(layer->impl, x, skip, out, n, h, w, threads, {given, kept});
    });
}

int lmbq_layer_has_gradients(const lmbq_layer* layer) { return layer && lmbq::has_gradients(layer->impl); }

lmbq_status lmbq_layer_backward(const lmbq_layer* layer, lmbq_backward* backward, int64_t n, int64_t h, int64_t w,
                                int threads) {
    return guarded([&] {
        lmbq::require(layer, "layer must be given");
        lmbq::require(backward && backward->struct_size == sizeof(lmbq_backward),
                      "struct_size is not that of this library's lmbq_backward");
        lmbq::run_backward(layer->impl, *backward, n, h, w, threads);
    });
}

lmbq_status lmbq_pack_signs(const float* weight, int64_t out_channels, int64_t in_channels, int64_t taps,
                            int64_t out_stride, int64_t in_stride, int64_t tap_stride, uint8_t* bits) {
    return guarded([&] {
        lmbq::require(weight && bits, "weight and bits must be given");
        lmbq::require(out_channels >= 1 && in_channels >= 1 && taps >= 1, "sizes must be positive");
        for (int64_t o = 0; o < out_channels; o++)
            for (int64_t t = 0; t < taps; t++)
                for (int64_t i = 0; i < in_channels; i += 8, bits++) {
                    unsigned byte = 0;
                    for (int64_t k = 0; k < 8 && i + k < in_channels; k++)
                        byte |= (unsigned)(weight[o * out_stride + t * tap_stride + (i + k) * in_stride] > 0) << k;
                    *bits = (uint8_t)byte;
                }
    });
}

lmbq_status lmbq_binarize(int isa, int threshold, int window, const float* thresholds, const float* gain,
                          const float* x, uint8_t* bits, int64_t n, int64_t h, int64_t w, int64_t c, int threads) {
    return guarded([&] {
        lmbq::Thresholding th;
        th.kind = threshold;
        if (threshold == LMBQ_THRESHOLD_LOCAL) th.window = window;
        lmbq::require(c >= 1 && c <= 1 << 16, "c must be in 1..65536");
        th.set(thresholds, gain, (int)c);
        lmbq::run_binarize(*lmbq::find_isa(lmbq::select_isa(isa)), th, x, bits, n, h, w, c, threads);
    });
}

lmbq_status lmbq_upscale_with_detail(const float* image, const float* detail, float* out, int64_t n, int64_t c,
                                     int64_t h, int64_t w, int upscale, float alpha, int threads) {
    return guarded([&] {
        lmbq::require(image && detail && out, "image, detail and out must be given");
        lmbq::require(n >= 1 && n <= 1 << 20 && c >= 1 && c <= 1 << 12 && h >= 1 && h <= 1 << 22 && w >= 1 && w <= 1 << 22,
                      "a size is out of range");
        lmbq::require(upscale >= 2 && upscale <= 4, "upscale must be 2, 3 or 4");
        const size_t area = (size_t)upscale * (size_t)upscale, floats = lmbq::elements(n, h, w, c * (int64_t)area);
        lmbq::require(!lmbq::overlap(image, floats / area * sizeof(float), out, floats * sizeof(float)) &&
                          !lmbq::overlap(detail, floats * sizeof(float), out, floats * sizeof(float)),
                      "out overlaps image or detail");
        lmbq::upscale_with_detail({image, detail, out, (int)n, (int)c, (int)h, (int)w, upscale, alpha}, threads);
    });
}

size_t lmbq_workspace_bytes(void) { return lmbq::Workspace::held(); }
void lmbq_workspace_trim(void) { lmbq::Workspace::trim(); }

}  // extern "C"
