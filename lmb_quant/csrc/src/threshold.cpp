// SPDX-License-Identifier: Apache-2.0
#include "threshold.hpp"

#include <algorithm>
#include <cstring>

#include "thread_pool.hpp"

namespace lmbq {

RowBinarizer::RowBinarizer(const Isa& isa, const Thresholding& th, int h, int w, int c)
    : isa_(isa), th_(th), h_(h) {
    BinarizeRow row{};
    row.width = w;
    row.channels = c;
    row.window = th.window;
    row.threshold = th.kind;
    row.t = th.t.data();
    row.shift = th.t.empty() ? nullptr : th.t.data();
    row.gain = th.gain.empty() ? nullptr : th.gain.data();
    row.bit_stride = bit_bytes(c);
    for (row.ring_pixels = 1; row.ring_pixels <= th.window;) row.ring_pixels *= 2;
    std::fill_n(rows_, kAtOnce, row);
}

void RowBinarizer::lay_out(Carver& carver) {
    const BinarizeRow& like = rows_[0];
    for (BinarizeRow& row : rows_) row.bits = carver.take<uint8_t>((size_t)like.width * (size_t)like.bit_stride);
    if (th_.kind != TH_LOCAL) return;
    windows_ = carver.take<const float*>((size_t)th_.window, (size_t)kAtOnce);
    float* columns = carver.take<float>((size_t)like.ring_pixels * (size_t)((like.channels + 15) / 16 * 16));
    for (BinarizeRow& row : rows_) row.columns = columns;
}

void RowBinarizer::start(const float* means) {
    for (BinarizeRow& row : rows_) {
        std::memset(row.bits, 0, (size_t)row.width * (size_t)row.bit_stride);
        if (th_.kind == TH_GLOBAL) row.t = means;
    }
}

void RowBinarizer::run(const RowSource& source, int y, int count) {
    const int half = th_.window / 2;
    for (int i = 0; i < count; i++, y++) {
        BinarizeRow& row = rows_[i];
        row.center = source.row(y);
        if (th_.kind != TH_LOCAL) continue;
        const float** window = windows_ + (size_t)i * (size_t)th_.window;
        const int y0 = std::max(0, y - half), y1 = std::min(h_ - 1, y + half);
        row.nrows = y1 - y0 + 1;
        for (int k = 0; k < row.nrows; k++) window[k] = source.row(y0 + k);
        row.rows = window;
    }
    isa_.binarize_rows(rows_, count);
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
