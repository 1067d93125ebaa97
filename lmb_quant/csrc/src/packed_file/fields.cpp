// SPDX-License-Identifier: Apache-2.0
#include "packed_file/fields.hpp"

#include <algorithm>

namespace lmbq {
namespace {

std::string joined(const std::vector<const char*>& words) {
    std::string out;
    for (const char* word : words) out += (out.empty() ? "" : ", ") + std::string(word);
    return out;
}

}  // namespace

std::vector<std::pair<std::string, Json::Value>> members_of(const Json::Value& value, const std::string& place) {
    if (value.kind() != Json::OBJECT)
        throw Error(LMBQ_BAD_FILE, place + ": " + quoted(value.text()) + " is not allowed. Allowed: an object");
    return value.members();
}

Fields::Fields(const Json::Value& object, std::string place, std::initializer_list<const char*> keys)
    : place_(std::move(place)) {
    for (auto& [key, value] : members_of(object, place_)) {
        if (std::none_of(keys.begin(), keys.end(), [&key = key](const char* known) { return key == known; }))
            throw Error(LMBQ_BAD_FILE, place_ + ": unknown key " + quoted(key) + ". Allowed: " + joined(keys));
        values_.emplace(key, value);
    }
}

const Json::Value* Fields::find(const std::string& key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? nullptr : &found->second;
}

const Json::Value& Fields::at(const std::string& key) const {
    const Json::Value* found = find(key);
    if (!found) throw Error(LMBQ_BAD_FILE, place_ + ": the key " + quoted(key) + " is missing");
    return *found;
}

void Fields::refuse(const std::string& key, const std::string& why) const {
    const Json::Value* found = find(key);
    throw Error(LMBQ_BAD_FILE,
                place_ + ": " + key + ": " + (found ? quoted(found->text()) + " is not allowed. " : "") + why);
}

int64_t Fields::integer(const std::string& key, int64_t low, int64_t high) const {
    int64_t value;
    if (!at(key).integer(&value) || value < low || value > high)
        refuse(key, "Allowed: whole, " + std::to_string(low) + " to " + std::to_string(high));
    return value;
}

int64_t Fields::integer(const std::string& key, int64_t low, int64_t high, int64_t otherwise) const {
    return find(key) ? integer(key, low, high) : otherwise;
}

std::vector<int64_t> Fields::integers(const std::string& key, int64_t low, int64_t high) const {
    std::vector<int64_t> values;
    bool right = at(key).kind() == Json::ARRAY;
    if (right)
        for (const Json::Value& item : at(key).items()) {
            int64_t value = 0;
            right = right && item.integer(&value) && value >= low && value <= high;
            values.push_back(value);
        }
    if (!right) refuse(key, "Allowed: a list of whole numbers, " + std::to_string(low) + " to " + std::to_string(high));
    return values;
}

double Fields::number(const std::string& key) const {
    if (at(key).kind() != Json::NUMBER) refuse(key, "Allowed: a number");
    return at(key).number();
}

bool Fields::flag(const std::string& key) const {
    const Json::Kind kind = at(key).kind();
    if (kind != Json::TRUE && kind != Json::FALSE) refuse(key, "Allowed: true or false");
    return kind == Json::TRUE;
}

bool Fields::flag(const std::string& key, bool otherwise) const { return find(key) ? flag(key) : otherwise; }

std::string Fields::word(const std::string& key) const {
    if (at(key).kind() != Json::STRING) refuse(key, "Allowed: a word");
    return at(key).string();
}

int Fields::one_of(const std::string& key, const std::vector<const char*>& words) const {
    const std::string found = word(key);
    for (size_t i = 0; i < words.size(); i++)
        if (found == words[i]) return (int)i;
    refuse(key, "Allowed: " + joined(words));
}

int Fields::one_of(const std::string& key, const std::vector<const char*>& words, int otherwise) const {
    return find(key) ? one_of(key, words) : otherwise;
}

}  // namespace lmbq
