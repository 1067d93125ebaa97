// SPDX-License-Identifier: Apache-2.0
// The C boundary of networks.
#include <algorithm>
#include <cstdint>

#include "boundary.hpp"
#include "network_run.hpp"
#include "overlap.hpp"
#include "packed_file/open.hpp"

struct lmbq_network {
    std::unique_ptr<lmbq::Network> impl;
};

namespace {

using lmbq::Pixels;
using lmbq::require;

const lmbq::Network& checked(const lmbq_network* network) {
    require(network, "network must be given, and not be closed");
    return *network->impl;
}

constexpr int64_t kMaxSide = 1 << 24;

// What an image and all that is made of it takes must be addressable.
void check_size(const lmbq::Network& net, int64_t n, int64_t h, int64_t w) {
    require(n >= 1 && n <= 1 << 20, "n must be in 1..2^20");
    require(h >= 1 && h <= kMaxSide && w >= 1 && w <= kMaxSide, "h and w must be in 1..2^24");
    require(h * net.upscale <= kMaxSide && w * net.upscale <= kMaxSide, "h and w times the upscale must be at most 2^24");
    const double pixel = (double)net.floats_per_pixel() + (double)net.channels +
                         (double)net.out_channels * net.upscale * net.upscale;
    require((double)n * (double)h * (double)w * pixel < (double)(SIZE_MAX / 64), "the image is too large");
    require((double)w * net.widest < (double)(SIZE_MAX / 1024), "the image is too wide");  // scratch rows, where size_t is small
}

Pixels floats(float* data, int layout, int channels, int64_t h, int64_t w) {
    require(layout == LMBQ_PLANAR || layout == LMBQ_INTERLEAVED, "layout is unknown");
    const size_t width = (size_t)w;
    if (layout == LMBQ_PLANAR) return {Pixels::PLANAR, data, channels, (int)h, (int)w, width, width * (size_t)h};
    return {Pixels::INTERLEAVED, data, channels, (int)h, (int)w, width * (size_t)channels, 0};
}

size_t values(const Pixels& image) { return (size_t)image.channels * (size_t)image.h * (size_t)image.w; }

// What a network reads and what it writes.
struct Ends {
    Pixels in, out;

    Ends image(size_t i) const {  // of a batch of floats whose first image this is
        Ends one = *this;
        one.in.data = static_cast<float*>(in.data) + i * values(in);
        one.out.data = static_cast<float*>(out.data) + i * values(out);
        return one;
    }
};

// The first of n images and what is made of it.
Ends float_ends(const lmbq::Network& net, const float* in, int in_layout, float* out, int out_layout, int64_t n, int64_t h,
                int64_t w) {
    require(in && out, "in and out must be given");
    check_size(net, n, h, w);
    const Ends ends{floats(const_cast<float*>(in), in_layout, net.channels, h, w),
                    floats(out, out_layout, net.out_channels, h * net.upscale, w * net.upscale)};
    const size_t bytes = (size_t)n * sizeof(float);
    require(!lmbq::overlap(in, bytes * values(ends.in), out, bytes * values(ends.out)), "in and out overlap");
    return ends;
}

Pixels bytes(uint8_t* data, int64_t stride, int channels, int64_t h, int64_t w, const char* what) {
    require(stride >= w * channels, what);
    require((double)stride * (double)h < (double)(SIZE_MAX / 2), "a stride is too large");
    return {Pixels::BYTES, data, channels, (int)h, (int)w, (size_t)stride, 0};
}

// From the first byte to the end of the last row, which may be a part of a larger image's row: what follows is another's.
size_t extent(const Pixels& image) {
    return image.stride * (size_t)(image.h - 1) + (size_t)image.w * (size_t)image.channels;
}

lmbq_status open(const void* bytes, size_t size, int isa, bool int8, lmbq_network** out) {
    return lmbq::guarded([&] {
        require(out, "out must be given");
        *out = nullptr;
        require(bytes, "bytes must be given");
        *out = new lmbq_network{lmbq::open_packed(static_cast<const uint8_t*>(bytes), size, isa, int8)};
    });
}

}  // namespace

extern "C" {

lmbq_status lmbq_network_create(const lmbq_stage_desc* stages, int count, int channels, int isa, lmbq_network** out) {
    return lmbq::guarded([&] {
        require(out, "out must be given");
        *out = nullptr;
        require(stages && count >= 1, "stages must be given, one at least");
        lmbq::NetworkBuilder builder(channels, isa);
        for (int i = 0; i < count; i++) builder.add(stages[i]);
        *out = new lmbq_network{builder.finish()};
    });
}

lmbq_status lmbq_network_open(const void* bytes, size_t size, int isa, lmbq_network** out) {
    return open(bytes, size, isa, false, out);
}

lmbq_status lmbq_network_open_int8(const void* bytes, size_t size, int isa, lmbq_network** out) {
    return open(bytes, size, isa, true, out);
}

void lmbq_network_close(lmbq_network** network) {
    if (!network) return;
    delete *network;
    *network = nullptr;
}

lmbq_status lmbq_network_query(const lmbq_network* network, lmbq_network_info* info) {
    return lmbq::guarded([&] {
        const lmbq::Network& net = checked(network);
        require(info, "info must be given");
        *info = {net.channels, net.out_channels, net.upscale, net.reach, net.sees_all, net.bytes,
                 net.floats_per_pixel() * sizeof(float)};
    });
}

lmbq_status lmbq_network_run(const lmbq_network* network, const float* in, int in_layout, float* out, int out_layout,
                             int64_t n, int64_t h, int64_t w, int threads, int* finite) {
    return lmbq::guarded([&] {
        const lmbq::Network& net = checked(network);
        const Ends first = float_ends(net, in, in_layout, out, out_layout, n, h, w);
        bool all = true;
        for (size_t i = 0; i < (size_t)n; i++) {
            const Ends ends = first.image(i);
            all &= lmbq::run_network(net, ends.in, ends.out, threads);
        }
        if (finite) *finite = all;
    });
}

lmbq_status lmbq_network_run_bytes(const lmbq_network* network, const uint8_t* in, int64_t in_stride, uint8_t* out,
                                   int64_t out_stride, int64_t h, int64_t w, int threads, int* finite) {
    return lmbq::guarded([&] {
        const lmbq::Network& net = checked(network);
        require(in && out, "in and out must be given");
        check_size(net, 1, h, w);
        const Pixels from = bytes(const_cast<uint8_t*>(in), in_stride, net.channels, h, w, "in_stride is smaller than a row");
        const Pixels to = bytes(out, out_stride, net.out_channels, h * net.upscale, w * net.upscale,
                                "out_stride is smaller than a row");
        require(!lmbq::overlap(in, extent(from), out, extent(to)), "in and out overlap");
        const bool all = lmbq::run_network(net, from, to, threads);
        if (finite) *finite = all;
    });
}

lmbq_status lmbq_network_profile(const lmbq_network* network, const float* in, int in_layout, float* out, int out_layout,
                                 int64_t h, int64_t w, int runs, double* nanoseconds, int count, double* cycles) {
    return lmbq::guarded([&] {
        const lmbq::Network& net = checked(network);
        require(nanoseconds && cycles, "nanoseconds and cycles must be given");
        require(count >= 0 && (size_t)count == net.stages.size() * LMBQ_PART_COUNT,
                "count must be the number of stages times LMBQ_PART_COUNT");
        require(runs >= 1 && runs <= 1 << 20, "runs must be in 1..2^20");
        const Ends ends = float_ends(net, in, in_layout, out, out_layout, 1, h, w);
        lmbq::PartClock without(net.stages.size(), false), with(net.stages.size());
        double fastest = 0;
        for (int i = 0; i < runs; i++) {
            without.restart(), with.restart();
            lmbq::run_network(net, ends.in, ends.out, 1, &without);
            lmbq::run_network(net, ends.in, ends.out, 1, &with);
            fastest = std::max(fastest, lmbq::cycles_per_nanosecond());
        }
        for (size_t s = 0; s < net.stages.size(); s++) {
            double* const parts = nanoseconds + s * LMBQ_PART_COUNT;
            for (int p = 0; p < LMBQ_PART_COUNT; p++) parts[p] = with.nanoseconds(s, (lmbq_part)p);
            if (!net.stages[s].layer) continue;
            parts[LMBQ_PART_EPILOGUE] = without.nanoseconds(s, LMBQ_PART_SUMS);
            parts[LMBQ_PART_SUMS] = std::max(0.0, parts[LMBQ_PART_SUMS] - parts[LMBQ_PART_EPILOGUE]);
        }
        *cycles = fastest;
    });
}

}  // extern "C"
