// SPDX-License-Identifier: Apache-2.0
#include "packed_file/acts.hpp"

#include "kernels.hpp"

namespace lmbq {
namespace {

std::vector<NamedAct> all() {
    std::vector<NamedAct> found;
#define LMBQ_NAMED(NAME, NEEDS) \
    found.push_back({LMBQ_ACT_##NAME, #NAME, ((NEEDS)&ACT_NEEDS_SLOPE) != 0, ((NEEDS)&ACT_NEEDS_SHIFTS) != 0});
    LMBQ_ACTS(LMBQ_NAMED)
#undef LMBQ_NAMED
    for (NamedAct& act : found)
        for (char& c : act.name) c = (char)(c | 0x20);
    return found;
}

}  // namespace

bool NamedAct::slopes_fit(int64_t slopes, int64_t outputs) const {
    return needs_slope ? slopes == outputs || (code == LMBQ_ACT_PRELU && slopes == 1) : slopes == 0;
}

const NamedAct& named_act(const Fields& fields, const std::string& key, bool otherwise_none) {
    static const auto& acts = *new std::vector<NamedAct>(all());  // never destroyed: threads may still be running at exit
    std::vector<const char*> names;
    for (const NamedAct& act : acts) names.push_back(act.name.c_str());
    if (otherwise_none && !fields.find(key)) return acts[0];
    return acts[(size_t)fields.one_of(key, names)];
}

}  // namespace lmbq
