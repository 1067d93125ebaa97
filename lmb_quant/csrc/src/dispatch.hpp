// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kernels.hpp"

namespace lmbq {

const char* isa_name(int id);  // lmbq_isa -> name, null if unknown
const Isa* find_isa(int id);   // null if not built or not on this machine
int select_isa(int id);        // AUTO -> LMB_QUANT_ISA or the best one; throws Error

}  // namespace lmbq
