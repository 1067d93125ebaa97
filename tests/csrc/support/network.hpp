// SPDX-License-Identifier: Apache-2.0
// A network of a test, drawn from the seeded generator, and its definition (docs/stages.md) in plain loops.
#pragma once
#include <list>
#include <memory>

#include "check.hpp"
#include "lmb_quant.h"

namespace lmbq_test {

struct Image {  // (h, w, c)
    int h = 0, w = 0, c = 0;
    std::vector<float> v;
    Image() = default;
    Image(int h, int w, int c) : h(h), w(w), c(c), v((size_t)h * (size_t)w * (size_t)c) {}
    float& at(int y, int x, int ch) { return v[((size_t)y * (size_t)w + (size_t)x) * (size_t)c + (size_t)ch]; }
    float at(int y, int x, int ch) const { return v[((size_t)y * (size_t)w + (size_t)x) * (size_t)c + (size_t)ch]; }
};

Image random_image(int h, int w, int c);
std::vector<float> planes(const Image& image);  // (c, h, w)

struct CloseNetwork {
    void operator()(lmbq_network* network) const { lmbq_network_close(&network); }
};
using NetworkPointer = std::unique_ptr<lmbq_network, CloseNetwork>;

// Descriptions, and what they point to.
class Network {
public:
    explicit Network(int channels) : channels_(channels), now_(channels) {}

    void range(float offset, float gain);
    void conv(int outputs, int kernel, int act, bool skip, int groups = 1);
    void int8_conv(int outputs, int act, bool skip);  // pointwise
    void depthwise(int kernel, int act, bool skip);
    void binary(const Case& c);  // its inputs and sizes are set here
    void act(int act);
    void add(int other, float alpha);
    void shuffle(int upscale);
    void add_upscaled(int upscale, int mode, float alpha);
    void upscale(int upscale, int mode);

    int channels() const { return channels_; }
    int now() const { return now_; }  // channels of the newest value
    int value() const { return (int)stages.size(); }
    NetworkPointer create(int isa) const;
    Image run(const Image& image, int isa) const;
    std::string text() const;

    std::vector<lmbq_stage_desc> stages;

private:
    lmbq_stage_desc& push(int kind);
    void set_act(lmbq_stage_desc& d, int act, int outputs);
    const float* reals(size_t n, float size = 1);

    int channels_, now_;
    std::list<std::vector<float>> floats_;
    std::list<Case> cases_;
    std::list<Data> data_;
    std::list<lmbq_layer_desc> layers_;
};

Network random_network();

}  // namespace lmbq_test
