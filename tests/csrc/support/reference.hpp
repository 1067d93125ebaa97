// SPDX-License-Identifier: Apache-2.0
// The definition of a layer (docs/bit_layout.md) in plain loops, one value at a time.
#pragma once
#include "case.hpp"

namespace lmbq_test {

struct Data {
    std::vector<float> x, skip, thresholds, gain, factor, scale, bias, slope, gamma, zeta;
    std::vector<uint8_t> weight, packed_weight;  // one byte a bit (O, taps, I/groups); as in the file
    std::vector<uint8_t> bits, y_bits;           // of x: one byte a bit; as lmbq_binarize gives them
    std::vector<float> y;

    lmbq_layer_desc describe(const Case& c, int isa) const;
};

Data make(const Case& c);
void compute(const Case& c, Data& d);  // bits and y, from all the rest

}  // namespace lmbq_test
