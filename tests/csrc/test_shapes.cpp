// SPDX-License-Identifier: Apache-2.0
// Shapes that networks have, and the corners of the kernels.
#include <algorithm>

#include "support/check.hpp"

using namespace lmbq_test;

namespace {

void channels_and_kernels() {
    for (int channels : {1, 3, 31, 32, 48, 60, 63, 64, 65, 180, 256})
        for (int kernel : {1, 3, 5})
            for (int size : {1, 8}) {
                Case c;
                c.set_channels(channels, channels);
                c.set_kernel(kernel);
                c.h = size, c.w = size == 1 ? 1 : channels < 100 ? 11 : 5;
                check(c);
                c.factor = true;
                check(c);
                c.factor = false;
                c.skip = SKIP_NONE, c.sh = c.sw = 2;
                check(c);
                c.dh = c.dw = 2, c.top = c.left = c.bottom = c.right = kernel - kernel / 2;
                if (c.valid()) check(c);
            }
}

void windows_and_contents() {
    for (int window = 3; window <= 15; window += 2)
        for (int content = 0; content < CONTENTS; content++) {
            Case c;
            c.set_channels(17, 17);
            c.h = 12, c.w = 21, c.window = window, c.content = content, c.threads = 2;
            check(c);
            c.shift = true;
            check(c);
            c.factor = true;
            check(c);
        }
}

// enough work for the pool: halos of several rows, more threads than rows
void threads() {
    for (int threads : {1, 2, 4, 64})
        for (int window : {3, 9}) {
            Case c;
            c.set_channels(32, 32);
            c.h = 61, c.w = 40, c.window = window, c.threads = threads, c.n = threads == 4 ? 2 : 1;
            c.factor = window == 9;
            check(c);
            c.set_kernel(1);
            check(c);
            c.set_kernel(3);
            c.n = 1, c.h = 2, c.w = 300;
            check(c);
        }
}

// taps that reach over the whole image, and over the padding beyond it
void wider_than_the_image() {
    for (int size : {1, 2, 5}) {
        Case c;
        c.set_channels(9, 9);
        c.h = c.w = size, c.kh = c.kw = 3, c.dh = c.dw = 40;
        c.top = c.left = 30, c.bottom = c.right = 50;
        check(c);
        c.skip = SKIP_NONE, c.top = c.left = 100, c.sh = c.sw = 3;
        check(c);
    }
}

// counts at the limits of bytes and of 16 bits
void every_bit_differs() {
    for (int channels : {4, 20, 60, 64, 128, 256, 1024, 7281, 7282}) {
        Case c;
        c.set_channels(channels, channels < 2000 ? 64 : 2);
        c.set_act(LMBQ_ACT_NONE);
        c.skip = SKIP_NONE, c.threshold = LMBQ_THRESHOLD_NONE, c.h = 3, c.w = 5;
        Data d = make(c);
        std::fill(d.x.begin(), d.x.end(), 1.0f);
        std::fill(d.weight.begin(), d.weight.end(), (uint8_t)0);
        std::fill(d.packed_weight.begin(), d.packed_weight.end(), (uint8_t)0);
        compute(c, d);
        check(c, d);
    }
}

}  // namespace

int main() {
    channels_and_kernels();
    windows_and_contents();
    threads();
    wider_than_the_image();
    every_bit_differs();
    return report("shapes");
}
