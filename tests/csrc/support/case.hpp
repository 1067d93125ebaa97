// SPDX-License-Identifier: Apache-2.0
// One layer and one input of a test, drawn from a seeded generator.
#pragma once
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "lmb_quant_kernels.h"

namespace lmbq_test {

extern std::mt19937 rng;
int pick(int lo, int hi);  // uniform, both ends included
int one_of(std::initializer_list<int> values);
float real();  // standard normal

enum Skip { SKIP_NONE, SKIP_GIVEN, SKIP_INPUT };
enum Content { NOISE, TIES, SPARSE, FLAT, RAMP, SPECIAL, DENORMAL, HUGE_VALUES, CONTENTS };

struct Case {
    int n = 1, h = 7, w = 9, I = 64, O = 64, groups = 1;
    int kh = 3, kw = 3, sh = 1, sw = 1, dh = 1, dw = 1;
    int top = 1, left = 1, bottom = 1, right = 1;
    int threshold = LMBQ_THRESHOLD_LOCAL, window = 3;
    bool shift = false, gain = false;
    int act_on = LMBQ_ACT_ON_BRANCH;
    int act = LMBQ_ACT_RPRELU, slopes = 64;
    bool bias = true, factor = false;
    int skip = SKIP_INPUT, threads = 1, content = NOISE;
    bool special_parameters = false;

    int oh() const { return (h + top + bottom - (kh - 1) * dh - 1) / sh + 1; }
    int ow() const { return (w + left + right - (kw - 1) * dw - 1) / sw + 1; }
    bool valid() const { return h + top + bottom > (kh - 1) * dh && w + left + right > (kw - 1) * dw; }
    bool same_shape() const { return I == O && oh() == h && ow() == w; }
    bool keeps_size() const {
        return sh == 1 && sw == 1 && top + bottom == (kh - 1) * dh && left + right == (kw - 1) * dw;
    }
    bool in_place() const { return same_shape() && (sh == 1 || h == 1); }
    bool thresholds_given() const { return shift || threshold == LMBQ_THRESHOLD_CHANNEL; }
    size_t inputs() const { return (size_t)n * h * w * I; }
    size_t outputs() const { return (size_t)n * oh() * ow() * O; }

    void set_channels(int in, int out);
    void set_act(int act);
    void set_kernel(int kernel);  // padded to keep the shape
    std::string text() const;
};

Case random_case();

}  // namespace lmbq_test
