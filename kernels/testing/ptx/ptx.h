// An interpreter of the PTX that nvcc makes of the CUDA library, instead of a GPU, for tests. It is linked with the
// library's objects instead of the CUDA runtime and the driver: host code launches as it does on a card.
//
//   parse.cpp    PTX text to instructions; what it does not know it refuses by name
//   alu.cpp      arithmetic        memory.cpp   buffers, loads, stores, atomics, and their checks
//   warp.cpp     shuffles, votes, tensor cores        hopper.cpp   mbarriers, TMA, wgmma
//   run.cpp      warps and blocks: who runs next, barriers, faults        runtime.cpp   the driver and the runtime
//
// 32 lanes of a warp go together, those of the lowest instruction first; warps go one after the other until they wait;
// blocks go one after the other. A register is an array of 32 lanes of 4 or 8 bytes, a predicate is a mask of lanes.
#pragma once
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ptx {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i8 = int8_t;
using i16 = int16_t;
using i32 = int32_t;
using i64 = int64_t;
using Parts = std::vector<std::string>;

struct Warp;
struct Block;
struct Inst;
struct Module;
using Execute = void (*)(Warp&, const Inst&, u32 lanes);

constexpr u32 kNone = ~0u;       // no register
constexpr u32 kAll = ~0u;        // all lanes
constexpr u32 kSharedAt = 1024;  // address of a block's first byte of shared memory

// What an instruction does with the order of execution.
enum class Flow : u8 { next, branch, exit, trap, whole, masked, barrier, reduce, poll };
enum class Space : u8 { generic, global, shared, param, readonly };

struct Inst {
  Execute run = nullptr;
  Flow flow = Flow::next;
  u8 kind = 0, bits = 0;          // a variant, and a size in bytes or bits
  bool wide = false, flag = false;  // 8-byte values; a variant
  bool narrow_address = false;
  bool guard_not = false, q_not = false;
  u32 guard = kNone, p = kNone, q = kNone;  // predicates: the guard, a result, an operand
  u32 d = kNone, a = kNone, b = kNone, c = kNone, e = kNone, members = kNone;  // offsets of registers in bytes
  std::vector<u32> list;                    // more of them
  i64 imm = 0;
  int target = -1;
  int text_line = 0, file = 0, line = 0, outer_file = 0, outer_line = 0;
  u16 op = 0;
};

// What a register holds when a warp begins.
enum class Value : u8 {
  number, param, dynamic_shared, tid_x, tid_y, tid_z, ntid_x, ntid_y, ntid_z, ctaid_x, ctaid_y, ctaid_z,
  nctaid_x, nctaid_y, nctaid_z, lane, warp, warps, mask_lt, mask_le, mask_gt, mask_ge, mask_eq
};
struct Preset {
  u32 at;
  u8 bytes;  // of a lane; 0: a predicate
  Value value;
  u64 number;
};

struct Dim {
  u32 x, y, z;
};
struct Param {
  std::string name;
  u32 at, bytes;
};
struct Kernel {
  std::string name;
  Module* module = nullptr;
  size_t begin = 0, end = 0;  // of its body
  std::vector<Param> params;
  u32 param_bytes = 0, max_threads = 1024;
  bool parsed = false;
  std::vector<Inst> code;
  std::vector<Preset> presets;
  u32 register_bytes = 0, static_shared = 0, dynamic_align = 16, granule = 4;
  std::vector<u8> reached;
  u64 launches = 0, instructions = 0;
  u32 dynamic_at() const { return kSharedAt + (static_shared + dynamic_align - 1) / dynamic_align * dynamic_align; }
};
struct Function {
  Parts ins, outs;
  size_t begin, end;
};
struct Module {
  std::string text, target;
  std::map<std::string, Kernel> kernels;
  std::unordered_map<std::string, Function> functions;
  std::unordered_map<std::string, u64> globals;
  std::unordered_map<std::string, std::pair<u32, u32>> shared;  // bytes, alignment
  std::unordered_map<std::string, u32> dynamic;                 // alignment
  std::unordered_map<int, std::string> files;
};
Module* load_module(const char* text, size_t length);
void parse_kernel(Kernel& kernel);
const std::string& op_name(u16 op);

// An arithmetic instruction, with the bytes of a lane of its result and operands.
struct Alu {
  Execute run = nullptr;
  u8 d = 0, a = 0, b = 0, c = 0;
  bool is_signed = false;
};
Alu find_alu(const Parts& op);
Execute find_load(const std::string& type, Space space);
Execute find_store(const std::string& type, Space space);
Execute find_atomic(const std::string& type, Space space);
Execute find_other(const std::string& name);   // moves, predicates, cp.async, warps
Execute find_memory(const std::string& name);  // of the others: cp.async, cvta, ldmatrix
Execute find_hopper(const std::string& op);
u32 type_bytes(const std::string& type);
int atomic_kind(const std::string& name);      // -1: none

// ---- a launch ----

// Which launch and block wrote a byte last, a number a byte: launch << kBlockBits | block + 2; 0: nothing wrote it, 1: the
// host did, or an earlier launch. Buffers of more than kTracked bytes have none.
constexpr u32 kBlockBits = 18, kBlockMask = (1u << kBlockBits) - 1, kWritten = 1;
constexpr u64 kTracked = 128u << 20;
struct Buffer {
  u64 base, size;
  u32* tags;
};

// Lanes of a warp that stand at an instruction.
struct Group {
  int pc;
  u32 lanes;
  bool waits;
};
// A cp.async under way.
struct Copy {
  u32 to, bytes, group;
  u8 lane;
  u8 data[16];
};
enum class State : u8 { runs, at_barrier, done };
struct Warp {
  u8* registers = nullptr;
  Block* block = nullptr;
  Kernel* kernel = nullptr;
  u32 id = 0, first = 0, live = 0, active = 0;  // lanes: at the start, not ended, at `pc`
  int pc = 0, next_pc = 0;                      // next_pc: the lowest of other groups that may run
  std::vector<Group> others;
  State state = State::runs;
  u32 barrier = 0, barrier_threads = 0, barrier_lanes = 0;
  const Inst* barrier_at = nullptr;
  std::array<u32, 32> clock{};  // by warp: what happened before now
  u32 meeting = 1, ordered = 1;  // the last convergence, and the last that orders memory
  std::vector<Copy> copies;
  std::array<u32, 32> copy_group{};
  u64 instructions = 0;
};
// A granule of shared memory: who wrote it and read it last.
struct Cell {
  u32 stamp = 0, written = 0, write_meeting = 0, read_meeting = 0;
  u8 writer = 0, write_lane = 0, reader = 0, read_lane = 0;
  bool atomic = false, pending = false, plain = false;  // plain: written without the proxy of TMA and wgmma, and
  u32 fence = 0;                                        // this many proxy fences of its writer before
};
struct Block {
  Kernel* kernel;
  Dim grid, size, at;
  u32 index = 0, num_warps = 0, stamp = 0;  // stamp: its number in this process
  std::vector<Warp> warps;
  u8* shared;
  u32 shared_end = 0, granule_log = 2;
  const u8* params;
  Cell& cell(u32 address);
  u32* reads(u32 address);  // the clocks of a granule's last reads, by warp
};

u8* file_of_shared();
Buffer* find_buffer(u64 address);  // the one that holds it, or that ends before it
void begin_launch();               // of memory's checks
void begin_block();
void begin_hopper();
void end_hopper(Block& block);
u32 proxy_fences(u32 warp);
u64 allocate(u64 bytes);
bool release(u64 address);
u64 allocated(u64 address);
bool host_access(u64 address, u64 bytes, bool write);  // false: outside of a buffer, a fault

// Stores a parameter block and runs a kernel.
void launch(Kernel& kernel, Dim grid, Dim block, const std::vector<u8>& params, u32 shared_bytes);

// A fault: its kind, and where; the first is what the driver's error says.
void fault(const char* kind, const std::string& text);
__attribute__((format(printf, 4, 5))) void fault_at(const Warp& warp, const Inst& inst, const char* kind,
                                                    const char* format, ...);
int error_code();
const char* error_text();
void know(Kernel& kernel);  // it is listed where coverage is written
void write_coverage();

// Of a thread so far: launches of kernels, and products by wgmma.
inline thread_local u64 num_launches = 0, num_products = 0;

// Options, as environment variables TKF_PTX_…; see docs/guides/gpu.md.
struct Options {
  int arch = 80, sms = 108;
  u64 memory = 4ull << 30;
  int order = 0;        // of warps and blocks: 0 ascending, 1 descending, 2 random
  u64 seed = 1;
  u32 noise = 0;        // units in the last place by which .approx results are off, at most
  int sums = 8;         // products that tensor cores add at a time: 8 as an A100, 16 as an H100; 0: exact sums
};
Options& options();

// c and 16 products, added as tensor cores do it.
float tensor_sum(float c, const float* a, const float* b);
float from_half(u16 bits);
u16 to_half(float value);
inline float from_bf16(u16 bits) {
  const u32 whole = u32{bits} << 16;
  float value;
  memcpy(&value, &whole, 4);
  return value;
}
u16 to_bf16(float value);

// ---- registers ----

template <class T>
using Slot = std::conditional_t<sizeof(T) == 8, u64, u32>;
template <class T>
inline T value_of(Slot<T> bits) {
  T value;
  memcpy(&value, &bits, sizeof(T));  // little endian
  return value;
}
template <class T>
inline Slot<T> bits_of(T value) {
  if constexpr (std::is_integral_v<T>) return static_cast<Slot<T>>(value);  // signed ones are extended
  Slot<T> bits = 0;
  memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
inline Slot<T>* slots(Warp& warp, u32 at) {
  return reinterpret_cast<Slot<T>*>(warp.registers + at);
}
inline u32& predicate(Warp& warp, u32 at) { return *reinterpret_cast<u32*>(warp.registers + at); }
inline void set_predicate(Warp& warp, u32 at, u32 values, u32 lanes) {
  u32& p = predicate(warp, at);
  p = (p & ~lanes) | (values & lanes);
}
inline u32 operand_predicate(Warp& warp, const Inst& i) { return i.q_not ? ~predicate(warp, i.q) : predicate(warp, i.q); }
// Puts values into a register, for some lanes.
template <class S>
inline void put(Warp& warp, u32 at, const S* values, u32 lanes) {
  S* const to = reinterpret_cast<S*>(warp.registers + at);
  if (lanes == kAll) {
    memcpy(to, values, 32 * sizeof(S));
    return;
  }
  for (u32 l = 0; l < 32; l++) to[l] = lanes >> l & 1 ? values[l] : to[l];
}
inline u32 count_lanes(u32 lanes) { return static_cast<u32>(__builtin_popcount(lanes)); }
inline u32 first_lane(u32 lanes) { return static_cast<u32>(__builtin_ctz(lanes)); }
inline u64 address_of(Warp& warp, const Inst& i, u32 lane) {
  const u64 base = i.narrow_address ? slots<u32>(warp, i.a)[lane] : slots<u64>(warp, i.a)[lane];
  return base + static_cast<u64>(i.imm);
}
template <class F>
inline void each_lane(u32 lanes, F&& body) {
  for (; lanes != 0; lanes &= lanes - 1) body(first_lane(lanes));
}

}  // namespace ptx
