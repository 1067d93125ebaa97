// SPDX-License-Identifier: Apache-2.0
// Where the time of a call goes, by stage and part. Of one thread.
#pragma once
#include <algorithm>
#include <chrono>
#include <vector>

#include "lmb_quant.h"

namespace lmbq {

class PartClock {
public:
    explicit PartClock(size_t stages, bool sums = true) : with_sums(sums), laps_(stages * LMBQ_PART_COUNT) {
        const Clock::time_point start = now();
        for (int i = 1; i < kTries; i++) last_ = now();
        cost_ = std::chrono::duration<double, std::nano>(now() - start).count() / kTries;
    }
    void restart() {  // before each run but the first
        for (Laps& l : laps_) l.next = 0;
    }
    void start() { last_ = now(); }
    // What passed since start() or the lap before.
    void lap(int stage, lmbq_part part) {
        const Clock::time_point at = now();
        const double passed = std::chrono::duration<double, std::nano>(at - last_).count();
        last_ = at;
        Laps& l = laps_[(size_t)stage * LMBQ_PART_COUNT + part];
        if (l.next == l.least.size()) l.least.push_back(passed);
        else l.least[l.next] = std::min(l.least[l.next], passed);
        l.next++;
    }
    // Of all laps, each the least of its runs: a lap is a row or less, so that what interrupts a run is not in it.
    double nanoseconds(size_t stage, lmbq_part part) const {
        double sum = 0;
        for (double lap : laps_[stage * LMBQ_PART_COUNT + part].least) sum += std::max(0.0, lap - cost_);
        return sum;
    }

    const bool with_sums;  // or binary layers leave out their sums, to a wrong result

private:
    using Clock = std::chrono::steady_clock;
#if defined(LMBQ_WASM)  // a page gives the engine no clock, and calls nothing that reads one
    static Clock::time_point now() { return {}; }
#else
    static Clock::time_point now() { return Clock::now(); }
#endif
    struct Laps {
        std::vector<double> least;
        size_t next = 0;
    };
    static constexpr int kTries = 1000;
    Clock::time_point last_;
    double cost_;  // of a lap
    std::vector<Laps> laps_;
};

// By a chain of additions, each of which waits for the one before: one a cycle.
double cycles_per_nanosecond();

}  // namespace lmbq
