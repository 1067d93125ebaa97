// SPDX-License-Identifier: Apache-2.0
// At the C boundary exceptions become status codes and a message.
#pragma once
#include <exception>
#include <new>

#include "error.hpp"

namespace lmbq {

lmbq_status fail(lmbq_status status, const char* what) noexcept;  // keeps the message for lmbq_last_error()

template <class F>
lmbq_status guarded(F f) noexcept {
    try {
        f();
        return LMBQ_OK;
    } catch (const Error& e) {
        return fail(e.status, e.what());
    } catch (const std::bad_alloc&) {
        return fail(LMBQ_NO_MEMORY, "out of memory");
    } catch (const std::exception& e) {
        return fail(LMBQ_INTERNAL, e.what());
    } catch (...) {
        return fail(LMBQ_INTERNAL, "unknown failure");
    }
}

}  // namespace lmbq
