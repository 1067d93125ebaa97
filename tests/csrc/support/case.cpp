// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"

#include <cstdio>

namespace lmbq_test {

std::mt19937 rng;
int pick(int lo, int hi) { return lo + (int)(rng() % (unsigned)(hi - lo + 1)); }
int one_of(std::initializer_list<int> v) { return v.begin()[rng() % v.size()]; }
float real() {
    float sum = -6;  // the same on every platform, which std::normal_distribution is not
    for (int i = 0; i < 12; i++) sum += (float)(rng() >> 8) * 0x1p-24f;
    return sum;
}

void Case::set_channels(int in, int out) {
    I = in, O = out;
    set_act(act);
}

void Case::set_act(int kind) {
    act = kind;
    const bool per_channel = act == LMBQ_ACT_RPRELU || (act == LMBQ_ACT_PRELU && rng() % 2);
    const bool one = act == LMBQ_ACT_LEAKY || act == LMBQ_ACT_PRELU;
    slopes = per_channel ? O : one ? 1 : 0;
}

void Case::set_kernel(int kernel) {
    kh = kw = kernel;
    top = left = (kernel - 1) / 2;
    bottom = right = kernel / 2;
}

std::string Case::text() const {
    char b[400];
    snprintf(b, sizeof b,
             "n%d %dx%d %d->%d groups%d kernel%dx%d stride%dx%d dilation%dx%d pad %d %d %d %d threshold%d window%d "
             "shift%d gain%d factor%d act_on%d act%d/%d bias%d skip%d threads%d content%d special%d",
             n, h, w, I, O, groups, kh, kw, sh, sw, dh, dw, top, left, bottom, right, threshold, window, shift, gain,
             factor, act_on, act, slopes, bias, skip, threads, content, special_parameters);
    return b;
}

Case random_case() {
    for (;;) {
        Case c;
        c.n = pick(1, 3), c.h = pick(1, 14), c.w = pick(1, 19);
        int in = rng() % 2 ? one_of({1, 3, 31, 48, 60, 63, 64, 65, 128}) : pick(1, 70);
        int out = rng() % 3 == 0 ? in : rng() % 2 ? one_of({1, 3, 31, 32, 33, 48, 60, 63, 64, 65, 96}) : pick(1, 70);
        if (rng() % 6 == 0) {
            c.groups = pick(2, 5);
            in = c.groups * pick(1, 70 / c.groups), out = c.groups * pick(1, 40 / c.groups);
        }
        c.kh = one_of({1, 1, 2, 3, 3, 3, 4, 5, 7}), c.kw = rng() % 3 ? c.kh : pick(1, 7);
        c.dh = one_of({1, 1, 1, 2, 3, 9}), c.dw = rng() % 3 ? c.dh : pick(1, 3);
        if (rng() % 2) {  // the shape of the input
            out = in, c.groups = 1;
            c.top = pick(0, (c.kh - 1) * c.dh), c.bottom = (c.kh - 1) * c.dh - c.top;
            c.left = pick(0, (c.kw - 1) * c.dw), c.right = (c.kw - 1) * c.dw - c.left;
            if (c.h == 1) c.sh = pick(1, 3);
        } else {
            c.sh = one_of({1, 1, 1, 2, 3, 8}), c.sw = rng() % 3 ? c.sh : pick(1, 3);
            c.top = pick(0, 4), c.bottom = pick(0, 4), c.left = pick(0, 4), c.right = pick(0, 4);
        }
        if (rng() % 4 == 0) c.h = pick(20, 40), c.n = 1;
        if (!c.valid()) continue;
        c.threshold = one_of({LMBQ_THRESHOLD_NONE, LMBQ_THRESHOLD_CHANNEL, LMBQ_THRESHOLD_LOCAL, LMBQ_THRESHOLD_LOCAL,
                              LMBQ_THRESHOLD_GLOBAL});
        c.window = rng() % 16 ? 2 * pick(0, 8) + 1 : 2 * pick(0, 127) + 1;
        const bool mean = c.threshold == LMBQ_THRESHOLD_LOCAL || c.threshold == LMBQ_THRESHOLD_GLOBAL;
        c.shift = mean && rng() % 2, c.gain = mean && rng() % 2;
        c.set_channels(in, out);
        c.set_act(pick(0, LMBQ_ACT_COUNT - 1));
        c.act_on = pick(LMBQ_ACT_ON_BRANCH, LMBQ_ACT_ON_SUM);
        c.bias = rng() % 4 != 0, c.factor = c.keeps_size() && rng() % 2;
        c.skip = pick(SKIP_NONE, c.same_shape() ? SKIP_INPUT : SKIP_GIVEN);
        c.threads = pick(1, 4), c.content = pick(0, CONTENTS - 1), c.special_parameters = rng() % 8 == 0;
        return c;
    }
}

}  // namespace lmbq_test
