// SPDX-License-Identifier: Apache-2.0
// Image by image, so that all of one image's gradients stay in cache: the sums of bits once more, the unit's activation
// function, the gradients of weights and bits, the threshold. Sums over images are taken in an order that does not depend
// on the number of threads.
#include "backward.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "bit_planes.hpp"
#include "error.hpp"
#include "run.hpp"
#include "thread_pool.hpp"
#include "threshold.hpp"

namespace lmbq {
namespace {

constexpr int kChunks = 8;  // of images, each with sums of its own

size_t rounded(int channels) { return (size_t)(channels + 15) / 16 * 16; }

struct Job {
    const Layer& layer;
    lmbq_backward& b;
    Shape shape;
    int images, chunks;
    bool unit, convolutions, threshold;  // which parts are done here
    const float* means = nullptr;
    const uint16_t* choices = nullptr;

    const ConvPlan& plan() const { return layer.plan; }
    const GradientKernels& kernels() const { return *layer.isa->gradients; }
    size_t in_pixels() const { return (size_t)shape.h * (size_t)shape.w; }
    size_t out_pixels() const { return (size_t)shape.oh * (size_t)shape.ow; }
    size_t in_floats() const { return in_pixels() * (size_t)plan().in_channels; }
    size_t out_floats() const { return out_pixels() * (size_t)plan().out_channels; }
    int taps() const { return plan().kh * plan().kw; }
    int weight_blocks() const { return (plan().out_channels + kernels().block_outputs - 1) / kernels().block_outputs; }
    size_t weight_floats() const {
        return (size_t)weight_blocks() * (size_t)plan().in_channels * (size_t)taps() * (size_t)kernels().block_outputs;
    }
    bool skip_before() const { return b.skip && plan().skip == SKIP_BEFORE_ACT; }
    bool wants_bits() const { return b.grad_x || b.grad_shift || b.grad_gain || plan().pixel_factor; }
    int table_blocks() const { return (plan().out_channels + 4 * kBlockGroups - 1) / (4 * kBlockGroups); }
    size_t table_floats() const { return (size_t)table_blocks() * kBlockGroups * 16 * kTile; }
};

// What a chunk of images adds up.
struct Totals {
    double *unit, *threshold, *factor;  // [UNIT_SUMS][out_pad]; [2][channels]; [channels + 1]
    float *weights, *outside;  // as the kernel leaves them; [tap][outputs]: gradients whose bit is outside the frame

    void lay_out(Carver& c, const Job& j) {
        unit = c.take<double>(UNIT_SUMS * (size_t)j.plan().out_pad);
        threshold = c.take<double>(2 * rounded(j.plan().in_channels));
        factor = c.take<double>(rounded(j.plan().in_channels) + 1);
        weights = c.take<float>(j.convolutions && j.b.grad_weight ? j.weight_floats() : 0);
        outside = c.take<float>((size_t)j.taps() * (size_t)j.plan().out_channels);
    }
};

void add_row(double* totals, float* sums, size_t count) {
    for (size_t i = 0; i < count; i++) totals[i] += (double)sums[i];
    std::memset(sums, 0, count * sizeof(float));
}

// One thread's memory, and its work on an image.
class Lane {
public:
    explicit Lane(const Job& j) : j_(j), p_(j.plan()), k_(j.kernels()), planes_(j.layer, j.shape) {
        half_ = j.layer.threshold.window / 2;
        line_ = (size_t)(j.shape.w + 2 * half_) * (size_t)p_.in_channels;
    }

    size_t lay_out(char* base) {
        Carver c(base);
        const size_t in_row = rounded(p_.in_channels);
        conv_ = c.take<float>(j_.unit ? j_.out_floats() : 0);
        sums_ = c.take<char>(j_.unit ? sums_bytes(j_.layer, j_.shape) : 0);
        skip_ = c.take<float>(j_.unit && j_.skip_before() ? j_.out_floats() : 0);
        factor_ = c.take<float>(p_.pixel_factor ? j_.in_pixels() : 0);
        grad_factor_ = c.take<float>(p_.pixel_factor ? j_.in_pixels() : 0);
        bits_ = c.take<float>(j_.wants_bits() ? j_.in_floats() : 0);
        mean_ = c.take<float>(j_.wants_bits() ? j_.in_floats() : 0);
        columns_ = c.take<float>(line_ + 16);
        unit_sums_ = c.take<float>(UNIT_SUMS * (size_t)p_.out_pad);
        threshold_sums_ = c.take<float>(2 * in_row);
        factor_sums_ = c.take<float>(in_row);
        rows_ = c.take<const float*>((size_t)std::max(j_.layer.threshold.window, p_.kh));
        means_ = c.take<float>(in_row);
        mean_sums_ = c.take<double>(in_row);
        if (j_.convolutions) {
            planes_.lay_out(c);
            tables_ = c.take<float>(j_.table_floats() * (size_t)p_.kh);
            out_ = c.take<float>((size_t)p_.in_channels * kPlane);
            groups_ = c.take<const float*>((size_t)k_.tile_groups);
            pixels_ = c.take<int>((size_t)k_.tile_groups);
            weight_tables_ = c.take<float>((size_t)k_.tile_groups * 16 * (size_t)k_.block_outputs);
        }
        return c.used();
    }

    void start() {
        std::memset(unit_sums_, 0, UNIT_SUMS * (size_t)p_.out_pad * sizeof(float));
        std::memset(threshold_sums_, 0, 2 * rounded(p_.in_channels) * sizeof(float));
        std::memset(factor_sums_, 0, rounded(p_.in_channels) * sizeof(float));
        std::memset(columns_, 0, (line_ + 16) * sizeof(float));
        if (j_.convolutions) std::memset(tables_, 0, j_.table_floats() * (size_t)p_.kh * sizeof(float));
    }

    bool finite() const { return finite_; }

    void run(int image, const Totals& t) {
        const lmbq_backward& b = j_.b;
        const float* x = b.x + (size_t)image * j_.in_floats();
        const uint8_t* bits = b.bits + (size_t)image * j_.in_pixels() * (size_t)bit_bytes(p_.in_channels);
        const float* grad_out = b.grad_out ? b.grad_out + (size_t)image * j_.out_floats() : nullptr;
        const float *conv = conv_, *bits_grad = bits_, *skip = j_.skip_before() ? skip_ : grad_out, *factor = grad_factor_;
        if (j_.unit) {
            unit(x, bits, grad_out, t);
            if (b.grad_conv) std::memcpy(b.grad_conv + (size_t)image * j_.out_floats(), conv_, j_.out_floats() * sizeof(float));
            if (b.grad_skip && j_.skip_before())
                std::memcpy(b.grad_skip + (size_t)image * j_.out_floats(), skip_, j_.out_floats() * sizeof(float));
            if (b.grad_factor_map && p_.pixel_factor)
                std::memcpy(b.grad_factor_map + (size_t)image * j_.in_pixels(), grad_factor_, j_.in_pixels() * sizeof(float));
        }
        if (j_.convolutions) {
            if (b.grad_weight) weights(bits, conv, t);
            if (j_.wants_bits()) input(conv);
        }
        if (!j_.threshold || !j_.wants_bits()) return;
        if (!j_.unit) {
            if (b.grad_bits) bits_grad = b.grad_bits + (size_t)image * j_.in_floats();
            if (j_.skip_before()) skip = b.grad_skip ? b.grad_skip + (size_t)image * j_.out_floats() : nullptr;
            if (p_.pixel_factor) factor = b.grad_factor_map + (size_t)image * j_.in_pixels();
        }
        threshold(image, x, bits_grad, b.skip ? skip : nullptr, p_.pixel_factor ? factor : nullptr, t);
    }

private:
    void unit(const float* x, const uint8_t* bits, const float* grad_out, const Totals& t) {
        run_sums(j_.layer, j_.shape, bits, conv_, sums_);
        const size_t row = (size_t)j_.shape.ow * (size_t)p_.out_channels, in_row = (size_t)j_.shape.w * (size_t)p_.in_channels;
        for (int y = 0; y < j_.shape.oh; y++) {
            const size_t at = (size_t)y * row, pixel = (size_t)y * (size_t)j_.shape.ow;
            UnitGradRow r{};
            r.plan = &p_;
            r.width = j_.shape.ow;
            r.grad_out = grad_out + at;
            r.conv = r.grad_conv = conv_ + at;
            if (j_.skip_before()) r.skip = x + at, r.grad_skip = skip_ + at;
            if (p_.pixel_factor) {
                j_.layer.isa->factor_row({x + (size_t)y * in_row, j_.shape.w, p_.in_channels, p_.pixel_factor, factor_ + pixel});
                r.factor = factor_ + pixel;
                r.grad_factor = grad_factor_ + pixel;
            }
            r.sums = unit_sums_;
            k_.unit_row(r);
            finite_ = finite_ && j_.layer.isa->real->finite_row(conv_ + at, row);
            add_row(t.unit, unit_sums_, UNIT_SUMS * (size_t)p_.out_pad);
            if (p_.pixel_factor) limit_factor(x + (size_t)y * in_row, pixel, t);
        }
    }

    // No gradient where the factor is at a limit from beyond it.
    void limit_factor(const float* x, size_t pixel, const Totals& t) {
        for (int i = 0; i < j_.shape.ow; i++, x += p_.in_channels) {
            float& grad = grad_factor_[pixel + (size_t)i];
            const float f = factor_[pixel + (size_t)i];
            if (!(f > 0 && f < 1)) {
                double z = (double)p_.pixel_factor[p_.in_channels];
                for (int c = 0; c < p_.in_channels; c++) z += (double)x[c] * (double)p_.pixel_factor[c];
                if (!(z >= 0 && z <= 1)) grad = 0;
            }
            t.factor[p_.in_channels] += (double)grad;
        }
    }

    void weights(const uint8_t* bits, const float* conv, const Totals& t) {
        planes_.fill(bits);
        const int per_row = planes_.groups(), total = per_row * j_.shape.oh, O = p_.out_channels;
        WeightGradTile tile{};
        tile.in_channels = p_.in_channels;
        tile.out_channels = O;
        tile.kernel_h = p_.kh, tile.kernel_w = p_.kw;
        tile.groups = groups_;
        tile.pixels = pixels_;
        tile.plane = planes_.plane();
        tile.row = (size_t)per_row;
        tile.tables = weight_tables_;
        tile.acc = t.weights;
        for (int q0 = 0; q0 < total; q0 += k_.tile_groups) {
            for (int q = 0; q < k_.tile_groups; q++) {
                const int y = (q0 + q) / per_row, x = (q0 + q) % per_row * 4;
                pixels_[q] = q0 + q < total ? std::min(4, j_.shape.ow - x) : 0;
                groups_[q] = q0 + q >= total ? conv : conv + ((size_t)y * (size_t)j_.shape.ow + (size_t)x) * (size_t)O;
            }
            tile.nibbles = planes_.nibbles() + q0;
            k_.weight_tile(tile);
        }
        outside(conv, t.outside);
    }

    // Bits outside the frame count as -1 in the tables: what they took away, for each tap.
    void outside(const float* conv, float* sums) {
        const int O = p_.out_channels, h = j_.shape.h, w = j_.shape.w;
        for (int y = 0; y < j_.shape.oh; y++)
            for (int ky = 0; ky < p_.kh; ky++) {
                const int r = y + ky - j_.layer.pad_top;
                const bool row = r < 0 || r >= h;
                for (int kx = 0; kx < p_.kw; kx++) {
                    const int shift = kx - j_.layer.pad_left;  // pixels left of -shift and right of w - shift
                    const int first = row ? j_.shape.ow : std::min(j_.shape.ow, std::max(0, -shift));
                    const int last = row ? j_.shape.ow : std::min(j_.shape.ow, std::max(first, w - shift));
                    float* s = sums + (size_t)(ky * p_.kw + kx) * (size_t)O;
                    for (int x = 0; x < j_.shape.ow; x++) {
                        if (x == first && first < last) x = last;
                        if (x >= j_.shape.ow) break;
                        const float* g = conv + ((size_t)y * (size_t)j_.shape.ow + (size_t)x) * (size_t)O;
                        for (int o = 0; o < O; o++) s[o] += g[o];
                    }
                }
            }
    }

    void input(const float* conv) {
        const int kh = p_.kh, O = p_.out_channels, C = p_.in_channels;
        std::memset(bits_, 0, j_.in_floats() * sizeof(float));
        for (int x0 = 0; x0 < j_.shape.ow; x0 += kTile) {
            int made = 0;  // rows before it have their tables
            for (int y = 0; y < j_.shape.h; y++) {
                const int last = std::min(j_.shape.oh - 1, y + j_.layer.pad_top);
                made = std::max(made, y + j_.layer.pad_top - kh + 1);
                for (; made <= last; made++) {
                    BitsGradTables r{conv + ((size_t)made * (size_t)j_.shape.ow + (size_t)x0) * (size_t)O,
                                     std::min(kTile, j_.shape.ow - x0), O, table(made)};
                    k_.bits_tables(r);
                }
                for (int ky = 0; ky < kh; ky++) {
                    const int r = y + j_.layer.pad_top - ky;
                    rows_[ky] = r < 0 || r >= j_.shape.oh ? nullptr : table(r);
                }
                std::memset(out_, 0, (size_t)C * kPlane * sizeof(float));
                k_.bits_row({C, kh, p_.kw, j_.table_blocks(), rows_, j_.choices, out_});
                const int at = x0 - j_.layer.pad_left, from = std::max(0, -at);
                const int until = std::min(kTile + p_.kw - 1, j_.shape.w - at);
                if (from < until)
                    k_.scatter_planes(out_ + from, C, until - from,
                                      bits_ + ((size_t)y * (size_t)j_.shape.w + (size_t)(at + from)) * (size_t)C);
            }
        }
    }

    float* table(int row) const { return tables_ + (size_t)(row % p_.kh) * j_.table_floats(); }

    // The rows of a window's columns summed, zeros on either side.
    const float* columns(const float* image, int y, int& nrows) {
        const int y0 = std::max(0, y - half_), y1 = std::min(j_.shape.h - 1, y + half_);
        const size_t row = (size_t)j_.shape.w * (size_t)p_.in_channels;
        nrows = y1 - y0 + 1;
        for (int i = 0; i < nrows; i++) rows_[i] = image + (size_t)(y0 + i) * row;
        k_.sum_of_rows(rows_, nrows, row, columns_ + (size_t)half_ * (size_t)p_.in_channels);
        return columns_;
    }

    void threshold(int image, const float* x, const float* bits_grad, const float* skip, const float* factor, const Totals& t) {
        const Thresholding& th = j_.layer.threshold;
        const lmbq_backward& b = j_.b;
        const int C = p_.in_channels, w = j_.shape.w, h = j_.shape.h;
        const size_t row = (size_t)w * (size_t)C, in_row = rounded(C);
        const bool through = !b.detach && (th.kind == TH_LOCAL || th.kind == TH_GLOBAL), local = th.kind == TH_LOCAL;
        const bool mean = th.kind == TH_LOCAL || th.kind == TH_GLOBAL;
        for (int y = 0; y < h; y++) {
            const size_t at = (size_t)y * row;
            ThresholdGradRow r{};
            r.width = w, r.channels = C, r.window = local ? th.window : 1;
            r.surrogate = b.surrogate;
            r.x = x + at, r.grad_bits = bits_grad + at;
            r.given = b.surrogate == SURROGATE_GIVEN ? b.derivative + (size_t)image * j_.in_floats() + at : nullptr;
            if (local) r.columns = columns(x, y, r.nrows);
            if (th.kind == TH_GLOBAL) r.means = j_.means + (size_t)image * (size_t)C;
            if (!th.t.empty()) r.shift = th.t.data();
            if (mean && !th.gain.empty()) r.gain = th.gain.data();
            r.through_value = bits_ + at;
            if (through) r.through_mean = mean_ + at;
            r.sums = threshold_sums_;
            k_.threshold_row(r);
            add_row(t.threshold, threshold_sums_, 2 * in_row);
        }
        if (!b.grad_x && !factor) return;
        if (through && !local) global_part();
        for (int y = 0; y < h; y++) {
            const size_t at = (size_t)y * row;
            InputGradRow r{};
            int nrows = 0;
            r.width = w, r.channels = C, r.window = local ? th.window : 1;
            r.through_value = bits_ + at;
            if (through && local) r.columns = columns(mean_, y, nrows);
            r.grad_skip = skip ? skip + at : nullptr;
            if (factor) r.x = x + at, r.grad_factor = factor + (size_t)y * (size_t)w, r.factor_weights = p_.pixel_factor;
            r.factor_sums = factor_sums_;
            r.grad_x = b.grad_x ? b.grad_x + (size_t)image * j_.in_floats() + at : mean_;
            k_.input_row(r);
            if (factor) add_row(t.factor, factor_sums_, (size_t)C);
        }
    }

    // GLOBAL: the mean of what goes through the mean, taken off every pixel.
    void global_part() {
        const int C = p_.in_channels;
        std::fill(mean_sums_, mean_sums_ + C, 0.0);
        for (size_t i = 0; i < j_.in_pixels(); i++)
            for (int c = 0; c < C; c++) mean_sums_[c] += (double)mean_[i * (size_t)C + (size_t)c];
        for (int c = 0; c < C; c++) means_[c] = (float)(mean_sums_[c] / (double)j_.in_pixels());
        for (size_t i = 0; i < j_.in_pixels(); i++)
            for (int c = 0; c < C; c++) bits_[i * (size_t)C + (size_t)c] -= means_[c];
    }

    const Job& j_;
    const ConvPlan& p_;
    const GradientKernels& k_;
    BitPlanes planes_;
    int half_;
    size_t line_;
    float *conv_ = nullptr, *skip_ = nullptr, *factor_ = nullptr, *grad_factor_ = nullptr, *bits_ = nullptr, *mean_ = nullptr;
    float *columns_ = nullptr, *unit_sums_ = nullptr, *threshold_sums_ = nullptr, *factor_sums_ = nullptr;
    float *tables_ = nullptr, *out_ = nullptr, *weight_tables_ = nullptr, *means_ = nullptr;
    double* mean_sums_ = nullptr;
    const float **rows_ = nullptr, **groups_ = nullptr;
    int* pixels_ = nullptr;
    char* sums_ = nullptr;
    bool finite_ = true;
};

struct Sweep {
    const Job& job;
    const Totals* totals;
    size_t each;
    char* base;
    std::atomic<int> next{0};
    std::atomic<bool> finite{true};
};

void run_lane(void* ctx, int index) {
    Sweep& s = *static_cast<Sweep*>(ctx);
    Lane lane(s.job);
    lane.lay_out(s.base + (size_t)index * s.each);
    lane.start();
    for (int c; (c = s.next.fetch_add(1, std::memory_order_relaxed)) < s.job.chunks;) {
        const int64_t n = s.job.images;
        for (int i = (int)(n * c / s.job.chunks); i < (int)(n * (c + 1) / s.job.chunks); i++) lane.run(i, s.totals[c]);
    }
    if (!lane.finite()) s.finite.store(false, std::memory_order_relaxed);
}

// For every block of sixteen outputs, input channel and tap the tables' entries that the weights choose.
struct Choosing {
    const Layer& layer;
    uint16_t* out;
};

void choose(void* ctx, int block) {
    const Choosing& c = *static_cast<Choosing*>(ctx);
    const Layer& layer = c.layer;
    const ConvPlan& p = layer.plan;
    const int taps = p.kh * p.kw;
    const size_t per = (size_t)(p.in_channels + 7) / 8;
    const uint8_t* bits = layer.bits.data();
    uint16_t* out = c.out + (size_t)block * (size_t)p.in_channels * (size_t)taps * kBlockGroups;
    for (int i = 0; i < p.in_channels; i++)
        for (int ky = 0; ky < p.kh; ky++)
            for (int g = 0; g < kBlockGroups; g++)
                for (int kx = 0; kx < p.kw; kx++) {
                    int nibble = 0;
                    for (int j = 0; j < 4; j++) {
                        const int o = (block * kBlockGroups + g) * 4 + j;
                        if (o >= p.out_channels) break;
                        const size_t tap = (size_t)o * (size_t)taps + (size_t)(ky * p.kw + kx);
                        nibble |= (bits[tap * per + (size_t)(i / 8)] >> (i % 8) & 1) << j;
                    }
                    *out++ = (uint16_t)((g * 16 + nibble) * kTile);
                }
}

struct Gathering {
    const Job& job;
    const Totals* totals;
};

// The chunks' sums of one block of outputs, to the order of the weight.
void gather_block(void* ctx, int block) {
    const Gathering& g = *static_cast<Gathering*>(ctx);
    const Job& job = g.job;
    const size_t OB = (size_t)job.kernels().block_outputs, I = (size_t)job.plan().in_channels, taps = (size_t)job.taps();
    const size_t O = (size_t)job.plan().out_channels, first = (size_t)block * OB, count = std::min(OB, O - first);
    for (size_t i = 0; i < I; i++)
        for (size_t t = 0; t < taps; t++) {
            const size_t at = ((size_t)block * I * taps + i * taps + t) * OB;
            for (size_t o = 0; o < count; o++) {
                float sum = 0;
                for (int c = 0; c < job.chunks; c++) sum += g.totals[c].weights[at + o];
                for (int c = 0; c < job.chunks; c++) sum += g.totals[c].outside[t * O + first + o];
                job.b.grad_weight[((first + o) * taps + t) * I + i] = sum;
            }
        }
}

void store(float* out, const double* totals, size_t step, int chunks, int count, double factor) {
    if (!out) return;
    for (int i = 0; i < count; i++) {
        double s = 0;
        for (int c = 0; c < chunks; c++) s += totals[(size_t)c * step + (size_t)i];
        out[i] = (float)(factor * s);
    }
}

}  // namespace

bool has_gradients(const Layer& layer) {
    const ConvPlan& p = layer.plan;
    return layer.isa->gradients && p.groups == 1 && p.sh == 1 && p.sw == 1 && p.dh == 1 && p.dw == 1 && (p.kw == 1 || p.kw == 3) && p.kh <= 7 &&
           layer.pad_top < p.kh && layer.pad_left < p.kw && layer.pad_bottom < p.kh && layer.pad_right < p.kw &&
           p.in_channels <= 4096 && p.out_channels <= 4096;
}

void run_backward(const Layer& layer, lmbq_backward& b, int64_t n, int64_t h, int64_t w, int threads) {
    require(layer.isa->gradients, "this instruction set has no gradients");
    require(b.x && b.bits, "x and bits must be given");
    require(n >= 1 && n <= 1 << 20, "the batch must be in 1..2^20");
    require(b.surrogate >= SURROGATE_GIVEN && b.surrogate <= SURROGATE_TRIANGLE_HALF, "surrogate is unknown");
    const Shape s = layer.shape(h, w);
    elements(n, s.h, s.w, layer.plan.in_channels), elements(n, s.oh, s.ow, layer.plan.out_channels);
    Job job{layer, b, s, (int)n, (int)std::min<int64_t>(n, kChunks), false, false, false};
    job.unit = !b.grad_bits;
    job.convolutions = job.unit && !b.grad_conv;
    job.threshold = job.convolutions || b.grad_bits;
    require(!job.unit || b.grad_out, "grad_out must be given");
    require(!job.convolutions || has_gradients(layer), "the layer's gradient convolutions are not here");
    require(!b.skip || (s.oh == s.h && s.ow == s.w && layer.plan.in_channels == layer.plan.out_channels),
            "the skip needs an output of the input's shape");
    require(b.surrogate != SURROGATE_GIVEN || b.derivative || !job.threshold || !job.wants_bits(), "derivative must be given");
    require(job.unit || !layer.plan.pixel_factor || b.grad_factor_map, "grad_factor_map must be given");
    require(job.unit || !b.skip || !b.grad_x || (job.skip_before() ? b.grad_skip : b.grad_out),
            "grad_skip, or grad_out where the activation function is before the skip, must be given");

    std::vector<uint16_t> choices;
    if (job.convolutions && job.wants_bits()) {
        choices.resize((size_t)job.table_blocks() * (size_t)layer.plan.in_channels * (size_t)job.taps() * kBlockGroups);
        Choosing choosing{layer, choices.data()};
        parallel_for(job.table_blocks(), threads, choose, &choosing);
        job.choices = choices.data();
    }
    const bool global = layer.threshold.kind == TH_GLOBAL && job.threshold;
    const int lanes = std::max(1, std::min({threads, job.chunks, kMaxThreads}));
    const size_t C = (size_t)layer.plan.in_channels;
    Totals totals[kChunks];
    Sweep sweep{job, totals, (Lane(job).lay_out(nullptr) + 63) / 64 * 64, nullptr};
    float* means = nullptr;
    double* sums = nullptr;
    char* begin = nullptr;
    size_t each = 0;
    auto lay_out = [&](char* base) {
        Carver c(base);
        means = c.take<float>(global ? (size_t)n * C : 0);
        sums = c.take<double>(global ? (size_t)s.h * C : 0);
        sweep.base = c.take<char>(sweep.each, (size_t)lanes);
        begin = base ? base + c.used() : nullptr;
        const size_t before = c.used();
        for (int i = 0; i < job.chunks; i++) totals[i].lay_out(c, job);
        each = (c.used() - before) / (size_t)job.chunks;
        return c.used();
    };
    Workspace space(lay_out(nullptr));
    lay_out(space.data());
    std::memset(begin, 0, each * (size_t)job.chunks);
    if (global) {
        global_means(b.x, (int)n, s.h, s.w, layer.plan.in_channels, threads, sums, means);
        job.means = means;
    }
    parallel_for(lanes, threads, run_lane, &sweep);

    const size_t step = each / sizeof(double), pad = (size_t)layer.plan.out_pad;
    const int O = layer.plan.out_channels, I = layer.plan.in_channels;
    b.finite = sweep.finite.load();
    if (job.unit) {
        const double* unit = totals[0].unit;
        store(b.grad_bias, unit + GRAD_BIAS * pad, step, job.chunks, O, 1);
        store(b.grad_slope, unit + GRAD_SLOPE * pad, step, job.chunks, O, 1);
        store(b.grad_gamma, unit + GRAD_GAMMA * pad, step, job.chunks, O, 1);
        store(b.grad_zeta, unit + GRAD_ZETA * pad, step, job.chunks, O, 1);
        store(b.grad_factor ? b.grad_factor + I : nullptr, totals[0].factor + I, step, job.chunks, 1, 1);
    }
    if (job.threshold) {
        store(b.grad_shift, totals[0].threshold, step, job.chunks, I, -1);
        store(b.grad_gain, totals[0].threshold + rounded(I), step, job.chunks, I, -1);
        store(b.grad_factor, totals[0].factor, step, job.chunks, I, 1);
    }
    if (!job.convolutions || !b.grad_weight) return;
    Gathering gathering{job, totals};
    parallel_for(job.weight_blocks(), threads, gather_block, &gathering);
}

}  // namespace lmbq
