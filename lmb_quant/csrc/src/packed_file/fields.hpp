// SPDX-License-Identifier: Apache-2.0
// Reading JSON objects of strangers: known keys of known kinds, and errors that say where, what and what is allowed.
#pragma once
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "packed_file/json.hpp"

namespace lmbq {

// Of a value that must be an object.
std::vector<std::pair<std::string, Json::Value>> members_of(const Json::Value& value, const std::string& place);

class Fields {
public:
    // Refuses every key that is not among those given.
    Fields(const Json::Value& object, std::string place, std::initializer_list<const char*> keys);

    const std::string& place() const { return place_; }
    const Json::Value* find(const std::string& key) const;  // null where it is not there
    const Json::Value& at(const std::string& key) const;

    // The values; with a default where the key is not there.
    int64_t integer(const std::string& key, int64_t low, int64_t high) const;
    int64_t integer(const std::string& key, int64_t low, int64_t high, int64_t otherwise) const;
    std::vector<int64_t> integers(const std::string& key, int64_t low, int64_t high) const;
    double number(const std::string& key) const;
    bool flag(const std::string& key) const;
    bool flag(const std::string& key, bool otherwise) const;
    std::string word(const std::string& key) const;
    int one_of(const std::string& key, const std::vector<const char*>& words) const;  // the number of the word
    int one_of(const std::string& key, const std::vector<const char*>& words, int otherwise) const;

    [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

private:
    std::string place_;
    std::map<std::string, Json::Value> values_;
};

}  // namespace lmbq
