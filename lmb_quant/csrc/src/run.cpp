// SPDX-License-Identifier: Apache-2.0
#include "run.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "error.hpp"
#include "overlap.hpp"
#include "thread_pool.hpp"

namespace lmbq {
namespace {

// A layer on a batch.
struct Job {
    LayerImage like;
    const float *x, *skip;
    float* out;
    KeptBits bits;
    const float* means = nullptr;
    float* halo = nullptr;
    int tasks = 0;  // image by image, band by band
    size_t each = 0;  // bytes of one thread's memory
    char* base = nullptr;
    std::atomic<int> next{0};

    LayerImage image(int i) const {
        const size_t at = (size_t)i, in = at * (size_t)like.shape.h * like.in_row();
        const size_t bits_at = at * (size_t)like.shape.h * like.bit_row();
        LayerImage one = like;
        if (x) one.x = x + in;
        if (skip) one.skip = skip + at * (size_t)like.shape.oh * like.out_row();
        if (bits.given) one.bits.given = bits.given + bits_at;
        if (bits.kept) one.bits.kept = bits.kept + bits_at;
        if (means) one.means = means + at * (size_t)like.plan.in_channels;
        if (halo) one.bands.halo = halo + at * (size_t)like.bands.bands * like.bands.halo_floats();
        return one;
    }
};

struct Rows final : RowSink {
    float* out;
    size_t floats;
    Rows(float* to, size_t row) : out(to), floats(row) {}
    float* row(int y) override { return out + (size_t)y * floats; }
    void done(int, int, int) override {}
};

void copy_halo(void* context, int task) {
    const Job& j = *static_cast<Job*>(context);
    const int bands = j.like.bands.bands;
    const LayerImage image = j.image(task / bands);
    image.bands.copy_halo(image.x, task % bands);
}

// One thread's memory serves all the bands it takes.
void run_lane(void* context, int lane) {
    Job& j = *static_cast<Job*>(context);
    const int bands = j.like.bands.bands;
    LayerSweep sweep(j.like);
    Carver carver(j.base + (size_t)lane * j.each);
    sweep.lay_out(carver);
    for (int t; (t = j.next.fetch_add(1, std::memory_order_relaxed)) < j.tasks;) {
        const int i = t / bands;
        Rows rows(j.out + (size_t)i * (size_t)j.like.shape.oh * j.like.out_row(), j.like.out_row());
        sweep.run(j.image(i), t % bands, rows);
    }
}

}  // namespace

size_t elements(int64_t n, int64_t h, int64_t w, int64_t c) {
    const double row = (double)w * (double)c, total = (double)n * (double)h * row;
    require(total < (double)(SIZE_MAX / 64) && row < (double)(SIZE_MAX / 1024), "the tensor is too large");
    return (size_t)n * (size_t)h * (size_t)w * (size_t)c;
}

void run_layer(const Layer& layer, const float* x, const float* skip, float* out, int64_t n, int64_t h, int64_t w,
               int threads, KeptBits bits) {
    require(x && out, "x and out must be given");
    const ConvPlan& p = layer.plan;
    require(n >= 1 && n <= 1 << 20, "the batch must be in 1..2^20");
    const Shape s = layer.shape(h, w);
    const size_t nx = elements(n, s.h, s.w, p.in_channels), ny = elements(n, s.oh, s.ow, p.out_channels);
    const size_t out_bytes = ny * sizeof(float);
    const bool aliased = overlap(x, nx * sizeof(float), out, out_bytes);
    require(!aliased || (x == out && s.h == s.oh && s.w == s.ow && p.in_channels == p.out_channels &&
                         (p.sh == 1 || s.h == 1)),
            "out overlaps x: allowed only when they are the same buffer and shape");
    require(!skip || skip == out || !overlap(skip, out_bytes, out, out_bytes), "out overlaps skip without being it");

    // The smallest work is done before a second thread wakes.
    const double work = (double)ny * p.kh * p.kw * p.in_channels / p.groups;
    threads = std::max(1, std::min(threads, kMaxThreads));
    if (work < 2e6) threads = 1;
    Job job{{layer, p, s}, x, skip, out, bits};
    job.like.in_place = aliased;
    Bands& bands = job.like.bands;
    bands.bands = bands_of((int)((threads + n - 1) / n), s.oh, bands.above, bands.below);
    job.tasks = (int)n * bands.bands;
    const bool global = layer.threshold.kind == TH_GLOBAL && !bits.given, halo = aliased && bands.bands > 1;

    const int lanes = std::min(threads, job.tasks);
    Carver size(nullptr);
    LayerSweep(job.like).lay_out(size);
    job.each = size.used();
    float* means = nullptr;
    double* sums = nullptr;
    auto lay_out = [&](char* base) {
        Carver c(base);
        means = c.take<float>(global ? (size_t)n * (size_t)p.in_channels : 0);
        sums = c.take<double>(global ? (size_t)h * (size_t)p.in_channels : 0);
        job.halo = c.take<float>(halo ? bands.halo_floats() * (size_t)job.tasks : 0);
        job.base = c.take<char>(job.each, (size_t)lanes);
        return c.used();
    };
    Workspace space(lay_out(nullptr));
    lay_out(space.data());
    if (global) {
        global_means(x, (int)n, s.h, s.w, p.in_channels, threads, sums, means);
        job.means = means;
    }
    if (halo) parallel_for(job.tasks, threads, copy_halo, &job);
    parallel_for(lanes, threads, run_lane, &job);
}

size_t sums_bytes(const Layer& layer, const Shape& shape) {
    Carver size(nullptr);
    LayerSweep({layer, layer.sums, shape}).lay_out(size);
    return size.used();
}

void run_sums(const Layer& layer, const Shape& shape, const uint8_t* bits, float* out, char* memory) {
    LayerImage image(layer, layer.sums, shape);
    image.bits.given = bits;
    LayerSweep sweep(image);
    Carver carver(memory);
    sweep.lay_out(carver);
    Rows rows(out, image.out_row());
    sweep.run(image, 0, rows);
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
        for (int y = 0, count; y < h; y += count) {
            count = std::min(RowBinarizer::kAtOnce, (int)h - y);
            binarizer.run(source, y, count);
            for (int k = 0; k < count; k++)
                for (int64_t px = 0; px < w; px++, bits += bytes)
                    std::memcpy(bits, binarizer.bits(k) + (size_t)px * (size_t)binarizer.bit_stride(), bytes);
        }
    }
}

}  // namespace lmbq
