// SPDX-License-Identifier: Apache-2.0
// Activation functions by their names in a packed file.
#pragma once
#include "packed_file/fields.hpp"

namespace lmbq {

struct NamedAct {
    int code;          // lmbq_act
    std::string name;  // that of the engine, in small letters
    bool needs_slope, needs_shifts;

    bool slopes_fit(int64_t slopes, int64_t outputs) const;
};

// The function whose name is the value of a key; none where the key is not there and `otherwise_none`. Throws Error.
const NamedAct& named_act(const Fields& fields, const std::string& key, bool otherwise_none = false);

}  // namespace lmbq
