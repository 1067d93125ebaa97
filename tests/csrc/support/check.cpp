// SPDX-License-Identifier: Apache-2.0
#include "check.hpp"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace lmbq_test {
namespace {

std::atomic<int> checks{0}, failures{0};

using Floats = std::vector<float>;

void compare(const Case& c, const Data& d, const lmbq_layer* layer, const std::string& name, const float* x,
             const float* skip, float* out) {
    const bool ok = lmbq_layer_run(layer, x, skip, out, c.n, c.h, c.w, c.threads) == LMBQ_OK;
    const size_t bad = ok ? different(out, d.y) : d.y.size();
    expect(bad == 0, name + ": " + std::to_string(bad) + " of " + std::to_string(d.y.size()) + " wrong");
}

}  // namespace

void expect(bool ok, const std::string& what) {
    checks++;
    if (!ok && failures++ < 20) printf("FAILED %s (%s)\n", what.c_str(), lmbq_last_error());
}

bool failed() { return failures.load() != 0; }

int report(const char* program) {
    printf("%s:", program);
    for (int isa : isas()) printf(" %s", lmbq_isa_name(isa));
    printf(", %d checks, %d failed\n", checks.load(), failures.load());
    return failures.load() != 0;
}

std::vector<int> isas() {
    std::vector<int> found;
    for (int isa = LMBQ_ISA_PORTABLE; lmbq_isa_name(isa); isa++)
        if (lmbq_isa_available(isa)) found.push_back(isa);
    return found;
}

Layer create(const Case& c, const Data& d, int isa) {
    lmbq_layer* layer = nullptr;
    const lmbq_layer_desc s = d.describe(c, isa);
    expect(lmbq_layer_create(&s, &layer) == LMBQ_OK, "create " + c.text());
    return Layer(layer);
}

size_t different(const float* a, const std::vector<float>& b) {
    size_t count = 0;
    for (size_t i = 0; i < b.size(); i++)
        count += memcmp(a + i, &b[i], sizeof(float)) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]));
    return count;
}

void check(const Case& c, const Data& d) {
    for (int isa : isas()) {
        const std::string name = std::string(lmbq_isa_name(isa)) + " " + c.text();
        std::vector<uint8_t> bits(d.y_bits.size(), 0xcc);
        const float* t = c.thresholds_given() ? d.thresholds.data() : nullptr;
        const float* gain = c.gain ? d.gain.data() : nullptr;
        expect(lmbq_binarize(isa, c.threshold, c.window, t, gain, d.x.data(), bits.data(), c.n, c.h, c.w, c.I,
                             c.threads) == LMBQ_OK && bits == d.y_bits, "bits " + name);
        const Layer layer = create(c, d, isa);
        if (!layer) continue;

        Floats out(d.y.size(), NAN);
        const float* skip = c.skip ? d.skip.data() : nullptr;
        compare(c, d, layer.get(), "apart " + name, d.x.data(), skip, out.data());
        if (c.skip) {
            out = d.skip;
            compare(c, d, layer.get(), "over skip " + name, d.x.data(), out.data(), out.data());
        }
        if (c.in_place()) {
            Floats x = d.x;
            compare(c, d, layer.get(), "in place " + name, x.data(), c.skip == SKIP_INPUT ? x.data() : skip, x.data());
        }
    }
}

void check(const Case& c) { check(c, make(c)); }

}  // namespace lmbq_test
