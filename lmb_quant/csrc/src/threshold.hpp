// SPDX-License-Identifier: Apache-2.0
// Rows of one image to bits, from wherever the original rows are.
#pragma once
#include <vector>

#include "layer.hpp"
#include "workspace.hpp"

namespace lmbq {

// Where the original rows [first, last) of an image are while another part of it may already be overwritten.
class RowSource {
public:
    RowSource(const float* image, size_t row_floats) : image_(image), stride_(row_floats) {}
    void set_top(const float* copy, int first, int until) { top_ = copy, top_first_ = first, top_until_ = until; }
    void set_bottom(const float* copy, int first) { bottom_ = copy, bottom_first_ = first; }
    void set_saved(const float* ring, int rows) { saved_ = ring, saved_rows_ = rows; }
    void set_overwritten(int until) { overwritten_ = until; }  // rows before it live in the ring

    const float* row(int y) const {
        if (top_ && y < top_until_) return top_ + (size_t)(y - top_first_) * stride_;
        if (bottom_ && y >= bottom_first_) return bottom_ + (size_t)(y - bottom_first_) * stride_;
        if (y < overwritten_ && saved_rows_) return saved_ + (size_t)(y % saved_rows_) * stride_;
        return image_ + (size_t)y * stride_;
    }

private:
    const float* image_;
    size_t stride_;
    const float *top_ = nullptr, *bottom_ = nullptr, *saved_ = nullptr;
    int top_first_ = 0, top_until_ = 0, bottom_first_ = 0, saved_rows_ = 0, overwritten_ = 0;
};

class RowBinarizer {
public:
    RowBinarizer(const Isa& isa, const Thresholding& th, int h, int w, int c);
    void lay_out(Carver& carver);
    void start(const float* means);  // GLOBAL: this image's means
    // Of `count` rows from y on, at most kAtOnce: bits(i) has those of row y + i.
    void run(const RowSource& source, int y, int count);
    const uint8_t* bits(int i) const { return rows_[i].bits; }
    int bit_stride() const { return rows_[0].bit_stride; }

    static constexpr int kAtOnce = 2;

private:
    const Isa& isa_;
    const Thresholding& th_;
    int h_;
    BinarizeRow rows_[kAtOnce] = {};
    const float** windows_ = nullptr;  // rows of each window
};

// The sums of a row's channels, and from those of all rows the means, in double, summed row by row.
void row_sums(const float* row, int w, int c, double* sums);
void means_of_sums(const double* sums, int h, int w, int c, float* means);

// The mean of every channel of every image, in double, summed row by row: the same for any number of threads.
// sums: scratch for h x c.
void global_means(const float* x, int n, int h, int w, int c, int threads, double* sums, float* means);

}  // namespace lmbq
