// SPDX-License-Identifier: Apache-2.0
// A network on one image: group by group, each in bands of rows.
#include "network_run.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "error.hpp"
#include "layer_sweep.hpp"
#include "real_sweep.hpp"
#include "steps.hpp"
#include "thread_pool.hpp"
#include "upscale_rows.hpp"

namespace lmbq {
namespace {

struct Call {
    const Network& net;
    Pixels in, out;
    int threads;
    PartClock* clock;
    std::vector<float*> buffers;
    std::atomic<bool> finite{true};

    float* buffer_row(const Place& p, int y, size_t row) const { return buffers[(size_t)p.index] + (size_t)y * row; }
    const Stage& stage(int i) const { return net.stages[(size_t)i]; }
    void lap(int stage, lmbq_part part) const {
        if (clock) clock->lap(stage, part);
    }
};

// What a sweep made of a row goes on through the other stages of its group.
class RowChain final : public RowSink {
public:
    RowChain(Call& call, const Group& group, int w)
        : call_(call), g_(group), w_((size_t)w), piece_(piece_pixels(w, std::max(group.in_channels, group.scratch_channels))),
          reader_(call.in), real_(*call.net.isa->real), writer_(*call.net.isa, call.out, std::max(1, upscale())),
          upscaled_(*call.net.isa, call.in, mode(), upscale()) {}

    void lay_out(Carver& carver) {
        for (float*& row : rows_) row = carver.take<float>(w_ * (size_t)g_.scratch_channels);
        for (float*& piece : pieces_) piece = carver.take<float>((size_t)piece_ * (size_t)g_.scratch_channels);
        other_ = carver.take<float>(reads_image() ? w_ * (size_t)call_.net.channels : 0);
        if (!g_.is_output) return;
        writer_.lay_out(carver);
        if (g_.shuffle >= 0) upscaled_.lay_out(carver);
    }
    void start() { upscaled_.start(); }

    float* row(int y) override { return place(g_.first, y, 0, first_channels()); }

    // What came as a long row goes on in pieces: a step finds in the cache what the one before it made.
    void done(int y, int first, int until) override {
        if (!g_.rows.empty())
            for (int x = first; x < until; x += piece_) run_steps(y, (size_t)x, (size_t)std::min(piece_, until - x));
        if (!g_.is_output || (size_t)until < w_) return;
        write(y, place(g_.last, y, 0, g_.out_channels));
        call_.lap((int)call_.net.stages.size() - 1, LMBQ_PART_REST);
    }

    // Rows as they are, where nothing sweeps.
    void run(const Bands& bands, int band) {
        for (int y = bands.first(band); y < bands.first(band + 1); y++) {
            if (g_.source.kind == Place::IMAGE) reader_.row(y, row(y));
            if (!g_.rows.empty()) call_.lap(g_.rows.front().stage, LMBQ_PART_REST);
            done(y, 0, (int)w_);
        }
    }

    bool finite() const { return writer_.finite(); }

private:
    void run_steps(int y, size_t x, size_t pixels) {
        const float* at = place(g_.first, y, x, first_channels());
        for (const RowStep& step : g_.rows) {
            const Stage& s = call_.stage(step.stage);
            const size_t channels = (size_t)s.out_channels, n = pixels * channels;
            float* to = place(step.to, y, x, s.out_channels);
            switch (s.kind) {
                case LMBQ_STAGE_CONV: {
                    const RealPlan& p = s.real->plan;
                    real_.row(p, {&at, (int)pixels, p.skip ? at : nullptr, to});
                    break;
                }
                case LMBQ_STAGE_ACT: {
                    const RealPlan& p = s.real->plan;
                    real_.act_row({p.act, (int)pixels, p.in_channels, p.channels, at, to});
                    break;
                }
                case LMBQ_STAGE_ADD:
                    real_.add_row(other(step.other, y, s.out_channels, x == 0) + x * channels, at, s.alpha, to, n);
                    break;
                default: real_.affine_row(at, s.offset, s.gain, to, n);
            }
            at = to;
            call_.lap(step.stage, LMBQ_PART_SUMS);
        }
    }

    int upscale() const { return g_.shuffle < 0 ? 0 : call_.stage(g_.shuffle).upscale; }
    int mode() const { return g_.add_upscaled < 0 ? LMBQ_BILINEAR : call_.stage(g_.add_upscaled).mode; }
    int first_channels() const { return g_.sweep < 0 ? g_.in_channels : call_.stage(g_.sweep).out_channels; }
    bool reads_image() const {
        for (const RowStep& step : g_.rows)
            if (call_.stage(step.stage).kind == LMBQ_STAGE_ADD && step.other.kind == Place::IMAGE) return true;
        return false;
    }

    float* place(const Place& p, int y, size_t x, int channels) const {
        if (p.kind == Place::PIECE) return pieces_[p.index];
        float* row = p.kind == Place::BUFFER ? call_.buffer_row(p, y, w_ * (size_t)channels) : rows_[p.index];
        return row + x * (size_t)channels;
    }
    const float* other(const Place& p, int y, int channels, bool begins) {
        if (p.kind == Place::BUFFER) return call_.buffer_row(p, y, w_ * (size_t)channels);
        if (begins) reader_.row(y, other_);
        return other_;
    }

    void write(int y, const float* values) {
        if (g_.shuffle < 0) return writer_.row(y, values);
        const int r = upscale(), channels = call_.out.channels;
        if (g_.add_upscaled >= 0) {
            upscaled_.run(y, values, call_.stage(g_.add_upscaled).alpha, [&](int c, int p) { return writer_.plane_row(c, y * r + p); });
        } else {
            const size_t stride = (size_t)channels * r * r;
            for (int c = 0; c < channels; c++)
                for (int p = 0; p < r; p++) {
                    float* to = writer_.plane_row(c, y * r + p);
                    for (size_t x = 0; x < w_; x++)
                        for (int q = 0; q < r; q++) to[x * r + q] = values[x * stride + (size_t)((c * r + p) * r + q)];
                }
        }
        for (int p = 0; p < r; p++) writer_.finish_planes(y * r + p);
    }

    Call& call_;
    const Group& g_;
    const size_t w_;
    const int piece_;
    PixelReader reader_;
    const RealKernels& real_;
    PixelWriter writer_;
    UpscaledRows upscaled_;
    float *rows_[2] = {}, *pieces_[2] = {}, *other_ = nullptr;
};

// The image upscaled to (h, w, channels).
class UpscaleSweep {
public:
    UpscaleSweep(const Call& call, const Stage& s)
        : rows_(*call.net.isa, call.in, s.mode, s.upscale), channels_((size_t)call.in.channels), upscale_((size_t)s.upscale),
          wide_((size_t)call.in.w * upscale_) {}

    void lay_out(Carver& carver) {
        planes_ = carver.take<float>(channels_ * upscale_, wide_);
        rows_.lay_out(carver);
    }
    void run(const Bands& bands, int band, float* out) {
        rows_.start();
        for (int y = bands.first(band); y < bands.first(band + 1); y++) {
            rows_.run(y, nullptr, 0, [&](int channel, int place) { return plane((size_t)channel, (size_t)place); });
            for (size_t p = 0; p < upscale_; p++)
                for (size_t c = 0; c < channels_; c++) {
                    const float* from = plane(c, p);
                    float* to = out + ((size_t)y * upscale_ + p) * wide_ * channels_ + c;
                    for (size_t x = 0; x < wide_; x++) to[x * channels_] = from[x];
                }
        }
    }

private:
    float* plane(size_t channel, size_t place) const { return planes_ + (channel * upscale_ + place) * wide_; }

    UpscaledRows rows_;
    const size_t channels_, upscale_, wide_;
    float* planes_ = nullptr;
};

// One group of one call; its tasks are bands.
struct GroupRun {
    Call* call;
    const Group* group;
    Bands bands;
    ConvPlan no_sums;  // of a clock that has none
    char* lanes = nullptr;  // scratch of each thread
    size_t each = 0;
    double* sums = nullptr;  // of a global threshold
    float* means = nullptr;
    int h, w;  // of the group's values

    const Stage* sweep() const { return group->sweep < 0 ? nullptr : &call->stage(group->sweep); }
    const float* source() const {
        return group->source.kind == Place::IMAGE ? nullptr : call->buffers[(size_t)group->source.index];
    }
    bool has_halo() const { return group->in_place && bands.bands > 1; }
    bool is_global() const {
        const Stage* s = sweep();
        return s && s->layer && s->layer->threshold.kind == TH_GLOBAL;
    }

    LayerImage layer_image() const {
        const Layer& layer = *sweep()->layer;
        const bool sums = !call->clock || call->clock->with_sums;
        LayerImage image(layer, sums ? layer.plan : no_sums, layer.shape(h, w));
        image.bands = bands;
        image.x = source();
        image.skip = sweep()->layer_skip ? image.x : nullptr;
        image.in_place = group->in_place;
        image.means = means;
        image.clock = call->clock, image.stage = group->sweep;
        return image;
    }

    // With nothing in carver it adds up what one thread needs.
    void with(Carver& carver, const int* band) const {
        RowChain chain(*call, *group, w);
        chain.lay_out(carver);
        const Stage* s = sweep();
        if (!s) {
            if (band) chain.start(), chain.run(bands, *band);
        } else if (s->kind == LMBQ_STAGE_BINARY) {
            const LayerImage image = layer_image();
            LayerSweep layer(image);
            layer.lay_out(carver);
            if (band) chain.start(), layer.run(image, *band, chain);
        } else if (s->kind == LMBQ_STAGE_UPSCALE) {
            UpscaleSweep upscaled(*call, *s);
            upscaled.lay_out(carver);
            if (!band) return;
            upscaled.run(bands, *band, call->buffers[(size_t)group->first.index]);
            call->lap(group->sweep, LMBQ_PART_SUMS);
        } else {
            RealSweep real(*call->net.isa, s->real->plan, source(), call->in, h, w);
            if (s->has_range) real.set_range(s->offset, s->gain);
            real.set_clock(call->clock, group->sweep);
            real.lay_out(carver);
            if (band) chain.start(), real.run(bands, *band, group->in_place, chain);
        }
        if (band && !chain.finite()) call->finite.store(false, std::memory_order_relaxed);
    }
};

void sum_rows(void* context, int band, int) {
    const GroupRun& g = *static_cast<GroupRun*>(context);
    if (g.call->clock) g.call->clock->start();
    const int c = g.group->in_channels;
    for (int y = g.bands.first(band); y < g.bands.first(band + 1); y++)
        row_sums(g.source() + (size_t)y * g.bands.row_floats, g.w, c, g.sums + (size_t)y * (size_t)c);
}

void take_means(void* context, int, int) {
    const GroupRun& g = *static_cast<GroupRun*>(context);
    means_of_sums(g.sums, g.h, g.w, g.group->in_channels, g.means);
    g.call->lap(g.group->sweep, LMBQ_PART_THRESHOLD);
}

void copy_halo(void* context, int band, int) {
    const GroupRun& g = *static_cast<GroupRun*>(context);
    g.bands.copy_halo(g.source(), band);
}

void run_band(void* context, int band, int lane) {
    const GroupRun& g = *static_cast<GroupRun*>(context);
    Carver carver(g.lanes + (size_t)lane * g.each);
    if (g.call->clock) g.call->clock->start();
    g.with(carver, &band);
}

constexpr double kWorthAThread = 3e5;  // multiplications: what waking one costs

}  // namespace

bool run_network(const Network& net, const Pixels& in, const Pixels& out, int threads, PartClock* clock) {
    const double work = net.work * in.h * in.w;
    threads = std::max(1, std::min({threads, kMaxThreads, (int)std::min(1e3, 1 + work / kWorthAThread)}));
    Call call{net, in, out, threads, clock, std::vector<float*>(net.buffers.size())};

    std::vector<GroupRun> runs(net.groups.size());
    std::vector<Step> steps;
    steps.reserve(4 * runs.size());
    size_t each = 0, halo = 0, sums = 0, means = 0;
    int most_tasks = 1;
    for (size_t i = 0; i < runs.size(); i++) {
        GroupRun& g = runs[i];
        const Group& group = net.groups[i];
        g.call = &call, g.group = &group;
        g.h = in.h * group.factor, g.w = in.w * group.factor;
        const Stage* s = g.sweep();
        if (s && s->layer) {
            g.no_sums = s->layer->plan;
            g.no_sums.nsegments = 0;
            g.bands = LayerImage(*s->layer, s->layer->plan, s->layer->shape(g.h, g.w)).bands;
        } else {
            const int half = s && s->real ? s->real->plan.kernel / 2 : 0;
            g.bands = Bands{g.h, g.h, 1, half, half, (size_t)g.w * (size_t)group.in_channels, nullptr};
        }
        g.bands.bands = bands_of(threads, g.h, g.bands.above, g.bands.below);
        most_tasks = std::max(most_tasks, g.bands.bands);
        Carver lane(nullptr);
        g.with(lane, nullptr);
        each = std::max(each, lane.used());
        if (g.has_halo()) halo = std::max(halo, g.bands.halo_floats() * (size_t)g.bands.bands);
        if (g.is_global()) {
            sums = std::max(sums, (size_t)g.h * (size_t)group.in_channels);
            means = std::max(means, (size_t)group.in_channels);
            steps.push_back({g.bands.bands, sum_rows, &g});
            steps.push_back({1, take_means, &g});
        }
        if (g.has_halo()) steps.push_back({g.bands.bands, copy_halo, &g});
        steps.push_back({g.bands.bands, run_band, &g});
    }

    const int lanes = std::min(threads, most_tasks);
    const size_t pixels = (size_t)in.h * (size_t)in.w, progress = step_bytes((int)steps.size(), most_tasks);
    char* memory = nullptr;
    auto lay_out = [&](char* base) {
        Carver c(base);
        for (size_t b = 0; b < call.buffers.size(); b++) call.buffers[b] = c.take<float>(net.buffers[b], pixels);
        float* of_halo = c.take<float>(halo);
        double* of_sums = c.take<double>(sums);
        float* of_means = c.take<float>(means);
        char* of_lanes = c.take<char>(each, (size_t)lanes);
        memory = c.take<char>(progress);
        for (GroupRun& g : runs) {
            g.bands.halo = of_halo;
            g.sums = of_sums, g.means = g.is_global() ? of_means : nullptr;
            g.lanes = of_lanes, g.each = each;
        }
        return c.used();
    };
    Workspace space(lay_out(nullptr));
    lay_out(space.data());
    run_steps(steps.data(), (int)steps.size(), most_tasks, lanes, memory);
    return call.finite.load();
}

}  // namespace lmbq
