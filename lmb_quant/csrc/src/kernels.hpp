// SPDX-License-Identifier: Apache-2.0
// What the driver and the instruction-set files share. Plain data only: these files are compiled with different
// flags, so nothing inline with external linkage (no std containers) may be instantiated in both.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "lmb_quant_kernels.h"

namespace lmbq {

// The activation functions, LMBQ_ACT_ left out, and the parameters that each needs; epilogue.inl computes them. LEAKY
// is not among them: a layer makes it a PRELU.
#define LMBQ_ACTS(X)          \
    X(NONE, ACT_NEEDS_NONE)   \
    X(RELU, ACT_NEEDS_NONE)   \
    X(HARDTANH, ACT_NEEDS_NONE) \
    X(SILU, ACT_NEEDS_NONE)   \
    X(PRELU, ACT_NEEDS_SLOPE) \
    X(RPRELU, ACT_NEEDS_SLOPE | ACT_NEEDS_SHIFTS)

enum ActNeeds : int { ACT_NEEDS_NONE = 0, ACT_NEEDS_SLOPE = 1, ACT_NEEDS_SHIFTS = 2 };  // shifts: gamma and zeta
enum Skip : int { SKIP_NONE, SKIP_AFTER_ACT, SKIP_BEFORE_ACT };
enum Threshold : int { TH_NONE, TH_CHANNEL, TH_LOCAL, TH_GLOBAL };

constexpr float kTieMargin = 1.0f / 262144.0f;  // 2^-18

// Bytes of one pixel's bits, as the binarisation leaves them.
static inline int bit_bytes(int channels) { return (channels + 63) / 64 * 8; }

// One row of the input to bits. Pixel stride of `bits` is bit_stride bytes, a multiple of 8; unused bits become 0.
struct BinarizeRow {
    const float* const* rows;  // in-frame rows of the window, top to bottom (LOCAL)
    int nrows;
    const float* center;
    int width, channels, window;
    int threshold;
    const float* t;  // per channel: CHANNEL thresholds or GLOBAL means
    const float* shift;  // LOCAL, GLOBAL: per channel, subtracted from the value that is compared; may be null
    const float* gain;  // LOCAL, GLOBAL: per channel, times the mean; given where shift is
    float* columns;  // LOCAL scratch: ring_pixels x round_up(channels, 16)
    int ring_pixels;  // power of two, > window
    uint8_t* bits;
    int bit_stride;
};

// The factors of one row's pixels, from the real input.
struct FactorRow {
    const float* x;
    int width, channels;
    const float* weights;  // channels, then the offset
    float* out;
};

struct Segment {  // a stretch of consecutive activation groups read by one accumulation
    int32_t row;  // kernel row
    int32_t offset;  // from the tile's first pixel, in units of the activation format
    int32_t count;
};

// Per output channel, out_pad entries each.
struct OutputChannels {
    float *scale, *bias, *slope, *gamma, *zeta;
};

// The convolution part of a layer in run-time layout. Per-channel arrays have out_pad entries (multiple of 64).
struct ConvPlan {
    int in_channels, out_channels, out_pad, groups;
    int kh, kw, sh, sw, dh, dw;
    int act;  // of LMBQ_ACTS
    int skip;  // where it is added, if a row has one
    OutputChannels channels;
    const float* pixel_factor;  // weights of the input channels and offset, or null
    const int32_t* tap_pop;  // [tap][out_pad]: +1 weights of each tap
    const void* weights;
    const Segment* segments;
    int nsegments;
    int unit;  // activation units per pixel (nibble groups or words)
};

struct ConvRow {
    const void* const* act;  // kh rows, each at its padded column 0
    int width;  // output pixels
    const float* corr;  // [class][out_pad]: valid bits + 2 * popcount of the weights under padding
    const uint16_t* cls;  // class of each output pixel
    const float* factor;  // of each output pixel, or null
    const float* skip;
    float* out;
    const char* prefetch;  // a row the binarisation will want soon, or null
    size_t prefetch_bytes;
};

// The columns of a row that `out_width` outputs read: `left` and `right` ones of padding around those that exist.
struct PaddedRow {
    size_t left, width, right;
};

static inline int columns_read(const ConvPlan& p, int out_width) { return (out_width - 1) * p.sw + (p.kw - 1) * p.dw + 1; }

static inline PaddedRow padded_row(const ConvPlan& p, int width, int left, int out_width) {
    const size_t all = (size_t)columns_read(p, out_width), first = (size_t)left < all ? (size_t)left : all;
    const size_t rest = all - first, exist = (size_t)width < rest ? (size_t)width : rest;
    return {first, exist, rest - exist};
}

struct ConvKernel {
    const char* name;
    int (*supports)(const ConvPlan&);
    int (*unit)(const ConvPlan&);
    int (*build_segments)(const ConvPlan&, Segment* out);  // out may be null: count only
    size_t (*weight_bytes)(const ConvPlan&);
    // bits: (O, taps, ceil(I/8)) as in the file
    void (*pack_weights)(const ConvPlan&, const uint8_t* bits, void* out);
    size_t (*act_row_bytes)(const ConvPlan&, int out_width);
    // bits of one row (width pixels) to the activation format, left zero columns in front
    void (*expand_row)(const ConvPlan&, const uint8_t* bits, int bit_stride, int width, int left, int out_width,
                       void* act);
    void (*conv_row)(const ConvPlan&, const ConvRow&);
};

// Derivative that stands for that of the sign; GIVEN: an array of its values.
enum Surrogate : int {
    SURROGATE_GIVEN,
    SURROGATE_STE,
    SURROGATE_IDENTITY,
    SURROGATE_APPROX_SIGN,
    SURROGATE_TRIANGLE_HALF
};

enum UnitSum : int { GRAD_BIAS, GRAD_SLOPE, GRAD_GAMMA, GRAD_ZETA, UNIT_SUMS };

// From the gradient of a row of a unit's output to that of its convolution.
struct UnitGradRow {
    const ConvPlan* plan;
    int width;
    const float *grad_out, *conv;  // conv: alpha times the sums of bits; may be grad_conv
    const float* skip;  // what was added before the activation function, or null
    const float* factor;  // of each pixel, or null
    float* grad_conv;  // of the sums of bits: factor and alpha are in it
    float* grad_skip;  // of `skip`; or null
    float* grad_factor;  // of each pixel; or null
    float* sums;  // [UNIT_SUMS][out_pad], added to
};

// From the gradient of a row's bits to that of the values compared and of the mean.
struct ThresholdGradRow {
    int width, channels, window, nrows;
    int surrogate;
    const float *x, *grad_bits, *given;
    const float* columns;  // LOCAL: sums of the window's rows, window / 2 pixels of zeros on either side; or null
    const float* means;  // GLOBAL: per channel; or null
    const float *shift, *gain;  // per channel, or null
    float* through_value;  // may be grad_bits
    float* through_mean;  // divided by the number of pixels; or null
    float* sums;  // [shift, gain][channels rounded up to 16], added to
};

struct InputGradRow {
    int width, channels, window;
    const float* through_value;
    const float* columns;  // as in ThresholdGradRow, of through_mean; or null
    const float* grad_skip;  // or null; may be grad_x
    const float *x, *grad_factor, *factor_weights;  // grad_factor: of each pixel, or null
    float* factor_sums;  // [channels rounded up to 16], added to
    float* grad_x;
};

constexpr int kTile = 32;  // pixels of a stretch
constexpr int kPlane = 40;  // floats of a plane that takes a stretch and what the kernel adds to it
constexpr int kBlockGroups = 4;  // groups of four outputs whose tables stay in L1

struct BitsGradTables {
    const float* grad_conv;  // from the stretch's first pixel
    int pixels, channels;
    float* tables;
};

struct BitsGradRow {
    int in_channels, kernel_h, kernel_w, blocks;
    const float* const* rows;  // kernel_h tables, null where the row does not exist
    const uint16_t* choices;  // [block][in_channel][kernel_h][group][kernel_w]: floats from the block's first table
    float* out;  // [in_channel][kPlane], added to; its first pixel is the stretch's, less the left padding
};

struct WeightGradTile {
    int in_channels, out_channels, kernel_h, kernel_w;
    const float* const* groups;  // the first pixels of groups of four
    const int* pixels;  // of each that exist
    const uint8_t* nibbles;  // [in_channel][kernel_w] planes of [row][group] bytes: four bits, in the high half
    size_t plane, row;
    float* tables;
    float* acc;  // [block][in_channel][kernel_h][kernel_w][outputs of a block], added to
};

struct GradientKernels {
    int block_outputs, tile_groups;  // of a WeightGradTile
    void (*unit_row)(const UnitGradRow&);
    void (*sum_of_rows)(const float* const* rows, int nrows, size_t count, float* out);
    void (*threshold_row)(const ThresholdGradRow&);
    void (*input_row)(const InputGradRow&);
    void (*bits_tables)(const BitsGradTables&);
    void (*bits_row)(const BitsGradRow&);
    void (*scatter_planes)(const float* planes, int channels, int pixels, float* row);  // adds
    void (*weight_tile)(const WeightGradTile&);
};

// A real convolution of stride 1 that keeps height and width, dense or depthwise, in run-time layout.
struct RealPlan {
    int in_channels, out_channels, out_pad, kernel, groups;  // groups: of dense ones
    bool depthwise;
    int act;  // of LMBQ_ACTS
    bool skip;  // whether the input is added after it
    OutputChannels channels;
    const float* weights;
    const uint8_t* int8_weights;  // of a pointwise one of 8-bit numbers, whose unit is channels.scale; or null
    const int32_t* corrections;   // [out_pad]: what its sums begin with
};

constexpr int kInt8Inputs = 1024;  // at most

struct RealRow {
    const float* const* rows;  // `kernel` rows of the input, each from its padded column 0
    int width;
    const float* skip;  // or null
    float* out;  // none of the above
};

// An activation function alone, of `width` pixels. out may be x.
struct ActRow {
    int act, width, channels;
    OutputChannels parameters;
    const float* x;
    float* out;
};

constexpr int kMaxTaps = 5;

// One LR row of an upscaled image, plus alpha times the pixel shuffle of detail.
struct UpscaleRow {
    int width, channels, upscale;
    int taps;  // 3 bilinear, 5 bicubic
    const float (*weights)[kMaxTaps];  // of each of the `upscale` places between two pixels
    const float* const* planes;  // [channel][tap]: rows of the image; taps / 2 pixels more on either side
    const float* detail;  // (width, channels * upscale^2) or null
    float alpha;
    float* column;  // scratch: width + taps - 1, or bicubic taps * upscale * width
    float* const* out;  // [channel][upscale]: rows of upscale * width
};

struct RealKernels {
    size_t (*weight_floats)(const RealPlan&);
    void (*pack_weights)(const RealPlan&, const float* oihw, float* out);
    size_t (*int8_weight_bytes)(const RealPlan&);  // null where nothing multiplies in 8 bits, as all of int8
    void (*int8_pack_weights)(const RealPlan&, const int8_t* oi, void* out, int32_t* corrections);
    void (*row)(const RealPlan&, const RealRow&);
    void (*act_row)(const ActRow&);
    void (*add_row)(const float* a, const float* x, float alpha, float* out, size_t n);  // a + alpha x; out may be either
    void (*copy_row)(const float* x, float* out, size_t n);  // apart
    void (*affine_row)(const float* x, float offset, float gain, float* out, size_t n);  // (x + offset) gain
    void (*upscale_row)(const UpscaleRow&);
    int (*finite_row)(const float* x, size_t n);
    // [0, 1] to bytes, ties to even; cut to the range
    void (*bytes_row)(const float* x, uint8_t* out, size_t n);
    void (*interleave_bytes)(const uint8_t* planes, size_t plane, int channels, int width, uint8_t* out);
};

struct Isa {
    const char* name;
    // of one width and kind; rows that follow one another share what their windows have in common while it is in cache
    void (*binarize_rows)(const BinarizeRow* rows, int count);
    void (*factor_row)(const FactorRow&);
    const ConvKernel* conv;
    const GradientKernels* gradients;  // null where nothing is trained
    const RealKernels* real;
    const ConvKernel* narrow_conv = nullptr;  // for what `conv` does not take, before the portable one; or null
};

extern const Isa isa_portable;
extern const ConvKernel portable_conv;
#if defined(LMBQ_X86)
extern const Isa isa_avx2;
extern const Isa isa_avx512;
#if defined(LMBQ_AMX)
extern const Isa isa_amx;  // AVX-512 with another convolution
extern const ConvKernel amx_conv;
#endif
#endif
#if defined(LMBQ_ARM)
extern const Isa isa_neon;
#endif
#if defined(LMBQ_WASM)
extern const Isa isa_wasm;
#endif

}  // namespace lmbq
