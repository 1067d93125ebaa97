/* SPDX-License-Identifier: Apache-2.0
 * C interface of the 1-bit convolution engine. Plain data in, error codes out: nothing throws or aborts across it.
 * All activations are dense float32 NHWC. Every function may be called from several threads at once. */
#ifndef LMB_QUANT_KERNELS_H
#define LMB_QUANT_KERNELS_H
#include <stddef.h>
#include <stdint.h>

#define LMBQ_ABI_VERSION 7

#if defined(_WIN32)
#define LMBQ_API __declspec(dllexport)
#else
#define LMBQ_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lmbq_status {
    LMBQ_OK = 0,
    LMBQ_INVALID = 1,     /* an argument is wrong; lmbq_last_error() says which */
    LMBQ_UNSUPPORTED = 2, /* the instruction set is unknown, not built, or not on this machine */
    LMBQ_NO_MEMORY = 3,
    LMBQ_INTERNAL = 4,
    LMBQ_BAD_FILE = 5 /* the bytes are no packed network, a damaged one, or one that this library does not run */
} lmbq_status;

typedef enum lmbq_isa {
    LMBQ_ISA_AUTO = 0, /* LMB_QUANT_ISA if set, else the best of this machine */
    LMBQ_ISA_PORTABLE = 1,
    LMBQ_ISA_AVX2 = 2,
    LMBQ_ISA_AVX512 = 3,
    LMBQ_ISA_NEON = 4,
    LMBQ_ISA_WASM = 5,
    LMBQ_ISA_AMX = 6
} lmbq_isa;

/* How an activation becomes a bit (1 = +1, 0 = -1). A comparison with NaN is false: -1. */
typedef enum lmbq_threshold {
    LMBQ_THRESHOLD_NONE = 0,    /* x >= 0 */
    LMBQ_THRESHOLD_CHANNEL = 1, /* x - t[c] >= 0 */
    LMBQ_THRESHOLD_LOCAL = 2,   /* n*d - S >= -2^-18 (n|d| + |S|), S the in-frame sum of a window x window box of x */
    LMBQ_THRESHOLD_GLOBAL = 3   /* d - T >= -2^-18 (|d| + |T|), T the mean of the channel's whole frame of x */
    /* d = x, or x - shift[c]; gain[c] S and gain[c] T take the places of S and T */
} lmbq_threshold;

typedef enum lmbq_act {
    LMBQ_ACT_NONE = 0,
    LMBQ_ACT_RELU = 1,
    LMBQ_ACT_LEAKY = 2,  /* slope[0] */
    LMBQ_ACT_PRELU = 3,  /* slope[1 or out_channels] */
    LMBQ_ACT_RPRELU = 4, /* v > gamma ? (v - gamma) + zeta : slope * (v - gamma) + zeta, per channel */
    LMBQ_ACT_HARDTANH = 5, /* v < -1 ? -1 : v > 1 ? 1 : v */
    LMBQ_ACT_SILU = 6, /* v / (1 + exp(-v)), exp as docs/bit_layout.md defines it */
    LMBQ_ACT_COUNT     /* no function: how many there are */
} lmbq_act;

/* Where a skip is added. */
typedef enum lmbq_act_on {
    LMBQ_ACT_ON_BRANCH = 0, /* act(v) + skip */
    LMBQ_ACT_ON_SUM = 1     /* act(v + skip) */
} lmbq_act_on;

/* Zero it, set struct_size = sizeof(lmbq_layer_desc), fill it in. Every array is copied by lmbq_layer_create. */
typedef struct lmbq_layer_desc {
    uint32_t struct_size;
    int32_t isa; /* lmbq_isa */
    int32_t in_channels, out_channels, groups;
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int32_t pad_top, pad_left, pad_bottom, pad_right; /* a padded activation contributes 0 */
    int32_t threshold; /* lmbq_threshold */
    int32_t window;    /* LOCAL: odd, 1..255 */
    int32_t act;       /* lmbq_act */
    int32_t slope_count;
    int32_t act_on;  /* lmbq_act_on */
    uint64_t weight_bytes;   /* must equal out_channels * kernel_h * kernel_w * ceil(in_channels / groups / 8) */
    const uint8_t *weight;   /* (O, Kh*Kw*ceil(I/8)), channels fastest, LSB first, 1 = +1, tail bits 0 */
    const float *scale;      /* (O), may be negative: batch norm arrives folded */
    const float *bias;       /* (O) or NULL */
    const float *thresholds; /* (in_channels). CHANNEL: t; LOCAL, GLOBAL: shift or NULL */
    const float *gain;       /* (in_channels) or NULL; LOCAL, GLOBAL */
    const float *slope;      /* LEAKY, PRELU, RPRELU */
    const float *gamma;      /* RPRELU: (O) */
    const float *zeta;       /* RPRELU: (O) */
    const float *pixel_factor; /* (in_channels + 1) or NULL: weights, then offset. Needs outputs of the input's size */
} lmbq_layer_desc;

typedef struct lmbq_layer lmbq_layer;

LMBQ_API int lmbq_abi_version(void);
/* Message of the last failure in the calling thread; valid until its next failing call. */
LMBQ_API const char *lmbq_last_error(void);
/* Name of an instruction set, NULL for an unknown number. */
LMBQ_API const char *lmbq_isa_name(int isa);
/* 1 if built in and runnable on this machine. */
LMBQ_API int lmbq_isa_available(int isa);
/* The one AUTO stands for now; LMBQ_UNSUPPORTED if that one cannot run. Wherever AUTO is chosen, and in
 * lmbq_upscale_with_detail, the variable is read anew: do not change the environment in another thread meanwhile. */
LMBQ_API lmbq_status lmbq_isa_selected(int *isa);

LMBQ_API lmbq_status lmbq_layer_create(const lmbq_layer_desc *desc, lmbq_layer **out);
LMBQ_API void lmbq_layer_destroy(lmbq_layer *layer);
/* The kernel the layer runs, e.g. "avx2-lut" or "portable-popcount". */
LMBQ_API const char *lmbq_layer_kernel(const lmbq_layer *layer);
/* Bytes of the run-time weight layout and parameters. */
LMBQ_API size_t lmbq_layer_bytes(const lmbq_layer *layer);
LMBQ_API lmbq_status lmbq_layer_output_size(const lmbq_layer *layer, int64_t h, int64_t w, int64_t *oh, int64_t *ow);

/* out = act(scale * conv(sign(x), W) + bias) [+ skip], or act(... [+ skip]). With a pixel factor scale * conv(...) is
 * multiplied by f = min(max(weights . x + offset, 0), 1) of its pixel; the sum of channel c mod 16 first, then these 16,
 * 8, 4, 2 by halves. x (n,h,w,I); skip (NULL or out's shape) and out (n,oh,ow,O).
 * out may equal skip; out may equal x when their shapes are equal; any other overlap is refused. */
LMBQ_API lmbq_status lmbq_layer_run(const lmbq_layer *layer, const float *x, const float *skip, float *out, int64_t n,
                                    int64_t h, int64_t w, int threads);

/* The same, for training. bits (n, h, w, ceil(I / 64) * 8 bytes, as lmbq_binarize has them but for the padding): with
 * `given` not NULL they are taken from there, and x is read only where the layer has a pixel factor; else x is binarised,
 * and with `kept` not NULL its bits are written there, but for rows that no output reads. */
LMBQ_API lmbq_status lmbq_layer_run_bits(const lmbq_layer *layer, const float *x, const uint8_t *given, uint8_t *kept,
                                         const float *skip, float *out, int64_t n, int64_t h, int64_t w, int threads);

/* What stands for the derivative of the sign, u the distance to the threshold. */
typedef enum lmbq_surrogate {
    LMBQ_SURROGATE_GIVEN = 0, /* `derivative` holds its values */
    LMBQ_SURROGATE_STE = 1,           /* 1 where |u| <= 1 */
    LMBQ_SURROGATE_IDENTITY = 2,      /* 1 */
    LMBQ_SURROGATE_APPROX_SIGN = 3,   /* max(0, 2 - 2|u|) */
    LMBQ_SURROGATE_TRIANGLE_HALF = 4  /* max(0, 4 - 8|u|) */
} lmbq_surrogate;

/* The backward pass of a layer whose x and bits were kept. Zero it, set struct_size, fill it in. All tensors are dense
 * float32, channels last; a gradient that is NULL is not wanted.
 * In one call everything is computed. Where the gradient convolutions are done elsewhere, it takes two: with grad_conv
 * given the call ends after it; with grad_bits given it begins from there (grad_skip and grad_factor_map as the first call
 * left them; grad_out again, where the layer has a skip that is not LMBQ_ACT_ON_SUM). */
typedef struct lmbq_backward {
    uint32_t struct_size;
    int32_t surrogate; /* lmbq_surrogate */
    int32_t detach;    /* no gradient through the mean */
    int32_t skip;      /* x was the skip */
    const float *x;    /* (n, h, w, I) */
    const uint8_t *bits;
    const float *grad_out;   /* (n, oh, ow, O) */
    const float *derivative; /* (n, h, w, I), for LMBQ_SURROGATE_GIVEN */
    const float *grad_bits;  /* (n, h, w, I) */
    float *grad_conv;        /* (n, oh, ow, O): of the sums of bits; alpha and factor are in it */
    float *grad_skip;        /* (n, oh, ow, O): LMBQ_ACT_ON_SUM, two calls */
    float *grad_factor_map;  /* (n, oh, ow): of each pixel's factor, two calls */
    float *grad_x;           /* may be x */
    float *grad_weight; /* (O, Kh, Kw, I): of the signs, alpha is in it */
    float *grad_bias, *grad_slope, *grad_gamma, *grad_zeta; /* (O) */
    float *grad_shift, *grad_gain; /* (I) */
    float *grad_factor;            /* (I + 1) */
    int32_t finite; /* out: 0 if grad_conv is not finite everywhere; then grad_weight and grad_x are of no use */
} lmbq_backward;

/* 1 if lmbq_layer_backward has the layer's gradient convolutions: no groups, steps of one, kernels 1 or 3 wide. */
LMBQ_API int lmbq_layer_has_gradients(const lmbq_layer *layer);
LMBQ_API lmbq_status lmbq_layer_backward(const lmbq_layer *layer, lmbq_backward *backward, int64_t n, int64_t h,
                                         int64_t w, int threads);

/* Signs of weights to bits as lmbq_layer_desc wants them, 1 where w > 0. Strides in floats. */
LMBQ_API lmbq_status lmbq_pack_signs(const float *weight, int64_t out_channels, int64_t in_channels, int64_t taps,
                                     int64_t out_stride, int64_t in_stride, int64_t tap_stride, uint8_t *bits);

/* The binarisation alone: bits (n,h,w,ceil(c/8)), LSB first, tail bits 0. */
LMBQ_API lmbq_status lmbq_binarize(int isa, int threshold, int window, const float *thresholds, const float *gain,
                                   const float *x, uint8_t *bits, int64_t n, int64_t h, int64_t w, int64_t c, int threads);

/* The last step of a network: out (n,c,upscale h,upscale w) = image (n,c,h,w) upscaled bilinearly, pixel centres as
 * PyTorch's align_corners=False has them, + alpha times the pixel shuffle of detail (n,h,w,c upscale^2), whose channels
 * are in PyTorch's order. upscale 2, 3 or 4. These images are planar; out may overlap neither input. */
LMBQ_API lmbq_status lmbq_upscale_with_detail(const float *image, const float *detail, float *out, int64_t n, int64_t c,
                                              int64_t h, int64_t w, int upscale, float alpha, int threads);

/* Workspaces are kept and reused; this is what they hold, and a way to give the idle ones back. */
LMBQ_API size_t lmbq_workspace_bytes(void);
LMBQ_API void lmbq_workspace_trim(void);

#ifdef __cplusplus
}
#endif
#endif
