// SPDX-License-Identifier: Apache-2.0
// An image upscaled bilinearly or bicubically, one LR row at a time.
#pragma once
#include "pixels.hpp"

namespace lmbq {

class UpscaledRows {
public:
    UpscaledRows(const Isa& isa, const Pixels& image, int mode, int upscale);
    void lay_out(Carver& carver);
    void start();
    // The HR rows of LR row y, plus alpha times the pixel shuffle of detail, if that is not null. to(channel, place) says
    // where each goes. Rows are asked for from a band's first to its last.
    template <class To>
    void run(int y, const float* detail, float alpha, To to) {
        for (int c = 0; c < image_.channels; c++)
            for (int p = 0; p < upscale_; p++) out_[c * upscale_ + p] = to(c, p);
        write(y, detail, alpha);
    }

private:
    void write(int y, const float* detail, float alpha);
    float* slot(int channel, int y) const;

    const Isa& isa_;
    const Pixels image_;
    const PixelReader reader_;
    const int upscale_, reach_;
    const size_t row_;
    int loaded_ = -1;  // rows before it are there, if they are still needed; -1: none
    float weights_[4][kMaxTaps];
    float *ring_ = nullptr, *column_ = nullptr;
    const float** planes_ = nullptr;
    float** out_ = nullptr;
};

// Weights of the `taps` pixels around each place between two pixels, as PyTorch's align_corners=False has them.
void upscale_weights(int mode, int upscale, float (*weights)[kMaxTaps]);

}  // namespace lmbq
