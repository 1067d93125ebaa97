// SPDX-License-Identifier: Apache-2.0
#include "dispatch.hpp"

#include <cstdlib>
#include <cstring>

#include "error.hpp"

namespace lmbq {
namespace {

constexpr const char* kNames[] = {"auto", "portable", "avx2", "avx512", "neon"};

#if defined(LMBQ_X86)
bool has_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
bool has_avx512() {
#if defined(LMBQ_EMULATE_AVX512)
    return true;
#else
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vpopcntdq");
#endif
}
#endif

}  // namespace

const char* isa_name(int id) { return id >= LMBQ_ISA_AUTO && id <= LMBQ_ISA_NEON ? kNames[id] : nullptr; }

const Isa* find_isa(int id) {
    switch (id) {
        case LMBQ_ISA_PORTABLE: return &isa_portable;
#if defined(LMBQ_X86)
        case LMBQ_ISA_AVX2: return has_avx2() ? &isa_avx2 : nullptr;
        case LMBQ_ISA_AVX512: return has_avx512() ? &isa_avx512 : nullptr;
#endif
#if defined(LMBQ_ARM)
        case LMBQ_ISA_NEON: return &isa_neon;
#endif
    }
    return nullptr;
}

int select_isa(int id) {
    if (id == LMBQ_ISA_AUTO) {
        const char* env = std::getenv("LMB_QUANT_ISA");
        if (env && *env && std::strcmp(env, "auto") != 0) {
            for (id = LMBQ_ISA_PORTABLE; isa_name(id) && std::strcmp(env, isa_name(id)) != 0;) id++;
            if (!isa_name(id))
                throw Error(LMBQ_UNSUPPORTED, std::string("LMB_QUANT_ISA=") + env +
                                                  ": unknown; one of avx512, avx2, neon, portable");
        } else {
#if defined(LMBQ_EMULATE_AVX512)
            for (int i : {LMBQ_ISA_NEON, LMBQ_ISA_AVX2, LMBQ_ISA_PORTABLE})
#else
            for (int i : {LMBQ_ISA_AVX512, LMBQ_ISA_NEON, LMBQ_ISA_AVX2, LMBQ_ISA_PORTABLE})
#endif
                if (find_isa(i)) return i;
        }
    }
    const char* name = isa_name(id);
    if (!name) throw Error(LMBQ_UNSUPPORTED, "unknown instruction set number " + std::to_string(id));
    if (!find_isa(id)) throw Error(LMBQ_UNSUPPORTED, std::string(name) + " is not built in or not on this machine");
    return id;
}

}  // namespace lmbq
