// SPDX-License-Identifier: Apache-2.0
// A network in run-time layout: stages, and the plan by which they run.
#pragma once
#include <memory>
#include <vector>

#include "layer.hpp"
#include "lmb_quant.h"

namespace lmbq {

// The most that a stage of real numbers may have, and a network.
constexpr int kStageChannels = 1 << 12, kStageKernel = 15, kStages = 1 << 14;

// Whether a stage of so many inputs can multiply in 8 bits.
bool takes_int8(const lmbq_stage_desc& d, int in_channels);

// Run-time weights and parameters of a real convolution or an activation function.
class RealStage {
public:
    RealStage(const Isa& isa, const lmbq_stage_desc& d, int in_channels);
    ~RealStage();
    RealStage(const RealStage&) = delete;
    RealStage& operator=(const RealStage&) = delete;
    RealPlan plan{};
    size_t bytes = 0;

private:
    void* memory_ = nullptr;
};

struct Stage {
    int kind, in_channels, out_channels;
    int other = 0, upscale = 1, mode = 0;
    bool skip = false, layer_skip = false;
    float offset = 0, gain = 1, alpha = 1;
    bool has_range = false;  // a convolution that takes the RANGE before it upon itself: offset and gain are its
    std::unique_ptr<RealStage> real;
    std::unique_ptr<Layer> layer;
};

// Where a row of a value is while a group runs: in the image, in a buffer of whole values, in one of two rows, or in one of
// two pieces of a row, of which only the present one is there.
struct Place {
    enum Kind { IMAGE, BUFFER, ROW, PIECE } kind;
    int index = 0;
};

struct RowStep {
    int stage;
    Place to, other;
};

// Stages that run row by row: the first may look at its neighbours' rows, the others take what it made while it is in
// the cache.
struct Group {
    int sweep = -1;      // stage, or none: rows as they are
    Place source;        // IMAGE or BUFFER
    bool in_place = false;  // the group's last value is written over the source
    Place first;         // where the sweep writes, or where the rows are
    std::vector<RowStep> rows;
    Place last;
    bool is_output = false;
    int shuffle = -1, add_upscaled = -1;  // stages that end the network
    int factor = 1;           // side of the values in units of the image's
    int in_channels = 0, out_channels = 0, scratch_channels = 0;
};

class Network {
public:
    size_t floats_per_pixel() const;  // of activations, of one LR pixel

    const Isa* isa = nullptr;
    int channels = 0, out_channels = 0, upscale = 1, reach = 0;
    bool sees_all = false;
    size_t bytes = 0, window_bytes = 0;  // of all stages; most bits that a pixel of a binary one reads, in run-time layout
    double widest = 0;  // most floats that a value has of one LR pixel of one row
    double work = 0;  // multiplications of one LR pixel, a binary one counted as 1/16
    std::vector<Stage> stages;
    std::vector<Group> groups;
    std::vector<size_t> buffers;  // floats of one LR pixel
};

// Adds up stages, then plans the whole. Throws Error.
class NetworkBuilder {
public:
    NetworkBuilder(int channels, int isa);
    void add(const lmbq_stage_desc& stage);
    int channels() const { return values_.back().channels; }  // of the newest value
    size_t bytes() const { return network_->bytes; }          // so far
    size_t window_bytes() const { return network_->window_bytes; }
    std::unique_ptr<Network> finish();

private:
    struct Value {
        int channels, factor;
    };
    struct Uses;
    struct Span;
    void add_checked(const lmbq_stage_desc& stage);
    Stage& stage(int value) { return network_->stages[(size_t)value - 1]; }  // that makes the value
    Uses uses();
    std::vector<Span> spans(const Uses& uses);
    void plan();

    int isa_;
    std::unique_ptr<Network> network_;
    std::vector<Value> values_;  // 0: the image
    double reach_ = 0;
};

}  // namespace lmbq
