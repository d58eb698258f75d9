// Instructions with operands of their own: moves, memory, warps, sm_90a.
#include "parser.h"

#include <algorithm>

namespace ptx {

bool Parser::decode_memory(Inst& x, const Parts& p, const Parts& o) {
  const string &name = p[0], &type = p.back();
  const u8 bytes = type_bytes(type) == 8 ? 8 : 4;
  Space space = Space::generic;
  for (const string& part : p) {
    if (part == "global" || part == "const") space = Space::global;
    if (part == "shared" || part == "shared::cta") space = Space::shared;
    if (part == "param") space = Space::param;
    if (part == "local") bad("local memory");
  }
  if (has(p, "nc")) space = Space::readonly;
  const auto touches = [&](u32 size) {  // the granule of checks is the smallest access
    if (space == Space::shared || space == Space::generic) k_.granule = std::min(k_.granule, size);
  };
  if (name == "mov" && (o[0][0] == '{' || o[1][0] == '{')) {
    const bool packs = o[1][0] == '{';
    const Parts pieces = elements(o[packs ? 1 : 0]);
    x.run = find_other(packs ? "pack" : "unpack");
    x.bits = static_cast<u8>(8 * type_bytes(type) / pieces.size());
    x.wide = bytes == 8;
    for (const string& piece : pieces) {
      x.list.push_back(piece == "_" ? kNone : packs ? in(piece, 4) : out(piece, 4, false));
    }
    (packs ? x.d : x.a) = packs ? out(o[0], bytes, false) : in(o[1], bytes);
    return true;
  }
  if (name == "cvta") {
    x.run = find_other("cvta");
    x.kind = !has(p, "shared") ? 0 : has(p, "to") ? 2 : 1;
    x.a = in(o[1], 8);
    x.d = out(o[0], 8, false);
    return true;
  }
  if (name == "ld" || name == "st") {
    const string &place = o[name == "ld" ? 0 + 1 : 0], &value = o[name == "ld" ? 0 : 1];
    if (space == Space::param) {
      const string text = trim(inside(place));
      if (Register* passed = find_passed(trim(text.substr(0, text.find('+'))))) {
        x.run = find_other(bytes == 8 ? "mov.b64" : "mov.b32");
        (name == "ld" ? x.a : x.d) = passed->at;
        (name == "ld" ? x.d : x.a) = name == "ld" ? out(value, bytes, type[0] == 's') : in(value, bytes);
        return true;
      }
      if (name == "st") bad("a parameter that is not known");
    }
    address(x, place);
    touches(type_bytes(type));
    const Parts values = elements(value);
    for (const string& each : values) {
      const Register* r = each == "_" ? nullptr : find(each);
      if (name == "st") {
        x.wide = bytes == 8;
        x.list.push_back(in(each, bytes));
      } else {
        if (each != "_" && (r == nullptr || r->bytes < bytes)) bad("a destination that is not known");
        if (r != nullptr) x.wide = r->bytes == 8;
        x.list.push_back(r == nullptr ? kNone : r->at);
      }
    }
    x.run = name == "ld" ? find_load(type, space) : find_store(type, space);
    return true;
  }
  if (name == "atom") {
    int kind = -1;
    for (const string& part : p) kind = std::max(kind, atomic_kind(part));
    if (kind < 0) bad("an atomic operation that is not known");
    x.kind = static_cast<u8>(kind);
    x.flag = has(p, "acq_rel");
    address(x, o[1]);
    x.b = in(o[2], bytes);
    if (o.size() > 3) x.c = in(o[3], bytes);
    if (o[0] != "_") x.d = out(o[0], bytes, type[0] == 's');
    touches(type_bytes(type));
    x.run = find_atomic(type, space);
    return true;
  }
  if (name != "cp") return false;
  if (has(p, "commit_group")) {
    x.run = find_other("cp.commit");
  } else if (has(p, "wait_group")) {
    x.run = find_other("cp.wait");
    x.imm = static_cast<i64>(number(o[0]));
  } else if (p.size() > 4 && p[2] == "cg" && p[3] == "shared" && p[4] == "global") {
    Inst from;
    address(from, o[1]);
    address(x, o[0]);
    if (from.narrow_address) bad("a narrow address");
    x.run = find_other("cp.async");
    x.b = from.a;
    x.list = {static_cast<u32>(from.imm)};
    x.bits = static_cast<u8>(number(o[2]));
    if (o.size() > 3) x.c = in(o[3], 4);
    k_.granule = std::min<u32>(k_.granule, x.bits);
  } else {
    bad("an instruction that is not known");
  }
  return true;
}
bool Parser::decode_warp(Inst& x, const string& op, const Parts& p, const Parts& o) {
  const string& name = p[0];
  const auto vector_in = [&](const string& operand) {
    for (const string& each : elements(operand)) x.list.push_back(in(each, 4));
  };
  const auto vector_out = [&](const string& operand) {
    for (const string& each : elements(operand)) x.list.push_back(out(each, 4, false));
  };
  if (name == "bar") {
    if (p[1] == "warp") {
      x.flow = Flow::masked;
      x.flag = true;
      x.members = in(o[0], 4);
      return true;
    }
    const bool reduces = op == "bar.red.and.pred";
    if (op != "bar.sync" && !reduces) bad("a barrier that is not known");
    x.flow = reduces ? Flow::reduce : Flow::barrier;
    const size_t first = reduces ? 1 : 0;
    x.a = in(o[first], 4);
    if (o.size() > 2 * first + 1) x.b = in(o[first + 1], 4);
    if (first == 1) {
      x.p = out_predicate(o[0]);
      x.q = in_predicate(o.back(), x.q_not);
    }
    return true;
  }
  if (name == "shfl") {
    static const Parts kinds = {"up", "down", "bfly", "idx"};
    const Parts results = split(o[0], '|');
    x.run = find_other("shfl");
    x.kind = static_cast<u8>(std::find(kinds.begin(), kinds.end(), p[2]) - kinds.begin());
    x.a = in(o[1], 4);
    x.b = in(o[2], 4);
    x.c = in(o[3], 4);
    x.members = in(o[4], 4);
    x.d = out(results[0], 4, false);
    if (results.size() > 1) x.p = out_predicate(results[1]);
  } else if (name == "vote") {
    if (p[2] != "ballot" && p[2] != "all") bad("a vote that is not known");
    x.run = find_other("vote");
    if (p[2] == "ballot") x.d = out(o[0], 4, false);
    if (p[2] == "all") x.p = out_predicate(o[0]);
    x.q = in_predicate(o[1], x.q_not);
    x.members = in(o[2], 4);
  } else if (name == "ldmatrix") {
    x.run = find_other("ldmatrix");
    x.flow = Flow::whole;
    x.flag = has(p, "trans");
    vector_out(o[0]);
    address(x, o[1]);
    return true;
  } else if (name == "mma") {
    x.flag = op == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32";
    if (!x.flag && op != "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") bad("a product that is not known");
    x.run = find_other("mma");
    x.flow = Flow::whole;
    vector_out(o[0]);
    for (size_t j = 1; j < 4; j++) vector_in(o[j]);
    if (x.list.size() != 14) bad("operands that are not known");
    return true;
  } else {
    return false;
  }
  x.flow = Flow::masked;
  return true;
}
bool Parser::decode_hopper(Inst& x, const string& op, const Parts& p, const Parts& o) {
  x.run = find_hopper(op);
  if (x.run == nullptr) return false;
  if (p[0] == "mbarrier") {
    const bool tests = p[1] == "try_wait", arrives = p[1] == "arrive";
    if (tests) x.p = out_predicate(o[0]);
    if (tests) x.flow = Flow::poll;
    address(x, o[tests || arrives ? 1 : 0]);
    if (o.size() > (tests || arrives ? 2u : 1u)) x.b = in(o.back(), 4);
  } else if (p[0] == "cp") {
    const string source = inside(o[1]);
    const size_t comma = source.find(',');
    Inst barrier;
    address(barrier, o[2]);
    if (!barrier.narrow_address) bad("a wide address of a barrier");
    address(x, o[0]);
    x.b = in(trim(source.substr(0, comma)), 8);
    x.c = barrier.a;
    x.e = static_cast<u32>(barrier.imm);
    for (const string& each : elements(trim(source.substr(comma + 1)))) x.list.push_back(in(each, 4));
  } else if (p[1] == "mma_async") {
    x.flow = Flow::whole;
    x.flag = p.back() == "bf16";
    x.wide = o[1][0] == '{';  // the first factor is in registers
    for (const string& each : elements(o[0])) x.list.push_back(out(each, 4, false));
    x.bits = static_cast<u8>(x.list.size());
    if (x.wide) {
      for (const string& each : elements(o[1])) x.list.push_back(in(each, 4));
    } else {
      x.a = in(o[1], 8);
    }
    x.b = in(o[2], 8);
    x.q = in_predicate(o[3], x.q_not);
    const size_t turned = x.wide ? 6 : 7;
    if (o[4] != "1" || o[5] != "1" || o.size() != turned + 1 || (!x.wide && o[6] != "0")) bad("operands that are not known");
    x.kind = o[turned] == "1";
  } else if (p[0] == "wgmma") {
    x.flow = Flow::whole;
    if (!o.empty() && o[0] != "0") bad("a wait for some of the products");
  }
  return true;
}

}  // namespace ptx
