// Pieces of PTX text.
#pragma once
#include "ptx.h"

namespace ptx {

using std::string;

[[noreturn]] void refuse(const string& what);
string trim(const string& s);
Parts split(const string& s, char separator);  // at separators that stand outside of brackets
Parts words_of(const string& s);
string inside(const string& s);                // without the brackets around it
Parts elements(const string& operand);         // of {a, b}
bool has(const Parts& parts, const char* word);
bool is_number(const string& s);
u64 number(string s);                          // bits of a literal: 0f3F800000, 0d…, or an integer
size_t end_of_braces(const string& s, size_t at);

struct Declared {
  string name;
  u32 bytes, align;
};
Declared declaration(const string& text);  // ".align 8 .b8 name[32]", ".param .u32 name"

}  // namespace ptx
