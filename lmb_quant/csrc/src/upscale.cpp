// SPDX-License-Identifier: Apache-2.0
#include "upscale.hpp"

#include <algorithm>

#include "dispatch.hpp"
#include "lmb_quant.h"
#include "thread_pool.hpp"
#include "upscale_rows.hpp"

namespace lmbq {
namespace {

struct Work {
    const Upscaling& job;
    const Isa& isa;
    int lanes;
    size_t each = 0;
    char* base = nullptr;

    UpscaledRows rows(int image) const {
        const size_t plane = (size_t)job.h * (size_t)job.w;
        float* data = const_cast<float*>(job.image) + (size_t)image * (size_t)job.c * plane;
        return {isa, {Pixels::PLANAR, data, job.c, job.h, job.w, (size_t)job.w, plane}, LMBQ_BILINEAR, job.upscale};
    }

    // One thread's part of all LR rows of all images.
    void run(int lane) const {
        const size_t h = (size_t)job.h, all = (size_t)job.n * h, r = (size_t)job.upscale, c = (size_t)job.c;
        const size_t wide = (size_t)job.w * r, until = all * (size_t)(lane + 1) / (size_t)lanes;
        for (size_t i = all * (size_t)lane / (size_t)lanes; i < until;) {
            const size_t image = i / h, end = std::min(until, (image + 1) * h);
            UpscaledRows part = rows((int)image);
            Carver carver(base + (size_t)lane * each);
            part.lay_out(carver);
            part.start();
            float* out = job.out + image * c * h * r * wide;
            for (; i < end; i++)
                part.run((int)(i % h), job.detail + i * (size_t)job.w * c * r * r, job.alpha, [&](int ch, int p) {
                    return out + (((size_t)ch * h + i % h) * r + (size_t)p) * wide;
                });
        }
    }
};

}  // namespace

void upscale_with_detail(const Upscaling& job, int threads) {
    Work work{job, *find_isa(select_isa(LMBQ_ISA_AUTO)), std::max(1, std::min({threads, kMaxThreads, job.h}))};
    Carver size(nullptr);
    work.rows(0).lay_out(size);
    work.each = size.used();
    Workspace space(work.each * (size_t)work.lanes);
    work.base = space.data();
    parallel_for(work.lanes, threads, [](void* w, int lane) { static_cast<const Work*>(w)->run(lane); }, &work);
}

}  // namespace lmbq
