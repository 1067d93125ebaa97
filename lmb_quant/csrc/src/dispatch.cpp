// SPDX-License-Identifier: Apache-2.0
#include "dispatch.hpp"

#include <cstdlib>
#include <cstring>

#include "error.hpp"
#if defined(LMBQ_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lmbq {
namespace {

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
           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vnni");
#endif
}
#endif
#if defined(LMBQ_AMX)
// Linux gives a process the tiles' state on request.
bool has_amx() {
#if defined(LMBQ_EMULATE_AVX512)
    return true;
#else
    constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    static const bool has = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTile) && (d & kInt8) &&
               syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    }();
    return has;
#endif
}
#endif
bool always() { return true; }

struct Row {
    int id;  // lmbq_isa
    const char* name;
    const Isa* isa;  // null where it is not built in
    bool (*runs_here)();
    bool automatic;  // whether AUTO may choose it
};

#if defined(LMBQ_X86)
#define LMBQ_ON_X86(isa, test) &(isa), test
#else
#define LMBQ_ON_X86(isa, test) nullptr, always
#endif
#if defined(LMBQ_AMX)
#define LMBQ_ON_AMX(isa, test) &(isa), test
#else
#define LMBQ_ON_AMX(isa, test) nullptr, always
#endif
#if defined(LMBQ_ARM)
#define LMBQ_ON_ARM(isa, test) &(isa), test
#else
#define LMBQ_ON_ARM(isa, test) nullptr, always
#endif
#if defined(LMBQ_WASM)
#define LMBQ_ON_WASM(isa, test) &(isa), test
#define LMBQ_ELSEWHERE(isa, test) nullptr, always
#else
#define LMBQ_ON_WASM(isa, test) nullptr, always
#define LMBQ_ELSEWHERE(isa, test) &(isa), test
#endif
#if defined(LMBQ_EMULATE_AVX512)
constexpr bool kAvx512IsReal = false;
#else
constexpr bool kAvx512IsReal = true;
#endif

// Every instruction set, the best first.
const Row kIsas[] = {
    {LMBQ_ISA_AMX, "amx", LMBQ_ON_AMX(isa_amx, has_amx), kAvx512IsReal},
    {LMBQ_ISA_AVX512, "avx512", LMBQ_ON_X86(isa_avx512, has_avx512), kAvx512IsReal},
    {LMBQ_ISA_AVX2, "avx2", LMBQ_ON_X86(isa_avx2, has_avx2), true},
    {LMBQ_ISA_NEON, "neon", LMBQ_ON_ARM(isa_neon, always), true},
    {LMBQ_ISA_WASM, "wasm", LMBQ_ON_WASM(isa_wasm, always), true},
    {LMBQ_ISA_PORTABLE, "portable", LMBQ_ELSEWHERE(isa_portable, always), true},
};

const Row* row_of(int id) {
    for (const Row& row : kIsas)
        if (row.id == id) return &row;
    return nullptr;
}

bool usable(const Row& row) { return row.isa && row.runs_here(); }

// The one that LMB_QUANT_ISA names, or the best of this machine.
const Row& chosen() {
    const char* env = std::getenv("LMB_QUANT_ISA");
    const bool named = env && *env && std::strcmp(env, "auto") != 0;
    std::string names;
    for (const Row& row : kIsas) {
        if (named ? std::strcmp(env, row.name) == 0 : row.automatic && usable(row)) return row;
        names += (names.empty() ? "" : ", ") + std::string(row.name);
    }
    throw Error(LMBQ_UNSUPPORTED, std::string("LMB_QUANT_ISA=") + env + ": unknown; one of " + names);
}

}  // namespace

const char* isa_name(int id) {
    const Row* row = row_of(id);
    return row ? row->name : id == LMBQ_ISA_AUTO ? "auto" : nullptr;
}

const Isa* find_isa(int id) {
    const Row* row = row_of(id);
    return row && usable(*row) ? row->isa : nullptr;
}

int select_isa(int id) {
    const Row* row = id == LMBQ_ISA_AUTO ? &chosen() : row_of(id);
    if (!row) throw Error(LMBQ_UNSUPPORTED, "unknown instruction set number " + std::to_string(id));
    if (!usable(*row)) throw Error(LMBQ_UNSUPPORTED, std::string(row->name) + " is not built in or not on this machine");
    return row->id;
}

}  // namespace lmbq
