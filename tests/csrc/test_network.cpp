// SPDX-License-Identifier: Apache-2.0
// Networks of all stages, sizes and threads against their definition, bit for bit; what is refused; several callers.
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>

#include "support/network.hpp"

using namespace lmbq_test;

namespace {

std::vector<uint8_t> to_bytes(const std::vector<float>& v) {
    std::vector<uint8_t> bytes;
    for (float e : v) bytes.push_back((uint8_t)std::nearbyint(std::min(255.0f, std::max(0.0f, e * 255.0f))));
    return bytes;
}

bool equal(const std::vector<float>& a, const std::vector<float>& b) { return different(a.data(), b) == 0; }

// Every layout of input and output, and bytes with rows apart.
void check_runs(const lmbq_network* network, const Image& image, const Image& wanted, int threads, const std::string& name) {
    const std::vector<float> in[2] = {planes(image), image.v}, out[2] = {planes(wanted), wanted.v};
    const int all_finite = std::all_of(wanted.v.begin(), wanted.v.end(), [](float v) { return std::isfinite(v); });
    for (int from : {LMBQ_PLANAR, LMBQ_INTERLEAVED})
        for (int to : {LMBQ_PLANAR, LMBQ_INTERLEAVED}) {
            std::vector<float> got(wanted.v.size(), NAN);
            int finite = -1;
            const lmbq_status status = lmbq_network_run(network, in[from].data(), from, got.data(),
                                                        to, 1, image.h, image.w, threads, &finite);
            expect(status == LMBQ_OK && finite == all_finite && equal(got, out[to]), name);
        }
    const size_t gap = 5, in_row = (size_t)image.w * (size_t)image.c, out_row = (size_t)wanted.w * (size_t)wanted.c;
    const std::vector<uint8_t> bytes = to_bytes(image.v), want = to_bytes(wanted.v);
    std::vector<uint8_t> apart((in_row + gap) * (size_t)image.h, 77), got((out_row + gap) * (size_t)wanted.h, 99);
    for (size_t y = 0; y < (size_t)image.h; y++) memcpy(&apart[y * (in_row + gap)], &bytes[y * in_row], in_row);
    const lmbq_status status = lmbq_network_run_bytes(network, apart.data(), (int64_t)(in_row + gap), got.data(),
                                                      (int64_t)(out_row + gap), image.h, image.w, threads, nullptr);
    size_t bad = status != LMBQ_OK;
    for (size_t y = 0; y < (size_t)wanted.h; y++) {
        bad += memcmp(&got[y * (out_row + gap)], &want[y * out_row], out_row) != 0;
        for (size_t i = out_row; i < out_row + gap; i++) bad += got[y * (out_row + gap) + i] != 99;
    }
    expect(bad == 0, "bytes " + name);
}

void random_networks(int count) {
    for (int i = 0; i < count; i++) {
        const Network net = random_network();
        const bool large = i % 8 == 0;
        const Image image = random_image(large ? pick(30, 45) : pick(1, 20), large ? pick(20, 70) : pick(1, 24), net.channels());
        for (int isa : isas()) {
            const NetworkPointer network = net.create(isa);
            if (!network) continue;
            const Image wanted = net.run(image, isa);
            const std::string name = std::string(lmbq_isa_name(isa)) + " " + std::to_string(image.h) + "x" +
                                     std::to_string(image.w) + " " + net.text();
            lmbq_network_info info{};
            expect(lmbq_network_query(network.get(), &info) == LMBQ_OK && info.channels == net.channels() &&
                       info.out_channels == wanted.c && info.upscale == wanted.h / image.h, "query " + name);
            for (int threads : {1, 2, 4}) check_runs(network.get(), image, wanted, threads, name);
        }
    }
}

Image part(const Image& image, int first, int width) {
    Image out(image.h, width, image.c);
    for (int y = 0; y < image.h; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < image.c; c++) out.at(y, x, c) = image.at(y, first + x, c);
    return out;
}

// Rows so long that they go on in pieces are as narrow parts of the image are, to the bit.
void wide_image(const Network& net) {
    constexpr int kCore = 30;
    const Image image = random_image(pick(1, 3), pick(900, 2400), net.channels());
    for (int isa : isas()) {
        const NetworkPointer network = net.create(isa);
        lmbq_network_info info{};
        if (!network || lmbq_network_query(network.get(), &info) != LMBQ_OK || info.sees_all) continue;
        auto run = [&](const Image& in, int threads) {
            Image out(in.h * info.upscale, in.w * info.upscale, info.out_channels);
            expect(lmbq_network_run(network.get(), in.v.data(), LMBQ_INTERLEAVED, out.v.data(), LMBQ_INTERLEAVED, 1, in.h,
                                    in.w, threads, nullptr) == LMBQ_OK, "a wide image");
            return out;
        };
        const Image whole = run(image, pick(1, 3));
        size_t bad = 0;
        for (int k = 0; k < 7; k++) {
            const int x = k * (image.w - kCore) / 6;
            const int first = std::max(0, x - info.reach), until = std::min(image.w, x + kCore + info.reach);
            const Image alone = run(part(image, first, until - first), 1);
            bad += !equal(part(alone, (x - first) * info.upscale, kCore * info.upscale).v,
                          part(whole, x * info.upscale, kCore * info.upscale).v);
        }
        expect(bad == 0, std::string("wide ") + lmbq_isa_name(isa) + " " + std::to_string(image.w) + " " + net.text());
    }
}

void wide_images(int count) {
    for (const std::vector<int>& channels : {std::vector<int>{16, 64}, {64, 16}, {16, 16}, {16, 32, 64}, {64, 32, 16, 64}}) {
        Network net(3);
        net.conv(channels[0], one_of({1, 3}), LMBQ_ACT_NONE, false);
        for (size_t i = 1; i < channels.size(); i++) net.conv(channels[i], 1, one_of({LMBQ_ACT_NONE, LMBQ_ACT_RELU}), false);
        if (channels.size() == 3) net.act(LMBQ_ACT_LEAKY);
        wide_image(net);
    }
    for (int i = 0; i < count; i++) wide_image(random_network());
}

Network small_network() {
    Network net(3);
    net.range(-0.5f, 16.0f);
    net.conv(16, 3, LMBQ_ACT_LEAKY, false);
    for (int i = 0; i < 3; i++) {
        Case c;
        c.set_channels(16, 16);
        net.binary(c);
    }
    net.depthwise(3, LMBQ_ACT_NONE, true);
    net.conv(16, 1, LMBQ_ACT_PRELU, true);
    net.conv(12, 1, LMBQ_ACT_NONE, false);
    net.shuffle(2);
    net.add_upscaled(2, LMBQ_BILINEAR, 0.0625f);
    return net;
}

// Networks that the random ones have seldom or never.
void special_networks() {
    Network groups(32);  // the last group's vector ends beyond the outputs
    groups.conv(64, 3, LMBQ_ACT_RPRELU, false, 16);
    Network upscale(3);
    upscale.upscale(2, LMBQ_BICUBIC);
    Network wide(300);  // 8-bit sums of more inputs than a vector has bytes, no multiple of four
    wide.int8_conv(130, LMBQ_ACT_RPRELU, false);
    for (const Network* net : {&groups, &upscale, &wide})
        for (int isa : isas()) {
            const Image image = random_image(9, 11, net->channels()), wanted = net->run(image, isa);
            const NetworkPointer network = net->create(isa);
            if (network) check_runs(network.get(), image, wanted, 2, std::string(lmbq_isa_name(isa)) + " " + net->text());
        }
}

// Nothing, little, much and what is not finite, in 8 bits; a weight that is not finite.
void odd_int8() {
    for (int isa : isas())
        for (int inputs : {3, 16, 70}) {
            Network net(inputs);
            net.int8_conv(20, LMBQ_ACT_NONE, false);
            for (float odd : {0.0f, 1e-38f, 1e-31f, 3e38f, INFINITY, -INFINITY, (float)NAN}) {
                Image image(1, 7, inputs);
                for (int c = 0; c < inputs; c++) image.at(0, 1, c) = odd;
                image.at(0, 4, inputs - 1) = odd;
                image.at(0, 5, 0) = 1, image.at(0, 5, inputs - 1) = odd;
                const NetworkPointer network = net.create(isa);
                std::vector<float> got(7 * 20);
                const lmbq_status status = lmbq_network_run(network.get(), image.v.data(), LMBQ_INTERLEAVED, got.data(),
                                                            LMBQ_INTERLEAVED, 1, 1, 7, 1, nullptr);
                expect(status == LMBQ_OK && equal(got, net.run(image, isa).v),
                       std::string(lmbq_isa_name(isa)) + " 8 bits of " + std::to_string(odd));
            }
            std::vector<float> weights(net.stages[0].weight, net.stages[0].weight + inputs * 20);
            weights[(size_t)inputs + 1] = INFINITY;  // of output 1
            net.stages[0].weight = weights.data();
            const NetworkPointer network = net.create(isa);
            const Image image = random_image(1, 3, inputs);
            std::vector<float> got(3 * 20);
            expect(lmbq_network_run(network.get(), image.v.data(), LMBQ_INTERLEAVED, got.data(), LMBQ_INTERLEAVED, 1, 1, 3, 1,
                                    nullptr) == LMBQ_OK && std::isnan(got[1]) && std::isfinite(got[0]) && std::isfinite(got[2]),
                   "a weight that is not finite");
        }
}

// What depends on a pixel is within the reach that the query tells.
void reach() {
    for (int i = 0; i < 10; i++) {
        const Network net = random_network();
        const NetworkPointer network = net.create(LMBQ_ISA_AUTO);
        lmbq_network_info info{};
        if (lmbq_network_query(network.get(), &info) != LMBQ_OK || info.sees_all || info.reach > 20) continue;
        const int side = 2 * info.reach + 5, r = info.upscale;
        Image one = random_image(side, side, net.channels()), other = one;
        for (int c = 0; c < net.channels(); c++) other.at(side / 2, side / 2, c) = 5.0f;
        std::vector<float> a((size_t)(side * side * r * r * info.out_channels)), b(a.size());
        for (auto [x, to] : {std::pair{&one, &a}, std::pair{&other, &b}})
            expect(lmbq_network_run(network.get(), x->v.data(), LMBQ_INTERLEAVED, to->data(), LMBQ_INTERLEAVED, 1, side, side,
                                    1, nullptr) == LMBQ_OK, "reach runs");
        size_t bad = 0, at = 0;
        for (int y = 0; y < side * r; y++)
            for (int x = 0; x < side * r; x++)
                for (int c = 0; c < info.out_channels; c++, at++) {
                    const int far = std::max(std::abs(y / r - side / 2), std::abs(x / r - side / 2));
                    bad += a[at] != b[at] && far > info.reach;
                }
        expect(bad == 0, "reach " + std::to_string(info.reach) + " " + net.text());
    }
}

// NaN and infinities come through the skips, not through bits, and are told.
void not_finite() {
    const Network net = small_network();
    const NetworkPointer network = net.create(LMBQ_ISA_AUTO);
    for (float odd : {(float)NAN, INFINITY, -INFINITY}) {
        Image image = random_image(9, 8, 3);
        image.at(4, 4, 1) = odd;
        std::vector<float> out(9 * 8 * 4 * 3);
        int finite = -1;
        expect(lmbq_network_run(network.get(), image.v.data(), LMBQ_INTERLEAVED, out.data(), LMBQ_INTERLEAVED, 1, 9, 8, 2,
                                &finite) == LMBQ_OK && finite == 0, "a value that is not finite is told");
    }
    Network nan(1);
    nan.range(0.0f, 3e38f);
    nan.range(-3e38f, 3e38f);
    const NetworkPointer infinite = nan.create(LMBQ_ISA_AUTO);
    const uint8_t in[2] = {255, 0};
    uint8_t out[2] = {1, 1};
    int finite = -1;
    expect(lmbq_network_run_bytes(infinite.get(), in, 2, out, 2, 1, 2, 1, &finite) == LMBQ_OK && finite == 0 && out[1] == 0,
           "bytes of what is not finite");
}

void descriptions() {
    const Network net = small_network();
    auto bad = [&](const char* what, const std::function<void(std::vector<lmbq_stage_desc>&)>& spoil, const char* words) {
        std::vector<lmbq_stage_desc> stages = net.stages;
        spoil(stages);
        lmbq_network* network = nullptr;
        const lmbq_status status = lmbq_network_create(stages.data(), (int)stages.size(), 3, LMBQ_ISA_AUTO, &network);
        const bool told = std::string(lmbq_last_error()).find(words) != std::string::npos;
        expect(status == LMBQ_INVALID && !network && told, std::string("refuses ") + what);
        lmbq_network_close(&network);
    };
    using Stages = std::vector<lmbq_stage_desc>;
    bad("struct size", [](Stages& s) { s[1].struct_size--; }, "stage 2: struct_size");
    bad("kind", [](Stages& s) { s[0].kind = 77; }, "stage 1: kind");
    bad("range", [](Stages& s) { s[0].gain = NAN; }, "stage 1: gain must be finite");
    bad("weight count", [](Stages& s) { s[1].weight_count--; }, "stage 2: weight_count");
    bad("no weight", [](Stages& s) { s[1].weight = nullptr; }, "weight must be given");
    bad("even kernel", [](Stages& s) { s[1].kernel = 2; }, "kernel must be odd");
    bad("huge kernel", [](Stages& s) { s[1].kernel = INT_MAX; }, "kernel must be odd");
    bad("no outputs", [](Stages& s) { s[1].out_channels = 0; }, "out_channels");
    bad("groups", [](Stages& s) { s[1].groups = 2; }, "groups");
    bad("no groups", [](Stages& s) { s[1].groups = 0; }, "groups");
    bad("act", [](Stages& s) { s[1].act = LMBQ_ACT_COUNT; }, "act is unknown");
    bad("slopes", [](Stages& s) { s[1].slope_count = 3; }, "leaky needs one slope");
    bad("8 bits of 3 x 3", [](Stages& s) { s[1].int8 = 1; }, "int8 is for a CONV of kernel 1");
    bad("8 bits of a depthwise one", [](Stages& s) { s[5].int8 = 1; }, "int8 is for a CONV of kernel 1");
    bad("skip", [](Stages& s) { s[1].skip = 1; }, "skip needs as many");
    bad("no layer", [](Stages& s) { s[2].layer = nullptr; }, "stage 3: layer");
    bad("a layer of other inputs", [](Stages& s) { s.erase(s.begin() + 1); }, "inputs");
    bad("a layer on the image", [](Stages& s) { s.erase(s.begin(), s.begin() + 2); }, "reads no image");
    bad("shuffle", [](Stages& s) { s[8].upscale = 5; }, "upscale must be 2, 3 or 4");
    bad("shuffle of other channels", [](Stages& s) { s[8].upscale = 4; }, "multiple of upscale^2");
    bad("another factor", [](Stages& s) { s[9].upscale = 3; }, "SHUFFLE of the same upscale");
    bad("mode", [](Stages& s) { s[9].mode = 2; }, "mode");
    bad("alpha", [](Stages& s) { s[9].alpha = INFINITY; }, "alpha");
    bad("more after the end", [](Stages& s) { s.push_back(s[0]); }, "nothing an ADD_UPSCALED");
    bad("more after a shuffle", [](Stages& s) { s[9] = s[0]; }, "follows a SHUFFLE");
    bad("a late upscale", [](Stages& s) { s[1].kind = LMBQ_STAGE_UPSCALE; }, "first stage");
    for (int other : {-1, 2, INT_MAX})
        bad("add", [=](Stages& s) { s[0].kind = LMBQ_STAGE_ADD, s[0].other = other; }, "other");
    bad("add of another shape", [](Stages& s) { s[2].kind = LMBQ_STAGE_ADD, s[2].other = 0; }, "the shape");
    lmbq_layer_desc strided = *net.stages[2].layer;
    strided.stride_w = 2;
    bad("stride", [&](Stages& s) { s[2].layer = &strided; }, "keep height and width");

    lmbq_network* network = nullptr;
    const lmbq_stage_desc* s = net.stages.data();
    expect(lmbq_network_create(nullptr, 1, 3, 0, &network) == LMBQ_INVALID, "refuses no stages");
    expect(lmbq_network_create(s, 0, 3, 0, &network) == LMBQ_INVALID, "refuses a count of 0");
    expect(lmbq_network_create(s, 1, 0, 0, &network) == LMBQ_INVALID, "refuses no channels");
    expect(lmbq_network_create(s, 1, 3, 77, &network) == LMBQ_UNSUPPORTED, "refuses an instruction set");
    expect(lmbq_network_create(s, 1, 3, 0, nullptr) == LMBQ_INVALID, "refuses no place for the network");
}

void calls() {
    const Network net = small_network();
    NetworkPointer owner = net.create(LMBQ_ISA_AUTO);
    lmbq_network* n = owner.release();
    std::vector<float> in(3 * 9 * 8), out(in.size() * 4);
    std::vector<uint8_t> bytes(in.size()), large(out.size());
    auto refuses = [&](const char* what, const float* x, int64_t count, int64_t h, int64_t w, float* y, int layout = 0) {
        expect(lmbq_network_run(n, x, layout, y, LMBQ_PLANAR, count, h, w, 1, nullptr) == LMBQ_INVALID,
               std::string("refuses ") + what);
    };
    refuses("no input", nullptr, 1, 9, 8, out.data());
    refuses("no output", in.data(), 1, 9, 8, nullptr);
    refuses("layout", in.data(), 1, 9, 8, out.data(), 2);
    refuses("overlap", out.data() + 10, 1, 9, 8, out.data());
    for (int64_t size : {(int64_t)0, (int64_t)-1, (int64_t)(1 << 24), INT64_MIN, INT64_MAX}) {
        refuses("height", in.data(), 1, size, 8, out.data());
        refuses("width", in.data(), 1, 9, size, out.data());
    }
    for (int64_t count : {(int64_t)0, (int64_t)(1 << 20) + 1, INT64_MAX}) refuses("images", in.data(), count, 9, 8, out.data());
    refuses("more than can be addressed", in.data(), 1 << 20, 1 << 22, 1 << 22, out.data());
    auto refuses_bytes = [&](const char* what, const uint8_t* x, int64_t stride, uint8_t* y, int64_t out_stride) {
        expect(lmbq_network_run_bytes(n, x, stride, y, out_stride, 9, 8, 1, nullptr) == LMBQ_INVALID,
               std::string("refuses ") + what);
    };
    refuses_bytes("a short row", bytes.data(), 23, large.data(), 48);
    refuses_bytes("a short row out", bytes.data(), 24, large.data(), 47);
    refuses_bytes("a huge stride", bytes.data(), INT64_MAX, large.data(), 48);
    refuses_bytes("no input", nullptr, 24, large.data(), 48);
    refuses_bytes("overlap", large.data() + 100, 24, large.data(), 48);
    // A part of a larger image, up to that image's end, and an output that begins there; and the other way round.
    const int64_t row = 24 + 7, large_row = 48 + 7;
    const size_t in_end = (size_t)row * 8 + 24, out_end = (size_t)large_row * 17 + 48;
    std::vector<uint8_t> both(in_end + out_end);
    auto in_first = [&](size_t out_at) {
        return lmbq_network_run_bytes(n, both.data(), row, both.data() + out_at, large_row, 9, 8, 1, nullptr);
    };
    auto out_first = [&](size_t in_at) {
        return lmbq_network_run_bytes(n, both.data() + in_at, row, both.data(), large_row, 9, 8, 1, nullptr);
    };
    expect(in_first(in_end) == LMBQ_OK && in_first(in_end - 1) == LMBQ_INVALID, "an output right behind a part of an image");
    expect(out_first(out_end) == LMBQ_OK && out_first(out_end - 1) == LMBQ_INVALID, "a part of an image right behind an output");
    expect(lmbq_network_query(n, nullptr) == LMBQ_INVALID, "refuses no info");
    expect(lmbq_network_run(n, in.data(), LMBQ_PLANAR, out.data(), LMBQ_PLANAR, 1, 9, 8, -3, nullptr) == LMBQ_OK,
           "no threads are one");
    lmbq_network_close(&n);
    expect(n == nullptr, "a closed network is no more");
    lmbq_network_info info;
    expect(lmbq_network_query(n, &info) == LMBQ_INVALID && strstr(lmbq_last_error(), "closed"), "a closed network is refused");
    refuses("a closed network", in.data(), 1, 9, 8, out.data());
    lmbq_network_close(&n);
    lmbq_network_close(nullptr);
}

// The parts' times are those of a run whose result is the network's.
void profiles() {
    for (int i = 0; i < 20; i++) {
        const Network net = random_network();
        const Image image = random_image(pick(1, 30), pick(1, 40), net.channels());
        for (int isa : isas()) {
            const NetworkPointer network = net.create(isa);
            if (!network) continue;
            const Image wanted = net.run(image, isa);
            std::vector<float> got(wanted.v.size(), NAN);
            std::vector<double> times(net.stages.size() * LMBQ_PART_COUNT, -1);
            double cycles = 0;
            const lmbq_status status = lmbq_network_profile(network.get(), image.v.data(), LMBQ_INTERLEAVED, got.data(),
                                                            LMBQ_INTERLEAVED, image.h, image.w, 2, times.data(),
                                                            (int)times.size(), &cycles);
            expect(status == LMBQ_OK && equal(got, wanted.v), "profile " + net.text());
            bool sane = cycles > 0 && std::isfinite(cycles);
            for (size_t t = 0; t < times.size(); t++) {
                const bool binary = net.stages[t / LMBQ_PART_COUNT].kind == LMBQ_STAGE_BINARY;
                const size_t part = t % LMBQ_PART_COUNT;
                sane &= times[t] >= 0 && std::isfinite(times[t]);
                sane &= binary || part == LMBQ_PART_SUMS || part == LMBQ_PART_REST || times[t] == 0;
            }
            expect(sane, "times of " + net.text());
        }
    }
    const Network net = small_network();
    const NetworkPointer network = net.create(LMBQ_ISA_AUTO);
    std::vector<float> in(3 * 9 * 8), out(in.size() * 4);
    std::vector<double> times(net.stages.size() * LMBQ_PART_COUNT);
    double cycles;
    auto refuses = [&](const char* what, const lmbq_network* n, const float* x, int64_t h, int runs, double* t, int count,
                       double* c) {
        const int parts = (int)times.size() + count;
        expect(lmbq_network_profile(n, x, 0, out.data(), 0, h, 8, runs, t, parts, c) == LMBQ_INVALID && *lmbq_last_error(),
               std::string("profile refuses ") + what);
    };
    refuses("no network", nullptr, in.data(), 9, 1, times.data(), 0, &cycles);
    refuses("no input", network.get(), nullptr, 9, 1, times.data(), 0, &cycles);
    refuses("no height", network.get(), in.data(), 0, 1, times.data(), 0, &cycles);
    refuses("no runs", network.get(), in.data(), 9, 0, times.data(), 0, &cycles);
    refuses("no times", network.get(), in.data(), 9, 1, nullptr, 0, &cycles);
    refuses("too few times", network.get(), in.data(), 9, 1, times.data(), -1, &cycles);
    refuses("no cycles", network.get(), in.data(), 9, 1, times.data(), 0, nullptr);
    refuses("overlap", network.get(), out.data() + 5, 9, 1, times.data(), 0, &cycles);
}

void batches() {
    const Network net = small_network();
    const NetworkPointer network = net.create(LMBQ_ISA_AUTO);
    std::vector<float> in, want;
    for (int i = 0; i < 3; i++) {
        const Image image = random_image(33, 20, 3), wanted = [&] {
            Image out(66, 40, 3);
            expect(lmbq_network_run(network.get(), image.v.data(), LMBQ_INTERLEAVED, out.v.data(), LMBQ_INTERLEAVED, 1, 33, 20,
                                    1, nullptr) == LMBQ_OK, "one image");
            return out;
        }();
        const std::vector<float> a = planes(image), b = planes(wanted);
        in.insert(in.end(), a.begin(), a.end());
        want.insert(want.end(), b.begin(), b.end());
    }
    std::vector<float> got(want.size());
    expect(lmbq_network_run(network.get(), in.data(), LMBQ_PLANAR, got.data(), LMBQ_PLANAR, 3, 33, 20, 3, nullptr) == LMBQ_OK &&
               equal(got, want), "a batch");
}

void several_callers() {
    const Network net = small_network();
    const NetworkPointer network = net.create(LMBQ_ISA_AUTO);
    std::vector<std::thread> threads;
    const Image image = random_image(40, 33, 3);
    std::vector<float> want(40 * 33 * 4 * 3);
    auto run = [&](const lmbq_network* one, std::vector<float>& out, int count) {
        return lmbq_network_run(one, image.v.data(), LMBQ_INTERLEAVED, out.data(), LMBQ_PLANAR, 1, 40, 33, count, nullptr);
    };
    expect(run(network.get(), want, 1) == LMBQ_OK, "one caller");
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&, t] {
            std::vector<float> out(want.size());
            for (int i = 0; i < 12; i++) {
                std::fill(out.begin(), out.end(), 0.0f);
                expect(run(network.get(), out, 1 + (t + i) % 4) == LMBQ_OK && equal(out, want), "a network of several callers");
                lmbq_network* own = nullptr;
                const bool made = lmbq_network_create(net.stages.data(), (int)net.stages.size(), 3, 0, &own) == LMBQ_OK;
                expect(made && run(own, out, 2) == LMBQ_OK && equal(out, want), "a network of this caller");
                lmbq_network_close(&own);
            }
        });
    for (std::thread& t : threads) t.join();
}

}  // namespace

int main(int argc, char** argv) {
    descriptions();
    calls();
    not_finite();
    profiles();
    batches();
    reach();
    special_networks();
    odd_int8();
    const int count = argc > 1 ? std::atoi(argv[1]) : 60;
    random_networks(count);
    wide_images(count / 2);
    several_callers();
    return report("network");
}
