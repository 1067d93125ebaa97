// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdexcept>
#include <string>

#include "lmb_quant_kernels.h"

namespace lmbq {

struct Error : std::runtime_error {
    lmbq_status status;
    Error(lmbq_status s, const std::string& what) : std::runtime_error(what), status(s) {}
};

inline void require(bool ok, const char* what) {
    if (!ok) throw Error(LMBQ_INVALID, what);
}

}  // namespace lmbq
