// The text of a module: its kernels, functions, tables and buffers in shared memory.
#include "text.h"

#include <algorithm>
#include <cctype>
#include <regex>
#include <stdexcept>

namespace ptx {

void refuse(const string& what) { throw std::runtime_error(what); }

string trim(const string& s) {
  const size_t first = s.find_first_not_of(" \t\r\n");
  return first == string::npos ? "" : s.substr(first, s.find_last_not_of(" \t\r\n") - first + 1);
}
Parts split(const string& s, char separator) {
  Parts parts;
  string part;
  int depth = 0;
  for (const char c : s) {
    depth += c == '{' || c == '[' || c == '(' ? 1 : c == '}' || c == ']' || c == ')' ? -1 : 0;
    if (c == separator && depth == 0) {
      parts.push_back(trim(part));
      part.clear();
    } else {
      part += c;
    }
  }
  part = trim(part);
  if (!part.empty() || !parts.empty()) parts.push_back(part);
  return parts;
}
Parts words_of(const string& s) {
  Parts words;
  string word;
  for (const char c : s + " ") {
    if (!isspace(static_cast<u8>(c))) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
  }
  return words;
}
string inside(const string& s) { return s.substr(1, s.size() - 2); }
Parts elements(const string& operand) {
  return operand[0] == '{' ? split(inside(operand), ',') : Parts{operand};
}
bool has(const Parts& parts, const char* word) { return std::find(parts.begin(), parts.end(), word) != parts.end(); }
bool is_number(const string& s) {
  const size_t at = s[0] == '-' || s[0] == '+' ? 1 : 0;
  return s.size() > at && isdigit(static_cast<u8>(s[at]));
}
u64 number(string s) {
  if (s.size() > 2 && s[0] == '0' && strchr("fFdD", s[1]) && s.size() == (tolower(s[1]) == 'f' ? 10u : 18u)) {
    return std::stoull(s.substr(2), nullptr, 16);
  }
  if (s.back() == 'U') s.pop_back();
  return s[0] == '-' ? static_cast<u64>(std::stoll(s, nullptr, 0)) : std::stoull(s, nullptr, 0);
}
size_t end_of_braces(const string& s, size_t at) {
  int depth = 0;
  bool quoted = false;
  for (; at < s.size(); at++) {
    quoted ^= s[at] == '"';
    if (quoted) continue;
    depth += s[at] == '{' ? 1 : s[at] == '}' ? -1 : 0;
    if (s[at] == '}' && depth == 0) return at;
  }
  refuse("braces that do not end");
}

Declared declaration(const string& text) {
  Declared d{"", 4, 0};
  const Parts words = words_of(text);
  for (size_t i = 0; i < words.size(); i++) {
    const string& w = words[i];
    if (w == ".align") {
      d.align = static_cast<u32>(std::stoul(words[++i]));
    } else if (w[0] != '.') {
      d.name += w;
    } else if (w.size() < 6 && w != ".ptr") {
      d.bytes = type_bytes(w.substr(1));
    }
  }
  if (d.align == 0) d.align = d.bytes;
  const size_t bracket = d.name.find('[');
  if (bracket != string::npos) {
    const string count = d.name.substr(bracket + 1, d.name.find(']') - bracket - 1);
    d.bytes = count.empty() ? 0 : d.bytes * static_cast<u32>(std::stoul(count));
    d.name.resize(bracket);
  }
  return d;
}

u32 type_bytes(const string& type) {
  const size_t digits = type.find_first_of("0123456789");
  if (digits == string::npos) return 4;
  const u32 bits = static_cast<u32>(std::stoul(type.substr(digits)));
  return type.find("x2") != string::npos ? bits / 4 : bits / 8;
}

namespace {

// TKF_PTX_BREAK="kernel;from;to;n": in the first kernel whose name holds `kernel`, the n-th match of the regular
// expression `from` becomes `to`.
void break_text(string& text) {
  const char* const asked = getenv("TKF_PTX_BREAK");
  if (asked == nullptr || *asked == 0) return;
  const Parts parts = split(asked, ';');
  if (parts.size() != 4) refuse("TKF_PTX_BREAK, expected kernel;from;to;n");
  for (size_t entry = 0; (entry = text.find(".entry ", entry)) != string::npos; entry++) {
    if (text.substr(entry, text.find('(', entry) - entry).find(parts[0]) == string::npos) continue;
    const size_t begin = text.find('{', entry), end = end_of_braces(text, begin);
    const string body = text.substr(begin, end - begin);
    const std::regex from(parts[1]);
    std::sregex_iterator found(body.begin(), body.end(), from), none;
    for (int left = std::stoi(parts[3]); found != none && left > 0; left--) ++found;
    if (found == none) continue;
    const size_t at = begin + static_cast<size_t>(found->position());
    text.replace(at, static_cast<size_t>(found->length()), found->format(parts[2]));
    fprintf(stderr, "ptx: broken: %s\n", trim(text.substr(text.rfind('\n', at), 120)).c_str());
    return;
  }
}

}  // namespace

Module* load_module(const char* text, size_t length) {
  Module* const m = new Module;
  string& s = m->text;
  s.assign(text, length);
  bool quoted = false;
  for (size_t at = 0; at + 1 < s.size(); at++) {  // without comments
    quoted ^= s[at] == '"';
    if (quoted || s[at] != '/' || s[at + 1] != '/') continue;
    std::fill(s.begin() + static_cast<i64>(at), s.begin() + static_cast<i64>(std::min(s.find('\n', at), s.size())), ' ');
  }
  break_text(s);
  for (size_t i = 0; (i = s.find_first_not_of(" \t\r\n", i)) != string::npos;) {
    const size_t word_end = s.find_first_of(" \t\r\n", i), line_end = std::min(s.find('\n', i), s.size());
    const string word = s.substr(i, word_end - i);
    if (word == ".version" || word == ".target" || word == ".address_size" || word == ".file" || word == ".pragma") {
      const string line = s.substr(i, line_end - i);
      if (word == ".target") m->target = words_of(line)[1].substr(0, words_of(line)[1].find(','));
      if (word == ".file") {
        const size_t open = line.find('"');
        m->files[atoi(line.c_str() + 5)] = line.substr(open + 1, line.rfind('"') - open - 1);
      }
      i = line_end;
      continue;
    }
    const size_t stop = s.find_first_of(";{", i);
    if (stop == string::npos) break;
    if (word == ".section") {
      i = end_of_braces(s, stop) + 1;
      continue;
    }
    const string head = s.substr(i, stop - i);
    const Parts words = words_of(head);
    const bool entry = has(words, ".entry"), function = has(words, ".func");
    const size_t close = s[stop] == '{' ? end_of_braces(s, stop) : stop;
    const auto names = [](const string& list) {
      Parts out;
      for (const string& each : split(list, ',')) {
        if (!each.empty()) out.push_back(declaration(each).name);
      }
      return out;
    };
    if (entry) {
      const size_t at = head.find(".entry") + 6, paren = head.find('('), end = head.find(')');
      const string name = trim(head.substr(at, paren - at));
      Kernel& k = m->kernels[name];
      k.name = name;
      k.module = m;
      k.begin = stop + 1;
      k.end = close;
      for (const string& each : split(head.substr(paren + 1, end - paren - 1), ',')) {
        if (each.empty()) continue;
        const Declared d = declaration(each);
        const u32 offset = (k.param_bytes + d.align - 1) / d.align * d.align;
        k.params.push_back({d.name, offset, d.bytes});
        k.param_bytes = offset + d.bytes;
      }
      const size_t most = head.find(".maxntid");
      u32 x, y = 1, z = 1;
      if (most != string::npos && sscanf(head.c_str() + most, ".maxntid %u, %u, %u", &x, &y, &z) >= 1) k.max_threads = x * y * z;
    } else if (function && s[stop] == '{') {
      const size_t at = head.find(".func") + 5, first = head.find('('), first_end = head.find(')');
      const bool returns = trim(head.substr(at, first - at)).empty();  // (results) name (arguments)
      const size_t named = returns ? first_end + 1 : at;
      const size_t list = head.find('(', named);
      Function f;
      if (returns) f.outs = names(head.substr(first + 1, first_end - first - 1));
      if (list != string::npos) f.ins = names(head.substr(list + 1, head.find(')', list) - list - 1));
      f.begin = stop + 1;
      f.end = close;
      m->functions[trim(head.substr(named, list - named))] = f;
    } else if (has(words, ".shared")) {
      const Declared d = declaration(head);
      if (d.bytes == 0) {
        m->dynamic[d.name] = d.align;
      } else {
        m->shared[d.name] = {d.bytes, d.align};
      }
    } else if (has(words, ".global") || has(words, ".const")) {
      const Declared d = declaration(head.substr(0, head.find('=')));
      const u64 at = allocate(std::max(d.bytes, 4u));
      Buffer* const buffer = find_buffer(at);
      memset(reinterpret_cast<void*>(at), 0, d.bytes);
      for (u64 j = 0; j < buffer->size; j++) buffer->tags[j] = kWritten;
      if (head.find('=') != string::npos) {  // = {1, 2, …} or = 1
        const string values = s[stop] == '{' ? s.substr(stop + 1, close - stop - 1) : trim(head.substr(head.find('=') + 1));
        const size_t bracket = head.find('['), type = head.rfind('.', bracket);
        const u32 bytes = type_bytes(head.substr(type + 1, head.find_first_of(" \t", type) - type - 1));
        u64 to = at;
        for (const string& each : split(values, ',')) {
          if (to + bytes > at + d.bytes || !is_number(each)) refuse("a table that is not known: " + d.name);
          const u64 bits = number(each);
          memcpy(reinterpret_cast<void*>(to), &bits, bytes);
          to += bytes;
        }
      }
      m->globals[d.name] = at;
    }
    i = close + 1;
  }
  return m;
}

}  // namespace ptx
