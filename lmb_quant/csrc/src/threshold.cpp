// SPDX-License-Identifier: Apache-2.0
#include "threshold.hpp"

#include <algorithm>
#include <cstring>

#include "thread_pool.hpp"

namespace lmbq {

RowBinarizer::RowBinarizer(const Isa& isa, const Thresholding& th, int h, int w, int c)
    : isa_(isa), th_(th), h_(h) {
    row_.width = w;
    row_.channels = c;
    row_.window = th.window;
    row_.threshold = th.kind;
    row_.t = th.t.data();
    row_.shift = th.t.empty() ? nullptr : th.t.data();
    row_.gain = th.gain.empty() ? nullptr : th.gain.data();
    row_.bit_stride = (c + 63) / 64 * 8;
    for (row_.ring_pixels = 1; row_.ring_pixels <= th.window;) row_.ring_pixels *= 2;
}

void RowBinarizer::lay_out(Carver& carver) {
    bits_ = carver.take<uint8_t>((size_t)row_.width * (size_t)row_.bit_stride);
    row_.bits = bits_;
    if (th_.kind != TH_LOCAL) return;
    rows_ = carver.take<const float*>((size_t)th_.window);
    row_.columns = carver.take<float>((size_t)row_.ring_pixels * (size_t)((row_.channels + 15) / 16 * 16));
}

void RowBinarizer::start(const float* means) {
    std::memset(bits_, 0, (size_t)row_.width * (size_t)row_.bit_stride);
    if (th_.kind == TH_GLOBAL) row_.t = means;
}

const uint8_t* RowBinarizer::run(const RowSource& source, int y) {
    row_.center = source.row(y);
    if (th_.kind == TH_LOCAL) {
        const int half = th_.window / 2, y0 = std::max(0, y - half), y1 = std::min(h_ - 1, y + half);
        row_.nrows = y1 - y0 + 1;
        for (int i = 0; i < row_.nrows; i++) rows_[i] = source.row(y0 + i);
        row_.rows = rows_;
    }
    isa_.binarize_row(row_);
    return bits_;
}

void row_sums(const float* row, int w, int c, double* sums) {
    std::fill(sums, sums + c, 0.0);
    for (int px = 0; px < w; px++, row += c)
        for (int ch = 0; ch < c; ch++) sums[ch] += (double)row[ch];
}

void means_of_sums(const double* sums, int h, int w, int c, float* means) {
    for (int ch = 0; ch < c; ch++) {
        double s = 0;
        for (int y = 0; y < h; y++) s += sums[(size_t)y * (size_t)c + (size_t)ch];
        means[ch] = (float)(s / ((double)h * (double)w));
    }
}

void global_means(const float* x, int n, int h, int w, int c, int threads, double* sums, float* means) {
    struct Context {
        const float* image;
        double* sums;
        int w, c;
    } ctx{nullptr, sums, w, c};
    for (int i = 0; i < n; i++) {
        ctx.image = x + (size_t)i * (size_t)h * (size_t)w * (size_t)c;
        parallel_for(h, threads, [](void* p, int y) {
            const Context& k = *static_cast<Context*>(p);
            row_sums(k.image + (size_t)y * (size_t)k.w * (size_t)k.c, k.w, k.c, k.sums + (size_t)y * (size_t)k.c);
        }, &ctx);
        means_of_sums(sums, h, w, c, means + (size_t)i * (size_t)c);
    }
}

}  // namespace lmbq
