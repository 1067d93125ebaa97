// SPDX-License-Identifier: Apache-2.0
// The sweep over one layer: rows are packed just ahead of the convolution that reads them, so that the input is
// still in cache, and so that the output may overwrite it.
#include "run.hpp"

#include <algorithm>
#include <cstring>

#include "corrections.hpp"
#include "error.hpp"
#include "thread_pool.hpp"
#include "threshold.hpp"

namespace lmbq {
namespace {

struct Job {
    const Layer& layer;
    Shape shape;
    const float *x, *skip;
    float* out;
    int images, bands;
    bool in_place;
    int above, below;  // original rows a band needs before and after its own
    const float* means = nullptr;
    float* halo = nullptr;

    size_t in_row() const { return (size_t)shape.w * (size_t)layer.plan.in_channels; }
    size_t out_row() const { return (size_t)shape.ow * (size_t)layer.plan.out_channels; }
    int first(int band) const { return (int)((int64_t)shape.oh * band / bands); }
    const float* image(int i) const { return x + (size_t)i * (size_t)shape.h * in_row(); }
    size_t halo_floats() const { return (size_t)(above + below) * in_row(); }
    int halo_top(int band) const { return std::max(0, first(band) - above); }
    int halo_bottom(int band) const { return std::min(shape.h, first(band + 1) + below); }
};

// Before any band writes, each keeps a copy of the neighbours' rows it will read.
void copy_halo(void* ctx, int task) {
    const Job& j = *static_cast<Job*>(ctx);
    const int image = task / j.bands, band = task % j.bands;
    float* to = j.halo + (size_t)task * j.halo_floats();
    const size_t row = j.in_row();
    const int y0 = j.first(band), y1 = j.first(band + 1), t = j.halo_top(band), b = j.halo_bottom(band);
    if (t < y0) std::memcpy(to, j.image(image) + (size_t)t * row, (size_t)(y0 - t) * row * sizeof(float));
    to += (size_t)j.above * row;
    if (y1 < b) std::memcpy(to, j.image(image) + (size_t)y1 * row, (size_t)(b - y1) * row * sizeof(float));
}

class Band {
public:
    explicit Band(const Job& j)
        : j_(j), p_(j.layer.plan), binarizer_(*j.layer.isa, j.layer.threshold, j.shape.h, j.shape.w, p_.in_channels),
          corrections_(j.layer, j.shape) {
        act_bytes_ = (j.layer.conv->act_row_bytes(p_, j.shape.ow) + 63) / 64 * 64;
        ring_rows_ = (p_.kh - 1) * p_.dh + 1;
        // at the time a row is packed, this many of the rows in its window are overwritten
        saved_rows_ = j.in_place ? std::max(0, j.layer.threshold.window / 2 - j.layer.pad_bottom) : 0;
    }

    size_t lay_out(char* base) {
        Carver c(base);
        binarizer_.lay_out(c);
        corrections_.lay_out(c);
        ring_ = c.take<char>(act_bytes_ * (size_t)(ring_rows_ + 1));
        act_ = c.take<const void*>((size_t)p_.kh);
        saved_ = c.take<float>((size_t)saved_rows_ * j_.in_row());
        return c.used();
    }

    void run(int image, int band) {
        const Layer& l = j_.layer;
        const int y0 = j_.first(band), y1 = j_.first(band + 1), h = j_.shape.h;
        RowSource source(j_.image(image), j_.in_row());
        if (j_.in_place) {
            const float* halo = j_.halo + (size_t)(image * j_.bands + band) * j_.halo_floats();
            if (band > 0) source.set_top(halo, j_.halo_top(band), y0);
            if (band + 1 < j_.bands) source.set_bottom(halo + (size_t)j_.above * j_.in_row(), y1);
            source.set_saved(saved_, saved_rows_);
        }
        binarizer_.start(j_.means ? j_.means + (size_t)image * (size_t)p_.in_channels : nullptr);
        corrections_.start();
        char* zero_row = ring_ + act_bytes_ * (size_t)ring_rows_;
        std::memset(zero_row, 0, act_bytes_);

        int packed = 0;  // rows before it are in the ring or no longer needed
        for (int y = y0; y < y1; y++) {
            const int top = y * p_.sh - l.pad_top, bottom = std::min(h, top + ring_rows_);
            source.set_overwritten(j_.in_place ? y : 0);
            for (packed = std::max(packed, std::max(0, top)); packed < bottom; packed++)
                l.conv->expand_row(p_, binarizer_.run(source, packed), binarizer_.bit_stride(), j_.shape.w,
                                   l.pad_left, j_.shape.ow, ring_ + act_bytes_ * (size_t)(packed % ring_rows_));
            for (int k = 0; k < p_.kh; k++) {
                const int r = top + k * p_.dh;
                act_[k] = r < 0 || r >= h ? zero_row : ring_ + act_bytes_ * (size_t)(r % ring_rows_);
            }
            const size_t at = ((size_t)image * (size_t)j_.shape.oh + (size_t)y) * j_.out_row();
            if (saved_rows_)
                std::memcpy(saved_ + (size_t)(y % saved_rows_) * j_.in_row(), j_.out + at,
                            j_.in_row() * sizeof(float));
            ConvRow row{};
            row.act = act_;
            row.width = j_.shape.ow;
            row.corr = corrections_.for_row(taps_in_frame(top, h, p_.kh, p_.dh));
            row.cls = corrections_.classes();
            row.skip = j_.skip ? j_.skip + at : nullptr;
            row.out = j_.out + at;
            const int soon = top + p_.sh + ring_rows_ - 1 + l.threshold.window / 2 + 1;
            if (y + 1 < y1 && soon >= 0 && soon < h) {
                row.prefetch = reinterpret_cast<const char*>(j_.image(image) + (size_t)soon * j_.in_row());
                row.prefetch_bytes = j_.in_row() * sizeof(float);
            }
            l.conv->conv_row(p_, row);
        }
    }

private:
    const Job& j_;
    const ConvPlan& p_;
    RowBinarizer binarizer_;
    Corrections corrections_;
    size_t act_bytes_;
    int ring_rows_, saved_rows_;
    char* ring_ = nullptr;
    const void** act_ = nullptr;
    float* saved_ = nullptr;
};

struct Scratch {
    Job job;
    char* base;
    size_t each;
};

void run_band(void* ctx, int task) {
    const Scratch& s = *static_cast<Scratch*>(ctx);
    Band band(s.job);
    band.lay_out(s.base + (size_t)task * s.each);
    band.run(task / s.job.bands, task % s.job.bands);
}

bool overlap(const float* a, size_t na, const float* b, size_t nb) {
    const uintptr_t p = reinterpret_cast<uintptr_t>(a), q = reinterpret_cast<uintptr_t>(b);
    return p < q + nb * sizeof(float) && q < p + na * sizeof(float);
}

size_t elements(int64_t n, int64_t h, int64_t w, int64_t c) {
    const double total = (double)n * (double)h * (double)w * (double)c;
    require(total < 1e15, "the tensor is too large");
    return (size_t)n * (size_t)h * (size_t)w * (size_t)c;
}

}  // namespace

void run_layer(const Layer& layer, const float* x, const float* skip, float* out, int64_t n, int64_t h, int64_t w,
               int threads) {
    require(x && out, "x and out must be given");
    require(n >= 1 && n <= 1 << 20, "the batch must be in 1..2^20");
    const ConvPlan& p = layer.plan;
    const Shape s = layer.shape(h, w);
    const size_t nx = elements(n, s.h, s.w, p.in_channels), ny = elements(n, s.oh, s.ow, p.out_channels);
    const bool aliased = overlap(x, nx, out, ny);
    require(!aliased || (x == out && s.h == s.oh && s.w == s.ow && p.in_channels == p.out_channels && p.sh == 1),
            "out overlaps x: allowed only when they are the same buffer and shape");
    require(!skip || skip == out || !overlap(skip, ny, out, ny), "out overlaps skip without being it");

    // The smallest work is done before a second thread wakes.
    const double work = (double)ny * p.kh * p.kw * p.in_channels / p.groups;
    threads = std::max(1, std::min(threads, 256));
    if (work < 2e6) threads = 1;
    const int half = layer.threshold.window / 2;
    Job job{layer, s, x, skip, out, (int)n, 1, aliased, 0, 0};
    job.above = layer.pad_top + half;
    job.below = std::max(0, (p.kh - 1) * p.dh - layer.pad_top) + half;
    const int per_image = (int)((threads + n - 1) / n), smallest = std::max(4, job.above + job.below);
    job.bands = std::max(1, std::min(per_image, s.oh / smallest));
    const int tasks = job.images * job.bands;

    Workspace means(layer.threshold.kind == TH_GLOBAL ? (size_t)n * (size_t)p.in_channels * sizeof(float) : 0);
    if (layer.threshold.kind == TH_GLOBAL) {
        float* m = reinterpret_cast<float*>(means.data());
        global_means(x, (int)n, s.h, s.w, p.in_channels, threads, m);
        job.means = m;
    }
    const bool halo = aliased && job.bands > 1;
    Workspace halos(halo ? job.halo_floats() * (size_t)tasks * sizeof(float) : 0);
    job.halo = reinterpret_cast<float*>(halos.data());
    if (halo) parallel_for(tasks, threads, copy_halo, &job);

    Scratch scratch{job, nullptr, (Band(job).lay_out(nullptr) + 63) / 64 * 64};
    if (tasks == 1 || threads == 1) {  // one after the other in one piece of memory
        Workspace space(scratch.each);
        Band band(job);
        band.lay_out(space.data());
        for (int t = 0; t < tasks; t++) band.run(t / job.bands, t % job.bands);
        return;
    }
    Workspace space(scratch.each * (size_t)tasks);
    scratch.base = space.data();
    parallel_for(tasks, threads, run_band, &scratch);
}

void run_binarize(const Isa& isa, const Thresholding& th, const float* x, uint8_t* bits, int64_t n, int64_t h,
                  int64_t w, int64_t c, int threads) {
    require(x && bits, "x and bits must be given");
    require(n >= 1 && n <= 1 << 20 && h >= 1 && w >= 1 && h <= 1 << 24 && w <= 1 << 24 && c >= 1 && c <= 1 << 16,
            "a size is out of range");
    th.check((int)c);
    elements(n, h, w, c);
    const size_t row = (size_t)w * (size_t)c, bytes = (size_t)(c + 7) / 8;
    Workspace mean_space(th.kind == TH_GLOBAL ? (size_t)n * (size_t)c * sizeof(float) : 0);
    float* means = reinterpret_cast<float*>(mean_space.data());
    if (th.kind == TH_GLOBAL) global_means(x, (int)n, (int)h, (int)w, (int)c, threads, means);
    RowBinarizer binarizer(isa, th, (int)h, (int)w, (int)c);
    Carver sizes(nullptr);
    binarizer.lay_out(sizes);
    Workspace space(sizes.used());
    Carver carver(space.data());
    binarizer.lay_out(carver);
    for (int64_t i = 0; i < n; i++) {
        binarizer.start(means + (size_t)i * (size_t)c);
        const RowSource source(x + (size_t)i * (size_t)h * row, row);
        for (int64_t y = 0; y < h; y++) {
            const uint8_t* b = binarizer.run(source, (int)y);
            for (int64_t px = 0; px < w; px++, bits += bytes)
                std::memcpy(bits, b + (size_t)px * (size_t)binarizer.bit_stride(), bytes);
        }
    }
}

}  // namespace lmbq
