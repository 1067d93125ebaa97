// SPDX-License-Identifier: Apache-2.0
// The sweep over one layer: rows are packed just ahead of the convolution that reads them, so that the input is
// still in cache, and so that the output may overwrite it.
#include "run.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

#include "corrections.hpp"
#include "error.hpp"
#include "thread_pool.hpp"
#include "threshold.hpp"

namespace lmbq {
namespace {

struct Job {
    const Layer& layer;
    const ConvPlan& plan;
    KeptBits bits;
    Shape shape;
    const float *x, *skip;
    float* out;
    int images, bands;
    bool in_place;
    int above, below;  // original rows a band needs before and after its own
    const float* means = nullptr;
    float* halo = nullptr;

    size_t in_row() const { return (size_t)shape.w * (size_t)plan.in_channels; }
    size_t out_row() const { return (size_t)shape.ow * (size_t)plan.out_channels; }
    size_t bit_row() const { return (size_t)shape.w * ((size_t)(plan.in_channels + 63) / 64 * 8); }
    size_t bits_at(int image, int y) const { return ((size_t)image * (size_t)shape.h + (size_t)y) * bit_row(); }
    int first(int band) const { return (int)((int64_t)shape.oh * band / bands); }
    const float* image(int i) const { return !x ? x : x + (size_t)i * (size_t)shape.h * in_row(); }
    size_t halo_floats() const { return (size_t)(above + below) * in_row(); }
    float* halo_of(int task) const { return bands > 1 ? halo + (size_t)task * halo_floats() : nullptr; }
    int halo_top(int band) const { return std::max(0, first(band) - above); }
    int halo_bottom(int band) const { return std::min(shape.h, first(band + 1) + below); }
};

// Before any band writes, each keeps a copy of the neighbours' rows it will read.
void copy_halo(void* ctx, int task) {
    const Job& j = *static_cast<Job*>(ctx);
    const int image = task / j.bands, band = task % j.bands;
    float* to = j.halo_of(task);
    const size_t row = j.in_row();
    const int y0 = j.first(band), y1 = j.first(band + 1), t = j.halo_top(band), b = j.halo_bottom(band);
    if (t < y0) std::memcpy(to, j.image(image) + (size_t)t * row, (size_t)(y0 - t) * row * sizeof(float));
    to += (size_t)j.above * row;
    if (y1 < b) std::memcpy(to, j.image(image) + (size_t)y1 * row, (size_t)(b - y1) * row * sizeof(float));
}

class Band {
public:
    explicit Band(const Job& j)
        : j_(j), p_(j.plan), binarizer_(*j.layer.isa, j.layer.threshold, j.shape.h, j.shape.w, p_.in_channels),
          corrections_(j.layer, j.shape) {
        act_bytes_ = (j.layer.conv->act_row_bytes(p_, j.shape.ow) + 63) / 64 * 64;
        reach_ = (p_.kh - 1) * p_.dh + 1;
        ring_rows_ = std::min(reach_, j.shape.h);
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
        factor_ = c.take<float>(p_.pixel_factor ? (size_t)j_.shape.ow : 0);
        return c.used();
    }

    void run(int image, int band) {
        const Layer& l = j_.layer;
        const int y0 = j_.first(band), y1 = j_.first(band + 1), h = j_.shape.h;
        RowSource source(j_.image(image), j_.in_row());
        if (j_.in_place) {
            const float* halo = j_.halo_of(image * j_.bands + band);
            if (band > 0) source.set_top(halo, j_.halo_top(band), y0);
            if (band + 1 < j_.bands) source.set_bottom(halo + (size_t)j_.above * j_.in_row(), y1);
            source.set_saved(saved_, saved_rows_);
        }
        binarizer_.start(j_.means ? j_.means + (size_t)image * (size_t)p_.in_channels : nullptr);
        corrections_.start();
        char* zero_row = ring_ + act_bytes_ * (size_t)ring_rows_;
        std::memset(zero_row, 0, act_bytes_);

        // of the rows that two bands read, one keeps the bits
        const int owned[2] = {band == 0 ? 0 : y0 * p_.sh - l.pad_top,
                              band + 1 == j_.bands ? h : y1 * p_.sh - l.pad_top};
        int packed = 0;  // rows before it are in the ring or no longer needed
        for (int y = y0; y < y1; y++) {
            const int top = y * p_.sh - l.pad_top, bottom = std::min(h, top + reach_);
            source.set_overwritten(j_.in_place ? y : 0);
            for (packed = std::max(packed, std::max(0, top)); packed < bottom; packed++)
                l.conv->expand_row(p_, bits(source, image, packed, owned), binarizer_.bit_stride(), j_.shape.w,
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
            row.factor = p_.pixel_factor ? factors(j_.image(image) + (size_t)y * j_.in_row()) : nullptr;
            row.skip = j_.skip ? j_.skip + at : nullptr;
            row.out = j_.out + at;
            const int soon = top + p_.sh + reach_ - 1 + l.threshold.window / 2 + 1;
            if (y + 1 < y1 && soon >= 0 && soon < h && !j_.bits.given) {
                row.prefetch = reinterpret_cast<const char*>(j_.image(image) + (size_t)soon * j_.in_row());
                row.prefetch_bytes = j_.in_row() * sizeof(float);
            }
            l.conv->conv_row(p_, row);
        }
    }

private:
    const uint8_t* bits(const RowSource& source, int image, int y, const int (&owned)[2]) {
        if (j_.bits.given) return j_.bits.given + j_.bits_at(image, y);
        const uint8_t* row = binarizer_.run(source, y);
        if (j_.bits.kept && y >= owned[0] && y < owned[1]) std::memcpy(j_.bits.kept + j_.bits_at(image, y), row, j_.bit_row());
        return row;
    }

    // of a row that is not overwritten yet: output rows are those of the input
    const float* factors(const float* x) const {
        j_.layer.isa->factor_row({x, j_.shape.w, p_.in_channels, p_.pixel_factor, factor_});
        return factor_;
    }

    const Job& j_;
    const ConvPlan& p_;
    RowBinarizer binarizer_;
    Corrections corrections_;
    size_t act_bytes_;
    int reach_, ring_rows_, saved_rows_;
    char* ring_ = nullptr;
    const void** act_ = nullptr;
    float *saved_ = nullptr, *factor_ = nullptr;
};

struct Sweep {
    const Job& job;
    int tasks;
    size_t each = 0;
    char* base = nullptr;
    std::atomic<int> next{0};
};

// One thread's memory serves all the bands it takes.
void run_lane(void* ctx, int lane) {
    Sweep& s = *static_cast<Sweep*>(ctx);
    Band band(s.job);
    band.lay_out(s.base + (size_t)lane * s.each);
    for (int t; (t = s.next.fetch_add(1, std::memory_order_relaxed)) < s.tasks;)
        band.run(t / s.job.bands, t % s.job.bands);
}

bool overlap(const float* a, size_t na, const float* b, size_t nb) {
    const uintptr_t p = reinterpret_cast<uintptr_t>(a), q = reinterpret_cast<uintptr_t>(b);
    return p < q + nb * sizeof(float) && q < p + na * sizeof(float);
}

size_t elements(int64_t n, int64_t h, int64_t w, int64_t c) {
    const double total = (double)n * (double)h * (double)w * (double)c;
    require(total < (double)(SIZE_MAX / 64), "the tensor is too large");
    return (size_t)n * (size_t)h * (size_t)w * (size_t)c;
}

}  // namespace

namespace {

void run(const Layer& layer, const ConvPlan& p, const float* x, const float* skip, float* out, int64_t n, int64_t h,
         int64_t w, int threads, KeptBits bits) {
    require(n >= 1 && n <= 1 << 20, "the batch must be in 1..2^20");
    const Shape s = layer.shape(h, w);
    const size_t nx = elements(n, s.h, s.w, p.in_channels), ny = elements(n, s.oh, s.ow, p.out_channels);
    const bool aliased = x && overlap(x, nx, out, ny);
    require(!aliased || (x == out && s.h == s.oh && s.w == s.ow && p.in_channels == p.out_channels &&
                         (p.sh == 1 || s.h == 1)),
            "out overlaps x: allowed only when they are the same buffer and shape");
    require(!skip || skip == out || !overlap(skip, ny, out, ny), "out overlaps skip without being it");

    // The smallest work is done before a second thread wakes.
    const double work = (double)ny * p.kh * p.kw * p.in_channels / p.groups;
    threads = std::max(1, std::min(threads, kMaxThreads));
    if (work < 2e6) threads = 1;
    const int half = layer.threshold.window / 2;
    Job job{layer, p, bits, s, x, skip, out, (int)n, 1, aliased, 0, 0};
    job.above = layer.pad_top + half;
    job.below = std::max(0, (p.kh - 1) * p.dh - layer.pad_top) + half;
    const int per_image = (int)((threads + n - 1) / n), smallest = std::max(4, job.above + job.below);
    job.bands = std::max(1, std::min(per_image, s.oh / smallest));
    const int tasks = job.images * job.bands;

    const bool global = layer.threshold.kind == TH_GLOBAL && !bits.given, halo = aliased && job.bands > 1;

    Sweep sweep{job, tasks};
    sweep.each = (Band(job).lay_out(nullptr) + 63) / 64 * 64;
    const int lanes = std::min(threads, tasks);
    float* means = nullptr;
    double* sums = nullptr;
    auto lay_out = [&](char* base) {
        Carver c(base);
        means = c.take<float>(global ? (size_t)n * (size_t)p.in_channels : 0);
        sums = c.take<double>(global ? (size_t)h * (size_t)p.in_channels : 0);
        job.halo = c.take<float>(halo ? job.halo_floats() * (size_t)tasks : 0);
        sweep.base = c.take<char>(sweep.each * (size_t)lanes);
        return c.used();
    };
    Workspace space(lay_out(nullptr));
    lay_out(space.data());
    if (global) {
        global_means(x, (int)n, s.h, s.w, p.in_channels, threads, sums, means);
        job.means = means;
    }
    if (halo) parallel_for(tasks, threads, copy_halo, &job);
    parallel_for(lanes, threads, run_lane, &sweep);
}

}  // namespace

void run_layer(const Layer& layer, const float* x, const float* skip, float* out, int64_t n, int64_t h, int64_t w,
               int threads, KeptBits bits) {
    require(x && out, "x and out must be given");
    run(layer, layer.plan, x, skip, out, n, h, w, threads, bits);
}

void run_sums(const Layer& layer, const uint8_t* bits, float* out, int h, int w) {
    run(layer, layer.sums, nullptr, nullptr, out, 1, h, w, 1, {bits, nullptr});
}

void run_binarize(const Isa& isa, const Thresholding& th, const float* x, uint8_t* bits, int64_t n, int64_t h,
                  int64_t w, int64_t c, int threads) {
    require(x && bits, "x and bits must be given");
    require(n >= 1 && n <= 1 << 20 && h >= 1 && w >= 1 && h <= 1 << 24 && w <= 1 << 24 && c >= 1 && c <= 1 << 16,
            "a size is out of range");
    elements(n, h, w, c);
    const size_t row = (size_t)w * (size_t)c, bytes = (size_t)(c + 7) / 8;
    const bool global = th.kind == TH_GLOBAL;
    RowBinarizer binarizer(isa, th, (int)h, (int)w, (int)c);
    float* means = nullptr;
    double* sums = nullptr;
    auto lay_out = [&](char* base) {
        Carver carver(base);
        means = carver.take<float>(global ? (size_t)n * (size_t)c : 0);
        sums = carver.take<double>(global ? (size_t)h * (size_t)c : 0);
        binarizer.lay_out(carver);
        return carver.used();
    };
    Workspace space(lay_out(nullptr));
    lay_out(space.data());
    if (global) global_means(x, (int)n, (int)h, (int)w, (int)c, threads, sums, means);
    for (int64_t i = 0; i < n; i++) {
        binarizer.start(global ? means + (size_t)i * (size_t)c : nullptr);
        const RowSource source(x + (size_t)i * (size_t)h * row, row);
        for (int64_t y = 0; y < h; y++) {
            const uint8_t* b = binarizer.run(source, (int)y);
            for (int64_t px = 0; px < w; px++, bits += bytes)
                std::memcpy(bits, b + (size_t)px * (size_t)binarizer.bit_stride(), bytes);
        }
    }
}

}  // namespace lmbq
