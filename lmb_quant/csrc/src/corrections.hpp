// SPDX-License-Identifier: Apache-2.0
// Zero padding for bits: padded words are 0 and count the +1 weights under them, so sum = corr - 2 * count with
// corr = valid bits + 2 * popcount(weights under padding), one vector for each way a window can leave the frame.
#pragma once
#include "layer.hpp"
#include "workspace.hpp"

namespace lmbq {

struct TapRange {  // kernel positions [first, until) that fall into the frame
    int first, until;
    bool operator==(const TapRange& o) const { return first == o.first && until == o.until; }
};
TapRange taps_in_frame(int origin, int size, int kernel, int dilation);

class Corrections {
public:
    Corrections(const Layer& layer, const Shape& shape);
    void lay_out(Carver& carver);
    void start();
    const float* for_row(TapRange ky);
    const uint16_t* classes() const { return cls_; }

private:
    TapRange columns(int ox) const;
    const Layer& layer_;
    const Shape& shape_;
    int nclasses_ = 0;
    TapRange current_{-1, -1};
    uint16_t* cls_ = nullptr;
    TapRange* ranges_ = nullptr;
    float* corr_ = nullptr;
};

}  // namespace lmbq
