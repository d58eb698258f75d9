// From the text of a kernel to its instructions.
#pragma once
#include "text.h"

#include <memory>

namespace ptx {

struct Register {
  u32 at = kNone;
  u8 bytes = 4;  // of a lane; 0: a predicate
  bool param = false;  // of a call
};
struct Scope {
  std::unordered_map<string, std::shared_ptr<Register>> names;
  std::unordered_map<string, u8> families;           // bytes by the beginning of a name
  std::unordered_map<string, string> passed;         // a function's parameters, as its caller names them
  string prefix;                                     // of labels
};

class Parser {
 public:
  explicit Parser(Kernel& kernel) : k_(kernel), m_(*kernel.module) {}
  void run();

 private:
  [[noreturn]] void bad(const string& why) { refuse(k_.name + ": " + why + " in \"" + statement_ + "\""); }
  u32 slot(u8 bytes) {
    const u32 at = next_;
    next_ += bytes == 0 ? 64 : 32u * bytes;
    return at;
  }
  u32 preset(Value value, u8 bytes, u64 number) {
    const auto [found, fresh] = presets_.emplace(std::make_tuple(value, bytes, number), next_);
    if (fresh) k_.presets.push_back({slot(bytes), bytes, value, number});
    return found->second;
  }
  Register* use(const std::shared_ptr<Register>& r) {
    if (r->at == kNone) r->at = slot(r->bytes);
    return r.get();
  }
  Register* find(const string& name);
  Register* find_passed(const string& name);
  bool find_symbol(const string& name, Value& value, u64& number);
  u32 in(const string& operand, u8 bytes);
  u32 out(const string& operand, u8 bytes, bool is_signed);
  u32 in_predicate(string operand, bool& negated);
  u32 out_predicate(const string& operand);
  void address(Inst& x, const string& operand);
  void emit(Inst& x);
  Inst start(const string& op);
  void declare_registers(const string& text);
  void body(size_t begin, size_t end);
  void directive(const string& word, const string& text);
  void instruction(string text);
  void decode(Inst& x, const string& op, const Parts& p, const Parts& o);
  bool decode_memory(Inst& x, const Parts& p, const Parts& o);
  bool decode_warp(Inst& x, const string& op, const Parts& p, const Parts& o);
  bool decode_hopper(Inst& x, const string& op, const Parts& p, const Parts& o);
  void call(const Parts& operands);
  string label(const string& name);

  Kernel& k_;
  Module& m_;
  std::vector<Scope> scopes_;
  std::vector<string> returns_;
  std::vector<Inst> after_;  // what follows the instruction: a result that is widened
  std::unordered_map<string, int> labels_;
  std::vector<std::pair<size_t, string>> jumps_;
  std::map<std::tuple<Value, u8, u64>, u32> presets_;
  std::unordered_map<string, u32> shared_;
  string statement_;
  u32 next_ = 0;
  int text_line_ = 0, file_ = 0, line_ = 0, outer_file_ = 0, outer_line_ = 0, calls_ = 0;
  u32 guard_ = kNone;
  bool guard_not_ = false;
};

}  // namespace ptx
