// SPDX-License-Identifier: Apache-2.0
#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "error.hpp"
#include "workspace.hpp"

namespace lmbq {
namespace {

bool in(int v, int lo, int hi) { return v >= lo && v <= hi; }
bool ends(int kind) { return kind == LMBQ_STAGE_SHUFFLE || kind == LMBQ_STAGE_ADD_UPSCALED; }

// Whether a stage looks at other rows than its own, or is written to run so.
bool sweeps(const Stage& s) {
    if (s.kind == LMBQ_STAGE_CONV) return s.real->plan.kernel > 1;
    return s.kind == LMBQ_STAGE_DEPTHWISE || s.kind == LMBQ_STAGE_BINARY || s.kind == LMBQ_STAGE_UPSCALE;
}

// Whether a row may be written over the one it is made of.
bool elementwise(const Stage& s) { return s.kind == LMBQ_STAGE_RANGE || s.kind == LMBQ_STAGE_ACT || s.kind == LMBQ_STAGE_ADD; }

// The weights of each output as 127ths of the largest of them, ties to even: (O, I), and the unit of each. Those of a file
// with int8 weights are met again.
void to_int8(const float* weights, int outputs, int inputs, int8_t* out, float* units) {
    for (int o = 0; o < outputs; o++, weights += inputs, out += inputs) {
        float largest = 0, none = 0;
        for (int i = 0; i < inputs; i++) {
            largest = std::max(largest, std::fabs(weights[i]));
            none += 0 * weights[i];  // stays 0, or is not a number
        }
        const bool some = largest > 1e-30f && none == 0;  // so that the factor is finite
        const float factor = some ? 127 / largest : 0;
        units[o] = (some ? largest / 127 : 0) + none;
        for (int i = 0; i < inputs; i++) out[i] = (int8_t)(some ? std::nearbyint(weights[i] * factor) : 0);
    }
}

void require_finite(float v, const char* what) {
    if (!std::isfinite(v)) throw Error(LMBQ_INVALID, std::string(what) + " must be finite");
}

}  // namespace

bool takes_int8(const lmbq_stage_desc& d, int in_channels) {
    return d.kind == LMBQ_STAGE_CONV && d.kernel == 1 && d.groups == 1 && in_channels <= kInt8Inputs;
}

size_t Network::floats_per_pixel() const {
    size_t sum = 0;
    for (const size_t floats : buffers) sum += floats;
    return sum;
}

RealStage::RealStage(const Isa& isa, const lmbq_stage_desc& d, int in_channels) {
    const bool alone = d.kind == LMBQ_STAGE_ACT;
    plan.in_channels = in_channels;
    plan.out_channels = d.kind == LMBQ_STAGE_CONV ? d.out_channels : in_channels;
    require(in(plan.out_channels, 1, kStageChannels), "out_channels must be in 1..4096");
    plan.out_pad = (plan.out_channels + 63) / 64 * 64;
    plan.depthwise = d.kind == LMBQ_STAGE_DEPTHWISE;
    plan.groups = d.kind == LMBQ_STAGE_CONV ? d.groups : 1;
    require(plan.groups >= 1 && in_channels % plan.groups == 0 && plan.out_channels % plan.groups == 0,
            "groups must divide the inputs and out_channels");
    plan.kernel = alone ? 1 : d.kernel;
    require(in(plan.kernel, 1, kStageKernel) && plan.kernel % 2 == 1, "kernel must be odd, in 1..15");
    plan.act = kernel_act(d.act);
    plan.skip = !alone && d.skip;
    require(!plan.skip || plan.in_channels == plan.out_channels, "skip needs as many outputs as inputs");
    const size_t O = (size_t)plan.out_channels, per = plan.depthwise ? 1 : (size_t)(in_channels / plan.groups);
    const size_t count = O * per * (size_t)plan.kernel * (size_t)plan.kernel;
    if (!alone) {
        require(d.weight, "weight must be given");
        require(d.weight_count == count, "weight_count must be outputs * inputs of each * kernel^2");
    }
    check_act(d.act, d.slope, d.slope_count, d.gamma, d.zeta, plan.out_channels);

    const bool int8 = d.int8 != 0;
    require(!int8 || isa.real->int8_pack_weights, "this instruction set does not multiply in 8 bits");
    require(!int8 || takes_int8(d, in_channels), "int8 is for a CONV of kernel 1, groups 1 and at most 1024 inputs");

    std::vector<int8_t> rounded(int8 ? count : 0);
    std::vector<float> units(int8 ? O : 0);
    if (int8) to_int8(d.weight, plan.out_channels, in_channels, rounded.data(), units.data());

    // A group's first vector begins at any output: the last one may read a vector beyond the others.
    const size_t floats = alone || int8 ? 0 : isa.real->weight_floats(plan), pad = (size_t)plan.out_pad + 16;
    float* weights = nullptr;
    uint8_t* int8_weights = nullptr;
    int32_t* corrections = nullptr;
    auto lay_out = [&](char* base) {
        Carver c(base);
        weights = c.take<float>(floats);
        int8_weights = c.take<uint8_t>(int8 ? isa.real->int8_weight_bytes(plan) : 0);
        corrections = c.take<int32_t>(int8 ? pad : 0);
        OutputChannels& to = plan.channels;
        for (float** values : {&to.scale, &to.bias, &to.slope, &to.gamma, &to.zeta}) *values = c.take<float>(pad);
        return c.used();
    };
    bytes = lay_out(nullptr);
    memory_ = aligned_new(bytes);  // last: nothing after it may throw, or it would stay
    std::memset(memory_, 0, bytes);
    lay_out(static_cast<char*>(memory_));
    if (int8) {
        std::copy(units.begin(), units.end(), plan.channels.scale);
        isa.real->int8_pack_weights(plan, rounded.data(), int8_weights, corrections);
    } else if (!alone) {
        isa.real->pack_weights(plan, d.weight, weights);
    }
    if (!alone && d.bias) std::copy(d.bias, d.bias + O, plan.channels.bias);
    fill_act(plan.channels, d.act, d.slope, d.slope_count, d.gamma, d.zeta, plan.out_channels);
    plan.weights = weights;
    plan.int8_weights = int8 ? int8_weights : nullptr;
    plan.corrections = corrections;
}

RealStage::~RealStage() { aligned_delete(memory_); }

NetworkBuilder::NetworkBuilder(int channels, int isa) : isa_(select_isa(isa)), network_(new Network) {
    require(in(channels, 1, kStageChannels), "channels must be in 1..4096");
    network_->isa = find_isa(isa_);
    network_->channels = channels;
    values_.push_back({channels, 1});
}

void NetworkBuilder::add(const lmbq_stage_desc& d) {
    try {
        require(d.struct_size == sizeof(lmbq_stage_desc), "struct_size is not that of this library's lmbq_stage_desc");
        add_checked(d);
    } catch (const Error& e) {
        throw Error(e.status, "stage " + std::to_string(network_->stages.size() + 1) + ": " + e.what());
    }
}

void NetworkBuilder::add_checked(const lmbq_stage_desc& d) {
    std::vector<Stage>& stages = network_->stages;
    require(stages.size() < (size_t)kStages, "a network has at most 2^14 stages");
    const Value from = values_.back();
    const int before = stages.empty() ? 0 : stages.back().kind;
    require(before != LMBQ_STAGE_ADD_UPSCALED && (before != LMBQ_STAGE_SHUFFLE || d.kind == LMBQ_STAGE_ADD_UPSCALED),
            "nothing but ADD_UPSCALED follows a SHUFFLE, and nothing an ADD_UPSCALED");
    Value to = from;
    Stage s{};
    s.kind = d.kind;
    s.in_channels = from.channels;
    const int factor = from.factor;
    switch (d.kind) {
        case LMBQ_STAGE_RANGE:
            require_finite(d.offset, "offset");
            require_finite(d.gain, "gain");
            s.offset = d.offset, s.gain = d.gain;
            break;
        case LMBQ_STAGE_CONV:
        case LMBQ_STAGE_DEPTHWISE:
        case LMBQ_STAGE_ACT:
            s.real = std::make_unique<RealStage>(*network_->isa, d, from.channels);
            to.channels = s.real->plan.out_channels;
            break;
        case LMBQ_STAGE_BINARY: {
            require(!stages.empty(), "a binary layer reads no image: another stage must come before it");
            require(d.layer && d.layer->struct_size == sizeof(lmbq_layer_desc), "layer must be given, with its struct_size");
            lmbq_layer_desc layer = *d.layer;
            layer.isa = isa_;
            s.layer = std::make_unique<Layer>(layer);
            const ConvPlan& p = s.layer->plan;
            require(p.in_channels == from.channels, "the layer's inputs must be those of the value before it");
            require(p.sh == 1 && p.sw == 1 && s.layer->pad_top + layer.pad_bottom == (p.kh - 1) * p.dh &&
                        s.layer->pad_left + layer.pad_right == (p.kw - 1) * p.dw,
                    "the layer must keep height and width");
            s.layer_skip = d.layer_skip;
            require(!s.layer_skip || p.in_channels == p.out_channels, "layer_skip needs as many outputs as inputs");
            to.channels = p.out_channels;
            break;
        }
        case LMBQ_STAGE_ADD:
            require(in(d.other, 0, (int)values_.size() - 1), "other must be the number of an earlier value");
            require(values_[(size_t)d.other].channels == from.channels && values_[(size_t)d.other].factor == factor,
                    "other must have the shape of the value before the stage");
            require_finite(d.alpha, "alpha");
            s.other = d.other, s.alpha = d.alpha;
            break;
        case LMBQ_STAGE_SHUFFLE:
            require(in(d.upscale, 2, 4), "upscale must be 2, 3 or 4");
            require(from.channels % (d.upscale * d.upscale) == 0, "the channels must be a multiple of upscale^2");
            require(factor == 1, "the values must have the image's size");
            s.upscale = d.upscale;
            to = {from.channels / (d.upscale * d.upscale), factor * d.upscale};
            break;
        case LMBQ_STAGE_ADD_UPSCALED:
            require(before == LMBQ_STAGE_SHUFFLE && d.upscale == stages.back().upscale,
                    "it must follow a SHUFFLE of the same upscale");
            require(from.channels == network_->channels, "the values must have the image's channels");
            require(in(d.mode, LMBQ_BILINEAR, LMBQ_BICUBIC), "mode is unknown");
            require_finite(d.alpha, "alpha");
            s.upscale = d.upscale, s.mode = d.mode, s.alpha = d.alpha;
            break;
        case LMBQ_STAGE_UPSCALE:
            require(stages.empty(), "it must be the first stage");
            require(in(d.upscale, 2, 4), "upscale must be 2, 3 or 4");
            require(in(d.mode, LMBQ_BILINEAR, LMBQ_BICUBIC), "mode is unknown");
            s.upscale = d.upscale, s.mode = d.mode;
            to.factor = d.upscale;
            break;
        default: throw Error(LMBQ_INVALID, "kind is unknown");
    }
    s.out_channels = to.channels;

    const double pixels = (double)factor * factor, I = from.channels, O = to.channels;
    if (s.real && d.kind != LMBQ_STAGE_ACT) {
        const int k = s.real->plan.kernel;
        network_->work += pixels * k * k * O * (s.real->plan.depthwise ? 1 : I / s.real->plan.groups);
        reach_ += (double)(k / 2) / factor;
    } else if (s.layer) {
        const ConvPlan& p = s.layer->plan;
        network_->work += pixels * p.kh * p.kw * I * O / p.groups / 16;
        const Layer& l = *s.layer;
        const int far = std::max({l.pad_top, l.pad_left, (p.kh - 1) * p.dh - l.pad_top, (p.kw - 1) * p.dw - l.pad_left});
        reach_ += (double)(far + l.threshold.window / 2) / factor;
        network_->sees_all |= l.threshold.kind == TH_GLOBAL;
        network_->window_bytes = std::max(network_->window_bytes, l.row_bytes(1) * (size_t)l.rows_read());
    } else if (s.kind == LMBQ_STAGE_UPSCALE || s.kind == LMBQ_STAGE_ADD_UPSCALED) {
        reach_ += s.mode == LMBQ_BICUBIC ? 2 : 1;
    }
    network_->work += pixels * O;
    network_->bytes += (s.real ? s.real->bytes : 0) + (s.layer ? s.layer->bytes : 0);
    stages.push_back(std::move(s));
    values_.push_back(to);
}

std::unique_ptr<Network> NetworkBuilder::finish() {
    require(!network_->stages.empty(), "a network needs a stage");
    plan();
    network_->out_channels = values_.back().channels;
    network_->upscale = values_.back().factor;
    network_->reach = (int)std::ceil(reach_);
    for (const auto& value : values_) network_->widest = std::max(network_->widest, (double)value.channels * value.factor);
    return std::move(network_);
}

namespace {

// Which memory holds which value, group by group.
class Buffers {
public:
    explicit Buffers(std::vector<size_t>& floats) : floats_(floats) {}
    int take(size_t floats) {
        for (size_t i = 0; i < free_.size(); i++)
            if (floats_[(size_t)free_[i]] == floats) return taken(i);
        if (!free_.empty()) {
            const int b = taken(free_.size() - 1);
            floats_[(size_t)b] = std::max(floats_[(size_t)b], floats);
            return b;
        }
        floats_.push_back(floats);
        return (int)floats_.size() - 1;
    }
    void give_back(int buffer) { free_.push_back(buffer); }

private:
    int taken(size_t i) {
        const int b = free_[i];
        free_.erase(free_.begin() + (std::ptrdiff_t)i);
        return b;
    }
    std::vector<size_t>& floats_;
    std::vector<int> free_;
};

}  // namespace

// Which stage reads each value last, and which values outlive their group's rows. Value i is stage i's result, from 1.
struct NetworkBuilder::Uses {
    std::vector<int> last;
    std::vector<bool> kept;
};

// Values of a group of stages: [first, until).
struct NetworkBuilder::Span {
    int first, until;
};

NetworkBuilder::Uses NetworkBuilder::uses() {
    const int count = (int)network_->stages.size();
    Uses u{std::vector<int>((size_t)count + 1, 0), std::vector<bool>((size_t)count + 1, false)};
    for (int i = 1; i <= count; i++) {
        u.last[(size_t)i - 1] = std::max(u.last[(size_t)i - 1], i);
        const Stage& s = stage(i);
        if (s.kind == LMBQ_STAGE_ADD) u.last[(size_t)s.other] = i, u.kept[(size_t)s.other] = true;
    }
    return u;
}

// A group begins with each stage that sweeps; a convolution takes the RANGE before it upon itself.
std::vector<NetworkBuilder::Span> NetworkBuilder::spans(const Uses& uses) {
    const int count = (int)network_->stages.size();
    std::vector<Span> spans;
    for (int i = 1; i <= count; i++) {
        const bool after_upscale = i > 1 && stage(i - 1).kind == LMBQ_STAGE_UPSCALE;
        const bool range = stage(i).kind == LMBQ_STAGE_RANGE && i < count && stage(i + 1).kind == LMBQ_STAGE_CONV &&
                           sweeps(stage(i + 1)) && uses.last[(size_t)i] == i + 1 && !uses.kept[(size_t)i];
        if (range) {
            Stage& conv = stage(i + 1);
            conv.has_range = true, conv.offset = stage(i).offset, conv.gain = stage(i).gain;
        }
        if (spans.empty() || sweeps(stage(i)) || range || after_upscale) {
            if (!spans.empty()) spans.back().until = i;
            spans.push_back({i, i + 1});
            if (range) i++;  // the convolution belongs to it
        }
        spans.back().until = i + 1;
    }
    if (stage(count).kind == LMBQ_STAGE_UPSCALE) spans.push_back({count + 1, count + 1});
    return spans;
}

void NetworkBuilder::plan() {
    Network& n = *network_;
    Uses uses = this->uses();
    const std::vector<Span> spans = this->spans(uses);
    for (size_t g = 0; g + 1 < spans.size(); g++) uses.kept[(size_t)spans[g].until - 1] = true;

    std::vector<int> buffer(uses.last.size(), -1);
    Buffers buffers(n.buffers);
    auto floats_of = [&](int v) {
        return (size_t)values_[(size_t)v].channels * (size_t)values_[(size_t)v].factor * (size_t)values_[(size_t)v].factor;
    };
    auto place_of = [&](int v) { return v == 0 ? Place{Place::IMAGE} : Place{Place::BUFFER, buffer[(size_t)v]}; };
    for (size_t index = 0; index < spans.size(); index++) {
        const Span span = spans[index];
        Group g;
        const int source = span.first - 1, final = span.until - 1;
        g.is_output = index + 1 == spans.size();
        g.source = place_of(source);
        int i = span.first, end = span.until;
        if (i + 1 < end && stage(i).kind == LMBQ_STAGE_RANGE && stage(i + 1).has_range) i++;
        while (end > i && ends(stage(end - 1).kind)) {
            (stage(end - 1).kind == LMBQ_STAGE_SHUFFLE ? g.shuffle : g.add_upscaled) = end - 2;
            end--;
        }
        g.in_channels = values_[(size_t)source].channels;
        g.factor = values_[(size_t)source].factor;

        const bool has_sweep = i < end && sweeps(stage(i)), writes_last = uses.kept[(size_t)final] && !g.is_output;
        g.in_place = has_sweep && writes_last && source > 0 && uses.last[(size_t)source] <= final &&
                     values_[(size_t)source].channels == values_[(size_t)final].channels &&
                     values_[(size_t)source].factor == values_[(size_t)final].factor;
        for (int v = span.first; v <= final; v++)
            if (uses.kept[(size_t)v])
                buffer[(size_t)v] = v == final && g.in_place ? buffer[(size_t)source] : buffers.take(floats_of(v));

        // Rows go on in pieces. The first value and the last one wait for the rest of their row, so each has a row of its
        // own; those between live for one piece.
        Place at = g.source;
        int piece = 0;
        auto first_place = [&](int v) {
            g.scratch_channels = values_[(size_t)v].channels;
            return v > 0 && uses.kept[(size_t)v] ? place_of(v) : Place{Place::ROW, 0};
        };
        auto next_place = [&](int v, bool over) {
            const bool last = v == end - 1;
            g.scratch_channels = std::max(g.scratch_channels, values_[(size_t)v].channels);
            if (uses.kept[(size_t)v]) return place_of(v);
            if (over && (at.kind == Place::ROW || (at.kind == Place::PIECE && !last))) return at;
            return last ? Place{Place::ROW, 1} : Place{Place::PIECE, piece = 1 - piece};
        };
        if (has_sweep) {
            g.sweep = i - 1;
            at = first_place(i++);
        } else if (at.kind == Place::IMAGE) {
            at = first_place(0);
        }
        g.first = at;
        for (; i < end; i++) {
            const Place to = next_place(i, elementwise(stage(i)));
            g.rows.push_back({i - 1, to, place_of(stage(i).other)});
            at = to;
        }
        g.last = at;
        g.out_channels = values_[(size_t)end - 1].channels;
        n.groups.push_back(std::move(g));
        for (int v = source; v <= final; v++)
            if (v > 0 && buffer[(size_t)v] >= 0 && uses.last[(size_t)v] <= final && !(v == source && n.groups.back().in_place))
                buffers.give_back(buffer[(size_t)v]);
        for (int v = 1; v < source; v++)  // read for the last time by an ADD of this group
            if (buffer[(size_t)v] >= 0 && uses.last[(size_t)v] > source && uses.last[(size_t)v] <= final)
                buffers.give_back(buffer[(size_t)v]);
    }
}

}  // namespace lmbq
