// PTX text to instructions. A function that is called is put in at the place of the call.
#include "parser.h"

#include <algorithm>
#include <cctype>

namespace ptx {
namespace {

std::vector<string>& op_names() {
  static std::vector<string> names;
  return names;
}
u16 op_number(const string& name) {
  static std::unordered_map<string, u16> numbers;
  const auto [found, fresh] = numbers.emplace(name, static_cast<u16>(op_names().size()));
  if (fresh) op_names().push_back(name);
  return found->second;
}

}  // namespace

Register* Parser::find(const string& name) {
  size_t digits = name.size();
  while (digits > 0 && isdigit(static_cast<u8>(name[digits - 1]))) digits--;
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto known = scope->names.find(name);
    if (known != scope->names.end()) return use(known->second);
    const auto family = scope->families.find(name.substr(0, digits));
    if (digits == name.size() || family == scope->families.end()) continue;
    const auto fresh = std::make_shared<Register>();
    fresh->bytes = family->second;
    scope->names[name] = fresh;
    return use(fresh);
  }
  return nullptr;
}
// A parameter of a call: one that this function passes, or that it was given.
Register* Parser::find_passed(const string& name) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto known = scope->names.find(name);
    if (known != scope->names.end() && known->second->param) return use(known->second);
    const auto given = scope->passed.find(name);
    if (given == scope->passed.end()) continue;
    for (auto outer = scope + 1; outer != scopes_.rend(); ++outer) {
      const auto there = outer->names.find(given->second);
      if (there != outer->names.end()) return use(there->second);
    }
  }
  return nullptr;
}
bool Parser::find_symbol(const string& name, Value& value, u64& number) {
  value = Value::number;
  if (!shared_.count(name) && m_.shared.count(name)) {
    const auto [bytes, align] = m_.shared[name];
    shared_[name] = (k_.static_shared + align - 1) / align * align;
    k_.static_shared = shared_[name] + bytes;
  }
  if (shared_.count(name)) {
    number = kSharedAt + shared_[name];
    return true;
  }
  for (const Param& p : k_.params) {
    if (p.name != name) continue;
    value = Value::param;
    number = p.at;
    return true;
  }
  if (m_.globals.count(name)) {
    number = m_.globals[name];
    return true;
  }
  if (!m_.dynamic.count(name)) return false;
  k_.dynamic_align = std::max(k_.dynamic_align, m_.dynamic[name]);
  value = Value::dynamic_shared;
  number = 0;
  return true;
}
// An operand as a register of this many bytes; a wider one is cut first.
u32 Parser::in(const string& operand, u8 bytes) {
  static const std::unordered_map<string, Value> special = {
      {"%tid.x", Value::tid_x}, {"%tid.y", Value::tid_y}, {"%tid.z", Value::tid_z}, {"%ntid.x", Value::ntid_x},
      {"%ntid.y", Value::ntid_y}, {"%ntid.z", Value::ntid_z}, {"%ctaid.x", Value::ctaid_x},
      {"%ctaid.y", Value::ctaid_y}, {"%ctaid.z", Value::ctaid_z}, {"%nctaid.x", Value::nctaid_x},
      {"%nctaid.y", Value::nctaid_y}, {"%nctaid.z", Value::nctaid_z}, {"%laneid", Value::lane},
      {"%warpid", Value::warp}, {"%nwarpid", Value::warps}, {"%lanemask_lt", Value::mask_lt},
      {"%lanemask_le", Value::mask_le}, {"%lanemask_gt", Value::mask_gt}, {"%lanemask_ge", Value::mask_ge},
      {"%lanemask_eq", Value::mask_eq}};
  if (operand == "_") return kNone;
  if (is_number(operand)) {
    const u64 bits = number(operand);
    return preset(Value::number, bytes, bytes == 8 ? bits : static_cast<u32>(bits));
  }
  const auto known = special.find(operand);
  if (known != special.end()) return preset(known->second, bytes, 0);
  if (const Register* r = find(operand)) {
    if (r->bytes == bytes) return r->at;
    if (r->bytes != 8) bad("a register of " + std::to_string(r->bytes) + " bytes, " + operand);
    Inst cut = start(".cut");
    cut.run = find_other("cut");
    cut.a = r->at;
    cut.d = slot(4);
    k_.code.push_back(cut);
    return cut.d;
  }
  const size_t plus = operand.find('+');
  Value value;
  u64 at;
  if (!find_symbol(trim(operand.substr(0, plus)), value, at)) bad("an unknown operand " + operand);
  return preset(value, bytes, plus == string::npos ? at : at + number(trim(operand.substr(plus + 1))));
}
// A destination for a result of this many bytes; a wider register gets it afterwards.
u32 Parser::out(const string& operand, u8 bytes, bool is_signed) {
  if (operand == "_") return slot(bytes);
  const Register* r = find(operand);
  if (r == nullptr || r->bytes == 0) bad("an unknown destination " + operand);
  if (r->bytes == bytes) return r->at;
  if (r->bytes != 8) bad("a narrow destination " + operand);
  Inst widen = start(is_signed ? ".widen.s32" : ".widen.u32");
  widen.run = find_other(is_signed ? "widen_signed" : "widen");
  widen.a = slot(4);
  widen.d = r->at;
  widen.guard = guard_;
  widen.guard_not = guard_not_;
  after_.push_back(widen);
  return widen.a;
}
u32 Parser::in_predicate(string operand, bool& negated) {
  negated = operand[0] == '!';
  if (negated) operand = trim(operand.substr(1));
  if (is_number(operand) || operand == "true" || operand == "false") {
    return preset(Value::number, 0, operand == "0" || operand == "false" ? 0 : kAll);
  }
  return out_predicate(operand);
}
u32 Parser::out_predicate(const string& operand) {
  if (operand == "_") return slot(0);
  const Register* r = find(operand);
  if (r == nullptr || r->bytes != 0) bad("no predicate: " + operand);
  return r->at;
}
// [register or symbol + number]
void Parser::address(Inst& x, const string& operand) {
  if (operand[0] != '[') bad("no address: " + operand);
  const string text = trim(inside(operand));
  const size_t sign = text.find_first_of("+-", 1);
  const string base = trim(text.substr(0, sign));
  string offset = sign == string::npos ? "0" : text.substr(sign + (text[sign] == '+'));
  offset.erase(std::remove(offset.begin(), offset.end(), ' '), offset.end());
  x.imm = std::stoll(offset, nullptr, 0);
  if (const Register* r = find(base)) {
    x.a = r->at;
    x.narrow_address = r->bytes == 4;
    return;
  }
  x.a = in(base, 8);
}
Inst Parser::start(const string& op) {
  Inst x;
  x.op = op_number(op);
  x.text_line = text_line_;
  x.file = file_;
  x.line = line_;
  x.outer_file = outer_file_;
  x.outer_line = outer_line_;
  return x;
}
void Parser::emit(Inst& x) {
  if (x.run == nullptr) {
    if (x.flow == Flow::next) bad("an instruction that is not known");
    x.run = find_other("nothing");
  }
  k_.code.push_back(x);
  for (const Inst& each : after_) k_.code.push_back(each);
  after_.clear();
}
void Parser::declare_registers(const string& text) {  // ".b32 %r<100>", ".pred p, q"
  const size_t space = text.find_first_of(" \t");
  const string type = text.substr(1, space - 1);
  const u8 bytes = type == "pred" ? 0 : type_bytes(type) == 8 ? 8 : 4;
  for (const string& name : split(text.substr(space), ',')) {
    const size_t range = name.find('<');
    if (range != string::npos) {
      scopes_.back().families[name.substr(0, range)] = bytes;
    } else {
      const auto r = std::make_shared<Register>();
      r->bytes = bytes;
      scopes_.back().names[name] = r;
    }
  }
}
string Parser::label(const string& name) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (!scope->prefix.empty()) return scope->prefix + name;
  }
  return name;
}
void Parser::directive(const string& word, const string& text) {
  const string rest = trim(text.substr(word.size()));
  if (word == ".reg") {
    declare_registers(rest);
  } else if (word == ".param") {
    const Declared d = declaration(rest);
    const auto r = std::make_shared<Register>();
    if (d.bytes > 8) bad("a parameter of " + std::to_string(d.bytes) + " bytes");
    r->bytes = d.bytes == 8 ? 8 : 4;
    r->param = true;
    scopes_.back().names[d.name] = r;
  } else if (word == ".shared") {
    const Declared d = declaration(rest);
    shared_[d.name] = (k_.static_shared + d.align - 1) / d.align * d.align;
    k_.static_shared = shared_[d.name] + d.bytes;
  } else if (word != ".pragma") {
    bad("a directive that is not known");
  }
}
void Parser::body(size_t begin, size_t end) {
  const string& s = m_.text;
  const size_t depth = scopes_.size();
  const int caller_line = text_line_;
  scopes_.emplace_back();
  text_line_ = static_cast<int>(std::count(s.begin(), s.begin() + static_cast<i64>(begin), '\n')) + 1;
  for (size_t i = begin; i < end;) {
    const char c = s[i];
    if (isspace(static_cast<u8>(c)) || c == ';') {
      text_line_ += c == '\n';
      i++;
    } else if (c == '{') {
      scopes_.emplace_back();
      i++;
    } else if (c == '}') {
      scopes_.pop_back();
      i++;
    } else if (s.compare(i, 5, ".loc ") == 0 || s.compare(i, 5, ".loc\t") == 0) {
      const size_t line_end = s.find('\n', i), inlined = s.find("inlined_at", i);
      sscanf(s.c_str() + i, ".loc %d %d", &file_, &line_);
      outer_line_ = 0;
      if (inlined < line_end) sscanf(s.c_str() + inlined, "inlined_at %d %d", &outer_file_, &outer_line_);
      i = line_end;
    } else {
      size_t word_end = i;
      while (isalnum(static_cast<u8>(s[word_end])) || strchr("_$%.", s[word_end])) word_end++;
      const size_t colon = s.find_first_not_of(" \t", word_end);
      if (c != '@' && s[colon] == ':' && s[colon + 1] != ':') {
        labels_[label(s.substr(i, word_end - i))] = static_cast<int>(k_.code.size());
        i = colon + 1;
        continue;
      }
      size_t semicolon = i;
      for (bool quoted = false; s[semicolon] != ';' || quoted; semicolon++) quoted ^= s[semicolon] == '"';
      statement_ = trim(s.substr(i, semicolon - i));
      if (c == '.') {
        directive(s.substr(i, word_end - i), statement_);
      } else {
        instruction(statement_);
      }
      text_line_ += static_cast<int>(std::count(s.begin() + static_cast<i64>(i),
                                                s.begin() + static_cast<i64>(semicolon), '\n'));
      i = semicolon + 1;
    }
  }
  scopes_.resize(depth);
  text_line_ = caller_line;
}
void Parser::instruction(string text) {
  guard_ = kNone;
  guard_not_ = false;
  if (text[0] == '@') {
    const size_t space = text.find_first_of(" \t");
    guard_ = in_predicate(text.substr(1, space - 1), guard_not_);
    text = trim(text.substr(space));
  }
  const size_t space = text.find_first_of(" \t\n");
  const string op = text.substr(0, space);
  const Parts operands = space == string::npos ? Parts{} : split(text.substr(space), ',');
  Parts parts;
  for (size_t at = 0, dot; at <= op.size(); at = dot + 1) {
    dot = std::min(op.find('.', at), op.size());
    parts.push_back(op.substr(at, dot - at));
  }
  if (parts[0] == "call") return call(operands);
  Inst x = start(op);
  x.guard = guard_;
  x.guard_not = guard_not_;
  decode(x, op, parts, operands);
}
void Parser::decode(Inst& x, const string& op, const Parts& p, const Parts& o) {
  const string &name = p[0], &type = p.back();
  if (name == "bra" || (name == "ret" && !returns_.empty())) {
    x.flow = Flow::branch;
    jumps_.push_back({k_.code.size(), name == "bra" ? label(o[0]) : returns_.back()});
    return emit(x);
  }
  if (name == "ret" || name == "exit") {
    x.flow = Flow::exit;
    return emit(x);
  }
  if (name == "trap") {
    x.flow = Flow::trap;
    return emit(x);
  }
  if (decode_hopper(x, op, p, o) || decode_memory(x, p, o) || decode_warp(x, op, p, o)) return emit(x);
  static const Parts without_effect = {"griddepcontrol", "membar"};
  if (has(without_effect, name.c_str())) {
    x.run = find_other("nothing");
    return emit(x);
  }
  const bool on_predicates = type == "pred";
  if (on_predicates && (name == "mov" || name == "not" || name == "and" || name == "or" || name == "xor")) {
    x.run = find_other(name + ".pred");
    x.p = out_predicate(o[0]);
    x.list.resize(4);
    for (size_t j = 1; j < o.size(); j++) {
      bool negated;
      x.list[2 * j - 2] = in_predicate(o[j], negated);
      x.list[2 * j - 1] = negated ? kAll : 0;
    }
    return emit(x);
  }
  const Alu alu = find_alu(p);
  if (alu.run == nullptr) bad("an instruction that is not known");
  x.run = alu.run;
  size_t operands = 1;
  if (alu.a != 0) x.a = in(o.at(operands++), alu.a);
  if (alu.b != 0) x.b = in(o.at(operands++), alu.b);
  if (alu.c != 0) x.c = in(o.at(operands++), alu.c);
  if (name == "bfi") x.e = in(o.at(operands++), 4);
  if (name == "selp") x.q = in_predicate(o.at(operands++), x.q_not);
  if (operands != o.size() || o[0].find('|') != string::npos) bad("operands that are not known");
  if (name == "setp") {
    x.p = out_predicate(o[0]);
  } else {
    x.d = out(o[0], alu.d, alu.is_signed);
  }
  emit(x);
}
void Parser::call(const Parts& operands) {
  Parts results, arguments;
  size_t at = 0;
  if (operands[0][0] == '(') results = split(inside(operands[at++]), ',');
  const string name = operands.at(at++);
  if (at < operands.size()) arguments = split(inside(operands[at]), ',');
  const auto found = m_.functions.find(name);
  if (found == m_.functions.end()) bad("a function that is not there");
  if (guard_ != kNone) bad("a call under a condition");
  const Function& f = found->second;
  if (f.ins.size() != arguments.size() || f.outs.size() != results.size()) bad("arguments that are not the function's");
  Scope scope;
  scope.prefix = "call" + std::to_string(++calls_) + ".";
  for (size_t j = 0; j < arguments.size(); j++) scope.passed[f.ins[j]] = arguments[j];
  for (size_t j = 0; j < results.size(); j++) scope.passed[f.outs[j]] = results[j];
  returns_.push_back(scope.prefix + "end");
  scopes_.push_back(scope);
  body(f.begin, f.end);
  scopes_.pop_back();
  labels_[returns_.back()] = static_cast<int>(k_.code.size());
  returns_.pop_back();
}
void Parser::run() {
  body(k_.begin, k_.end);
  Inst last = start("ret");
  last.flow = Flow::exit;
  emit(last);
  for (const auto& [at, name] : jumps_) {
    if (!labels_.count(name)) refuse(k_.name + ": no label " + name);
    k_.code[at].target = labels_[name];
  }
  k_.register_bytes = (next_ + 4095) / 4096 * 4096;
  k_.reached.assign(k_.code.size(), 0);
}

const string& op_name(u16 op) { return op_names()[op]; }

void parse_kernel(Kernel& kernel) {
  if (kernel.parsed) return;
  Parser(kernel).run();
  kernel.parsed = true;
}

}  // namespace ptx
