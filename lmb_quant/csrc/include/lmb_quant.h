/* SPDX-License-Identifier: Apache-2.0
 * C interface of whole networks: pixels in, pixels out, in one call. A network is a list of stages; docs/stages.md says
 * what each computes. Plain data in, error codes out; lmbq_last_error() has the words. Every function may be called from
 * several threads at once, with one network or many; only lmbq_network_close() must be the last of its network. */
#ifndef LMB_QUANT_H
#define LMB_QUANT_H
#include "lmb_quant_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lmbq_stage_kind {
    LMBQ_STAGE_RANGE = 1,     /* (x + offset) * gain */
    LMBQ_STAGE_CONV = 2,      /* real convolution, zero padding that keeps the size; act; + x with skip */
    LMBQ_STAGE_DEPTHWISE = 3, /* the same, each channel for itself */
    LMBQ_STAGE_BINARY = 4,    /* a packed layer that keeps the size, its unit with it */
    LMBQ_STAGE_ACT = 5,       /* an activation function */
    LMBQ_STAGE_ADD = 6,       /* v + alpha * x, v the value of number `other` */
    LMBQ_STAGE_SHUFFLE = 7,   /* PixelShuffle by `upscale`; last, or before ADD_UPSCALED */
    LMBQ_STAGE_ADD_UPSCALED = 8, /* the upscaled image + alpha * x; last, after SHUFFLE */
    LMBQ_STAGE_UPSCALE = 9       /* the upscaled image; the first stage */
} lmbq_stage_kind;

typedef enum lmbq_upscale_mode { LMBQ_BILINEAR = 0, LMBQ_BICUBIC = 1 } lmbq_upscale_mode;

/* One stage. Zero it, set struct_size, fill in what its kind reads. It works on the value before it: value 0 is the image,
 * value i the result of stage i, counted from 1. Every array is copied by lmbq_network_create. */
typedef struct lmbq_stage_desc {
    uint32_t struct_size;
    int32_t kind;         /* lmbq_stage_kind */
    int32_t out_channels; /* CONV */
    int32_t groups;       /* CONV: a divisor of inputs and outputs; 1 is dense */
    int32_t kernel;       /* CONV, DEPTHWISE: side, odd, 1..15 */
    int32_t act;          /* CONV, DEPTHWISE, ACT: lmbq_act */
    int32_t slope_count;  /* 1 or out_channels */
    int32_t skip;         /* CONV, DEPTHWISE: x + act(conv(x)) */
    int32_t other;        /* ADD: number of an earlier value of the same shape */
    int32_t upscale;      /* SHUFFLE, ADD_UPSCALED, UPSCALE: 2, 3 or 4 */
    int32_t mode;         /* ADD_UPSCALED, UPSCALE: lmbq_upscale_mode */
    float offset, gain;   /* RANGE */
    float alpha;          /* ADD, ADD_UPSCALED */
    int32_t layer_skip;   /* BINARY: whether the layer adds its input */
    int32_t int8;         /* CONV of kernel 1, groups 1, at most 1024 inputs: 8-bit products, docs/stages.md */
    uint64_t weight_count; /* must equal out_channels * (inputs / groups, or 1 if depthwise) * kernel^2 */
    const float *weight;   /* CONV (O, I / groups, k, k), DEPTHWISE (C, 1, k, k) */
    const float *bias;     /* (O) or NULL */
    const float *slope, *gamma, *zeta; /* as in lmbq_layer_desc */
    const lmbq_layer_desc *layer;      /* BINARY; its `isa` is not read */
} lmbq_stage_desc;

typedef struct lmbq_network lmbq_network;

/* From the bytes of a packed file (lmb_quant.save, `lmb-quant convert`, the zoo), which may come from anywhere: all of it
 * is checked, and LMBQ_BAD_FILE tells that it is damaged, foreign, of a newer format, or has no stages. The bytes are not
 * needed afterwards. isa: lmbq_isa. */
LMBQ_API lmbq_status lmbq_network_open(const void *bytes, size_t size, int isa, lmbq_network **out);
/* The same; its real pointwise convolutions multiply in 8 bits, as `int8` of lmbq_stage_desc says. Faster, most with
 * AVX-512 VNNI; the values are the same on every CPU. */
LMBQ_API lmbq_status lmbq_network_open_int8(const void *bytes, size_t size, int isa, lmbq_network **out);
/* From stages. channels: of the image. */
LMBQ_API lmbq_status lmbq_network_create(const lmbq_stage_desc *stages, int count, int channels, int isa,
                                         lmbq_network **out);
/* Frees a network and sets the pointer to NULL, which every function refuses. */
LMBQ_API void lmbq_network_close(lmbq_network **network);

typedef struct lmbq_network_info {
    int32_t channels, out_channels, upscale;
    int32_t reach;     /* how far from an output pixel the input pixels are that it depends on, in LR pixels */
    int32_t sees_all;  /* 1 if a layer's threshold is a mean over the whole image */
    uint64_t bytes;    /* weights and parameters in run-time layout */
    uint64_t bytes_per_pixel; /* of activations, of one LR pixel */
} lmbq_network_info;
LMBQ_API lmbq_status lmbq_network_query(const lmbq_network *network, lmbq_network_info *info);

typedef enum lmbq_layout { LMBQ_PLANAR = 0, LMBQ_INTERLEAVED = 1 } lmbq_layout;

/* Dense float images, (n, c, h, w) planar or (n, h, w, c) interleaved (lmbq_layout), values about [0, 1]; out likewise,
 * (n, out_channels, upscale h, upscale w). They may not overlap. finite, if not NULL: 0 if a value of the result is NaN or
 * infinite. */
LMBQ_API lmbq_status lmbq_network_run(const lmbq_network *network, const float *in, int in_layout, float *out,
                                      int out_layout, int64_t n, int64_t h, int64_t w, int threads, int *finite);

/* One image of bytes (h, w, c), 255 is 1; the result is rounded, ties to even, and cut to 0..255. Strides are the bytes
 * from one row to the next, at least a row. A value that is NaN is written as 0, and told by `finite`. */
LMBQ_API lmbq_status lmbq_network_run_bytes(const lmbq_network *network, const uint8_t *in, int64_t in_stride,
                                            uint8_t *out, int64_t out_stride, int64_t h, int64_t w, int threads,
                                            int *finite);

/* The parts of a stage that are timed. */
typedef enum lmbq_part {
    LMBQ_PART_THRESHOLD = 0, /* BINARY: activations to bits */
    LMBQ_PART_PACKING = 1,   /* BINARY: bits to what the sums read */
    LMBQ_PART_SUMS = 2,      /* BINARY: of bits; else all that the stage computes */
    LMBQ_PART_EPILOGUE = 3,  /* BINARY: alpha, bias, act, skip */
    LMBQ_PART_REST = 4,      /* reading the input, writing the result */
    LMBQ_PART_COUNT
} lmbq_part;

/* lmbq_network_run of one image on the calling thread, and where the time went: nanoseconds[stage * LMBQ_PART_COUNT + part],
 * `count` of them, stages counted from 0. A stage that others take upon themselves has zeros. It runs twice `runs` times,
 * every other time without the sums of bits: what is left of their convolution is the epilogue. Each row counts by the
 * least of its times. cycles: CPU cycles a nanosecond, measured by a chain of additions. */
LMBQ_API lmbq_status lmbq_network_profile(const lmbq_network *network, const float *in, int in_layout, float *out,
                                          int out_layout, int64_t h, int64_t w, int runs, double *nanoseconds,
                                          int count, double *cycles);

#ifdef __cplusplus
}
#endif
#endif
