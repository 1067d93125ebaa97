// SPDX-License-Identifier: Apache-2.0
// A layer in run-time layout: checked description, packed weights, padded parameters.
#pragma once
#include <cstdint>
#include <vector>

#include "dispatch.hpp"
#include "lmb_quant_kernels.h"

namespace lmbq {

// The most that a binary layer may have.
constexpr int kLayerChannels = 1 << 16, kLayerKernel = 31, kLayerStep = 1 << 10, kLayerPadding = 1 << 14, kLayerWindow = 255;

// An activation function as the C interface gives it: its number for the kernels, its checks, and its parameters, as many
// as there are outputs.
int kernel_act(int act);
void check_act(int act, const float* slope, int slope_count, const float* gamma, const float* zeta, int outputs);
void fill_act(const OutputChannels& to, int act, const float* slope, int slope_count, const float* gamma,
              const float* zeta, int outputs);

struct Thresholding {
    int kind = TH_NONE, window = 1;
    std::vector<float> t;  // CHANNEL: t; LOCAL, GLOBAL: shift or empty
    std::vector<float> gain;  // LOCAL, GLOBAL: as long as t
    void set(const float* thresholds, const float* gains, int channels);
};

struct Shape {
    int h, w, oh, ow;
};

class Layer {
public:
    explicit Layer(const lmbq_layer_desc& d);
    ~Layer();
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

    Shape shape(int64_t h, int64_t w) const;
    int rows_read() const { return (plan.kh - 1) * plan.dh + 1; }  // by one row of the output, those between taps too
    size_t row_bytes(int out_width) const { return (conv->act_row_bytes(plan, out_width) + 63) / 64 * 64; }  // of bits

    const Isa* isa;
    const ConvKernel* conv = nullptr;
    ConvPlan plan{};
    Thresholding threshold;
    ConvPlan sums{};  // the same convolution alone: alpha times the sums of bits
    int pad_top, pad_left, pad_bottom, pad_right;
    std::vector<uint8_t> bits;  // of the weights, as given
    size_t bytes = 0;

private:
    std::vector<Segment> segments_;
    std::vector<float> nothing_;
    void* memory_ = nullptr;
};

}  // namespace lmbq
