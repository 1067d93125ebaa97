// SPDX-License-Identifier: Apache-2.0
// Counting what holds and what fails, and a layer in every instruction set of this machine against the reference.
#pragma once
#include <memory>

#include "reference.hpp"

namespace lmbq_test {

void expect(bool ok, const std::string& what);
bool failed();                    // whether anything did not hold
int report(const char* program);  // prints the counts; the exit code of main

std::vector<int> isas();  // those that can run here

struct Destroy {
    void operator()(lmbq_layer* layer) const { lmbq_layer_destroy(layer); }
};
using Layer = std::unique_ptr<lmbq_layer, Destroy>;
Layer create(const Case& c, const Data& d, int isa);  // counts a failure and is null if it is refused

size_t different(const float* a, const std::vector<float>& b);  // values whose bits differ; all NaN are alike

void check(const Case& c, const Data& d);  // bits and values, out of place and in every place that is allowed
void check(const Case& c);

}  // namespace lmbq_test
