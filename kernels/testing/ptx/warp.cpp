// Moves and predicates, what lanes of a warp do together, and the tensor cores of sm_80.
#include <algorithm>

#include "ptx.h"

namespace ptx {
namespace {

void run_nothing(Warp&, const Inst&, u32) {}

// list: an operand, what turns it round, a second one
void run_predicates(Warp& w, const Inst& i, u32 lanes) {
  const u32 a = predicate(w, i.list[0]) ^ i.list[1], b = i.list[2] == 0 ? 0 : predicate(w, i.list[2]) ^ i.list[3];
  const std::string& op = op_name(i.op);
  const u32 out = op[0] == 'm' ? a : op[0] == 'n' ? ~a : op[0] == 'a' ? a & b : op[0] == 'o' ? a | b : a ^ b;
  set_predicate(w, i.p, out, lanes);
}
template <class TO, class FROM>
void run_cast(Warp& w, const Inst& i, u32 lanes) {
  const Slot<FROM>* const a = slots<FROM>(w, i.a);
  Slot<TO> out[32];
  for (int l = 0; l < 32; l++) out[l] = static_cast<Slot<TO>>(static_cast<TO>(value_of<FROM>(a[l])));
  put(w, i.d, out, lanes);
}
template <class S>
void pack(Warp& w, const Inst& i, u32 lanes) {
  S out[32] = {};
  for (size_t j = 0; j < i.list.size(); j++) {
    if (i.list[j] == kNone) continue;
    const u32 *const from = slots<u32>(w, i.list[j]), mask = i.bits == 32 ? kAll : (1u << i.bits) - 1;
    for (int l = 0; l < 32; l++) out[l] |= static_cast<S>(from[l] & mask) << j * i.bits;
  }
  put(w, i.d, out, lanes);
}
void run_pack(Warp& w, const Inst& i, u32 lanes) { i.wide ? pack<u64>(w, i, lanes) : pack<u32>(w, i, lanes); }
void run_unpack(Warp& w, const Inst& i, u32 lanes) {
  const u32 mask = i.bits == 32 ? kAll : (1u << i.bits) - 1;
  u64 from[32];
  for (int l = 0; l < 32; l++) from[l] = i.wide ? slots<u64>(w, i.a)[l] : slots<u32>(w, i.a)[l];
  for (size_t j = 0; j < i.list.size(); j++) {
    if (i.list[j] == kNone) continue;
    u32 out[32];
    for (int l = 0; l < 32; l++) out[l] = static_cast<u32>(from[l] >> j * i.bits) & mask;
    put(w, i.list[j], out, lanes);
  }
}

// PTX ISA, "shfl.sync"; kind: up, down, bfly, idx.
void run_shuffle(Warp& w, const Inst& i, u32 lanes) {
  const u32 *const a = slots<u32>(w, i.a), *const b = slots<u32>(w, i.b), *const c = slots<u32>(w, i.c);
  u32 out[32] = {}, within = 0;
  each_lane(lanes, [&](u32 l) {
    const u32 by = b[l] & 31, segment = c[l] >> 8 & 31, clamp = c[l] & 31, first = l & segment,
              last = first | (clamp & ~segment);
    const u32 from = i.kind == 0 ? l - by : i.kind == 1 ? l + by : i.kind == 2 ? l ^ by : first | (by & ~segment);
    // For `up` the clamp is the lowest lane.
    const bool valid = i.kind == 0 ? static_cast<i32>(from) >= static_cast<i32>(last) : from <= last;
    const u32 lane = valid ? from : l;
    if (lanes >> lane & 1) {
      out[l] = a[lane];
    } else {
      fault_at(w, i, "shuffle", "lane %u reads lane %u, which takes no part (lanes %#x)", l, lane, lanes);
      out[l] = kAll;
    }
    within |= static_cast<u32>(valid) << l;
  });
  put(w, i.d, out, lanes);
  if (i.p != kNone) set_predicate(w, i.p, within, lanes);
}
void run_vote(Warp& w, const Inst& i, u32 lanes) {
  const u32 votes = operand_predicate(w, i) & lanes;
  if (i.p != kNone) return set_predicate(w, i.p, votes == lanes ? kAll : 0, lanes);  // all
  u32 out[32];
  std::fill_n(out, 32, votes);
  put(w, i.d, out, lanes);
}

// Fragments of m16n8k16, in 16-bit halves: row g and column pairs 2 t of lane 4 g + t; see common/cuda/cuda.h.
struct Factors {
  float a[16][16], b[8][16];  // b by columns
};
void run_mma(Warp& w, const Inst& i, u32) {
  const u32* const r = i.list.data();  // 4 of d, 4 of a, 2 of b, 4 of c
  const auto half = [&](u32 bits) { return i.flag ? from_bf16(static_cast<u16>(bits)) : from_half(static_cast<u16>(bits)); };
  Factors f;
  for (u32 l = 0; l < 32; l++) {
    const u32 g = l / 4, t = l % 4;
    for (u32 j = 0; j < 4; j++) {
      const u32 x = slots<u32>(w, r[4 + j])[l], row = g + j % 2 * 8, column = 2 * t + j / 2 * 8;
      f.a[row][column] = half(x);
      f.a[row][column + 1] = half(x >> 16);
    }
    for (u32 j = 0; j < 2; j++) {
      const u32 x = slots<u32>(w, r[8 + j])[l];
      f.b[g][2 * t + 8 * j] = half(x);
      f.b[g][2 * t + 8 * j + 1] = half(x >> 16);
    }
  }
  float out[4][32];
  for (u32 l = 0; l < 32; l++) {
    for (u32 j = 0; j < 4; j++) {
      const float c = value_of<float>(slots<float>(w, r[10 + j])[l]);
      out[j][l] = tensor_sum(c, f.a[l / 4 + j / 2 * 8], f.b[2 * (l % 4) + j % 2]);
    }
  }
  for (u32 j = 0; j < 4; j++) memcpy(slots<float>(w, r[j]), out[j], sizeof out[j]);
}
}  // namespace

Execute find_other(const std::string& name) {
  static const std::unordered_map<std::string, Execute> known = {
      {"nothing", run_nothing}, {"mov.pred", run_predicates}, {"not.pred", run_predicates},
      {"and.pred", run_predicates}, {"or.pred", run_predicates}, {"xor.pred", run_predicates},
      {"cut", run_cast<u32, u64>}, {"widen", run_cast<u64, u32>}, {"widen_signed", run_cast<i64, i32>},
      {"mov.b32", run_cast<u32, u32>}, {"mov.b64", run_cast<u64, u64>}, {"pack", run_pack}, {"unpack", run_unpack},
      {"shfl", run_shuffle}, {"vote", run_vote}, {"mma", run_mma}};
  const auto found = known.find(name);
  return found == known.end() ? find_memory(name) : found->second;
}

}  // namespace ptx
