// SPDX-License-Identifier: Apache-2.0
#include "upscale.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "thread_pool.hpp"

namespace lmbq {
namespace {

// Weights of the pixels before, at and after, for each place between two pixels.
template <int R>
struct Weights {
    float of[R][3];
    Weights() {
        for (int p = 0; p < R; p++) {
            const float at = ((float)p + 0.5f) / (float)R - 0.5f;
            of[p][0] = std::max(0.0f, -at), of[p][1] = 1 - std::fabs(at), of[p][2] = std::max(0.0f, at);
        }
    }
};

template <int R>
struct Task {
    const Upscaling& job;
    const Weights<R> weights;
    std::vector<float> rows;  // one a lane, with its ends repeated
    int lanes;
};

// All rows of one LR row of one channel.
template <int R>
void upscale_row(const Upscaling& job, const Weights<R>& weights, float* row, size_t plane, int y) {
    const int w = job.w, stride = job.c * R * R, channel = (int)(plane % (size_t)job.c);
    const float* image = job.image + plane * (size_t)job.h * w;
    const float *before = image + (size_t)std::max(0, y - 1) * w, *at = image + (size_t)y * w,
                *after = image + (size_t)std::min(job.h - 1, y + 1) * w;
    const float* detail = job.detail + ((plane / (size_t)job.c * job.h + y) * w) * stride + channel * R * R;
    float* out = job.out + (plane * job.h + y) * R * w * R;
    for (int p = 0; p < R; p++, detail += R, out += (size_t)w * R) {
        const float* u = weights.of[p];
        for (int x = 0; x < w; x++) row[x + 1] = u[0] * before[x] + u[1] * at[x] + u[2] * after[x];
        row[0] = row[1], row[w + 1] = row[w];
        for (int x = 0; x < w; x++) {
            const float left = row[x], middle = row[x + 1], right = row[x + 2];
            const float* d = detail + (size_t)x * stride;
            for (int q = 0; q < R; q++) {
                const float* v = weights.of[q];
                out[x * R + q] = v[0] * left + v[1] * middle + v[2] * right + job.alpha * d[q];
            }
        }
    }
}

template <int R>
void run_lane(void* context, int lane) {
    Task<R>& t = *static_cast<Task<R>*>(context);
    const Weights<R> weights = t.weights;
    const size_t all = (size_t)t.job.n * t.job.c * t.job.h, each = t.rows.size() / (size_t)t.lanes;
    float* row = t.rows.data() + each * (size_t)lane;
    for (size_t i = all * lane / t.lanes; i < all * (lane + 1) / t.lanes; i++)
        upscale_row<R>(t.job, weights, row, i / (size_t)t.job.h, (int)(i % (size_t)t.job.h));
}

template <int R>
void run(const Upscaling& job, int threads) {
    const int lanes = std::max(1, std::min({threads, kMaxThreads, job.h}));
    Task<R> task{job, {}, std::vector<float>((size_t)lanes * ((size_t)job.w + 2 + 16)), lanes};
    parallel_for(lanes, threads, run_lane<R>, &task);
}

}  // namespace

void upscale_with_detail(const Upscaling& job, int threads) {
    switch (job.upscale) {
        case 2: return run<2>(job, threads);
        case 3: return run<3>(job, threads);
        default: return run<4>(job, threads);
    }
}

}  // namespace lmbq
