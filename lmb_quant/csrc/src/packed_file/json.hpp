// SPDX-License-Identifier: Apache-2.0
// A JSON text (RFC 8259) of strangers: checked in whole first, then read value by value. Memory: 20 bytes a value.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lmbq {

class Sha256;

class Json {
public:
    enum Kind : uint8_t { NOTHING, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT };

private:
    struct Node {
        uint32_t begin, end;  // in the text
        uint32_t next;        // the node after this one and all in it
        uint32_t count : 24;  // items, or members
        Kind kind;
    };

public:
    class Value {
    public:
        Kind kind() const { return node().kind; }
        std::string_view text() const;    // as it is written; of strings without the quotes, escapes as they are
        std::string string() const;       // of a STRING, in UTF-8
        bool integer(int64_t* to) const;  // false if it is no whole number written as one, or beyond 64 bits
        double number() const;            // of a NUMBER; always finite
        size_t size() const { return node().count; }                 // of an ARRAY or OBJECT
        std::vector<Value> items() const;                            // of an ARRAY
        std::vector<std::pair<std::string, Value>> members() const;  // of an OBJECT, in order of their keys

        // The text that Python's json.dumps(..., sort_keys=True) makes of it, numbers as they are written; of an object
        // without the key `but_for`.
        void dump(Sha256& to, std::string_view but_for = {}) const;

    private:
        friend class Json;
        Value(const Json* json, uint32_t at) : json_(json), at_(at) {}
        const Node& node() const { return json_->nodes_[at_]; }
        Value after() const;
        const Json* json_;
        uint32_t at_;
    };

    // `what` names the text in errors. The text must outlive the object. Throws Error.
    Json(std::string_view text, const char* what);
    Value root() const { return Value(this, 0); }

    static constexpr size_t kMaxText = 16 << 20, kMaxValues = 1 << 20;
    static constexpr int kMaxDepth = 64;

private:
    class Parser;
    std::string_view text_;
    std::vector<Node> nodes_;  // a value, then those in it; keys are values too
};

// Text as Python's json.dumps writes it: in ASCII, with escapes.
void dump_string(Sha256& to, std::string_view text);

// What a stranger wrote, for a message: in quotes, short, and with nothing that a terminal would act on.
std::string quoted(std::string_view text);

}  // namespace lmbq
