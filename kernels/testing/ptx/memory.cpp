// Buffers of the device, and what is checked of each access: that it lies in a buffer and is aligned, that what it reads
// was written, and that no other thread may touch the same bytes at the same time.
#include <sys/mman.h>

#include <algorithm>

#include "ptx.h"

namespace ptx {
namespace {

constexpr u64 kMargin = 4096;  // unused bytes on both sides of a buffer

std::map<u64, Buffer>& buffers() {
  static std::map<u64, Buffer> all;
  return all;
}
Buffer* last_found = nullptr;
u32 launch_tag = 0;  // of this launch, shifted
u64 allocated_bytes = 0;

// Blocks whose releases this block has acquired, by the addresses of acq_rel atomics; of one launch.
std::unordered_map<u64, std::vector<u32>> released;
std::vector<u8> acquired;

void* map_pages(u64 bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}
bool holds(const Buffer& b, u64 address, u64 bytes) {
  return address >= b.base && address + bytes <= b.base + b.size;
}

}  // namespace

u64 allocate(u64 bytes) {
  u8* const pages = static_cast<u8*>(map_pages(bytes + 2 * kMargin));
  if (pages == nullptr) return 0;
  u32* tags = nullptr;
  if (bytes <= kTracked) {
    tags = static_cast<u32*>(map_pages(4 * bytes + 4));
    if (tags == nullptr) return 0;
  }
  if (bytes < (kTracked >> 1)) memset(pages + kMargin, 0xff, bytes);  // NaN in all types
  const u64 at = reinterpret_cast<u64>(pages) + kMargin;
  buffers()[at] = {at, bytes, tags};
  allocated_bytes += bytes;
  return at;
}
bool release(u64 address) {
  const auto found = buffers().find(address);
  if (found == buffers().end()) {
    fault("bad-free", "frees what is no buffer");
    return false;
  }
  const Buffer b = found->second;
  munmap(reinterpret_cast<void*>(b.base - kMargin), b.size + 2 * kMargin);
  if (b.tags != nullptr) munmap(b.tags, 4 * b.size + 4);
  allocated_bytes -= b.size;
  buffers().erase(found);
  last_found = nullptr;
  return true;
}
u64 allocated(u64 address) { return address == 0 ? allocated_bytes : buffers().count(address); }

Buffer* find_buffer(u64 address) {
  if (last_found != nullptr && holds(*last_found, address, 1)) return last_found;
  auto after = buffers().upper_bound(address);
  if (after == buffers().begin()) return nullptr;
  Buffer& b = (--after)->second;
  if (address > b.base + b.size + kMargin) return nullptr;
  return last_found = &b;
}
bool host_access(u64 address, u64 bytes, bool write) {
  const Buffer* const b = find_buffer(address);
  if (b == nullptr || !holds(*b, address, bytes)) {
    fault("outside", "the host touches " + std::to_string(bytes) + " bytes that are not in a buffer");
    return false;
  }
  if (b->tags == nullptr) return true;
  u32* const tags = b->tags + (address - b->base);
  if (write) std::fill(tags, tags + bytes, kWritten);
  const u32* const gap = write ? tags + bytes : std::find(tags, tags + bytes, 0u);
  if (gap != tags + bytes) {
    fault("unwritten", "the host reads byte " + std::to_string(gap - b->tags) + " of a buffer of " +
                           std::to_string(b->size) + ", which nothing wrote");
  }
  return true;
}
void begin_launch() {
  launch_tag += 1u << kBlockBits;
  if (launch_tag == 0) {  // numbers are used up: all that was written becomes old
    for (auto& [at, b] : buffers()) {
      for (u64 j = 0; b.tags != nullptr && j < b.size; j++) b.tags[j] = std::min(b.tags[j], kWritten);
    }
    launch_tag = 1u << kBlockBits;
  }
  released.clear();
}
void begin_block() { acquired.clear(); }

// ---- shared memory: by granules, which are as large as the kernel's smallest access ----

namespace {

std::vector<Cell> cells(1 << 19);
std::vector<u32> read_clocks(1 << 21);

// Whether another access to a granule may come at the same time as this one, and a fault where it may.
void check_order(const Warp& w, const Inst& i, u32 lane, u32 address, const char* does, const char* did, u32 by, u32 clock,
                 u32 by_lane, u32 meeting) {
  if (by != w.id) {
    if (w.clock[by] >= clock) return;
    fault_at(w, i, "race", "warp %u lane %u %s shared+%u, which warp %u %s with no barrier between", w.id, lane, does,
             address - kSharedAt, by, did);
  } else if (by_lane != lane && meeting >= w.ordered) {
    fault_at(w, i, "warp-race", "lane %u %s shared+%u, which lane %u of its warp %s with no __syncwarp between", lane, does,
             address - kSharedAt, by_lane, did);
  }
}
constexpr u8 kSeveral = 255;  // lanes read a granule

void note_shared(Warp& w, const Inst& i, u32 lane, u32 address, u32 bytes, bool writes, bool reads, bool atomic,
                 bool pending = false) {
  Block& b = *w.block;
  const u32 granule = 1u << b.granule_log;
  for (u32 at = address & ~(granule - 1); at < address + bytes; at += granule) {
    Cell& c = b.cell(at);
    u32* const read = b.reads(at);
    const bool both_atomic = atomic && c.atomic;
    if (c.pending) fault_at(w, i, "async", "touches shared+%u, to which a copy is under way", at - kSharedAt);
    if (reads && c.written == 0 && !c.pending) {
      fault_at(w, i, "unwritten", "lane %u reads shared+%u, which nothing wrote", lane, at - kSharedAt);
    }
    if (c.written != 0 && !both_atomic) {
      check_order(w, i, lane, at, writes ? "writes" : "reads", "wrote", c.writer, c.written, c.write_lane, c.write_meeting);
    }
    if (writes && !both_atomic) {
      for (u32 q = 0; q < b.num_warps; q++) {
        if (q != w.id && read[q] > w.clock[q]) check_order(w, i, lane, at, "writes", "read", q, read[q], 0, 0);
      }
      if (c.reader == w.id && read[w.id] != 0) {
        check_order(w, i, lane, at, "writes", "read", w.id, 0, c.read_lane, c.read_meeting);
      }
    }
    if (reads) {
      const bool again = c.reader == w.id && c.read_meeting == w.meeting && c.read_lane != lane && read[w.id] != 0;
      c.read_lane = again ? kSeveral : static_cast<u8>(lane);
      c.reader = static_cast<u8>(w.id);
      c.read_meeting = w.meeting;
      read[w.id] = w.clock[w.id];
    }
    if (writes) {
      c.written = w.clock[w.id];
      c.write_meeting = w.meeting;
      c.writer = static_cast<u8>(w.id);
      c.write_lane = static_cast<u8>(lane);
      c.atomic = atomic;
      c.pending = pending;
      c.plain = true;
      c.fence = proxy_fences(w.id);
    }
  }
}
// The host's address of an access to shared memory; nullptr where it is not allowed.
u8* shared_at(Warp& w, const Inst& i, u32 lane, u64 address, u32 bytes) {
  const Block& b = *w.block;
  if (address < kSharedAt || address + bytes > b.shared_end) {
    fault_at(w, i, "outside", "lane %u of warp %u: %u bytes at shared%+lld, of %u bytes", lane, w.id, bytes,
             static_cast<long long>(address - kSharedAt), b.shared_end - kSharedAt);
    return nullptr;
  }
  if (address % bytes != 0) {
    fault_at(w, i, "misaligned", "lane %u: %u bytes at shared+%llu", lane, bytes,
             static_cast<unsigned long long>(address - kSharedAt));
    return nullptr;
  }
  return b.shared + address;
}

// ---- global memory ----

Buffer* buffer_at(Warp& w, const Inst& i, u32 lane, u64 address, u32 bytes, u32 alignment) {
  Buffer* const b = find_buffer(address);
  if (b == nullptr || !holds(*b, address, bytes)) {
    if (b == nullptr) {
      fault_at(w, i, "outside", "lane %u of warp %u: %u bytes in no buffer", lane, w.id, bytes);
    } else {
      fault_at(w, i, "outside", "lane %u of warp %u: %u bytes at %lld of a buffer of %llu", lane, w.id, bytes,
               static_cast<long long>(address - b->base), static_cast<unsigned long long>(b->size));
    }
    return nullptr;
  }
  if (address % alignment == 0) return b;
  fault_at(w, i, "misaligned", "lane %u: %u bytes at %llu of a buffer", lane, bytes,
           static_cast<unsigned long long>(address - b->base));
  return nullptr;
}
bool is_acquired(u32 tag) {
  const u32 block = (tag & kBlockMask) - 2;
  return block < acquired.size() && acquired[block] != 0;
}
void note_global(Warp& w, const Inst& i, u32 lane, Buffer* b, u64 address, u32 bytes, bool writes, bool reads, bool atomic,
                 bool readonly = false) {
  if (b->tags == nullptr) return;
  const u64 at = address - b->base;
  const u32 own = launch_tag | (w.block->index + 2);
  for (u64 j = at; j < at + bytes; j++) {
    const u32 tag = b->tags[j];
    const bool now = (tag & ~kBlockMask) == launch_tag;
    const auto offset = static_cast<unsigned long long>(j), size = static_cast<unsigned long long>(b->size);
    if (reads && tag == 0) {
      fault_at(w, i, "unwritten", "lane %u reads byte %llu of a buffer of %llu, which nothing wrote", lane, offset, size);
      reads = false;
    }
    if (now && readonly) {
      fault_at(w, i, "readonly", "reads byte %llu of a buffer by way of the read-only cache, and this launch wrote it", offset);
      readonly = false;
    }
    if (now && !atomic && tag != own && !is_acquired(tag)) {
      fault_at(w, i, "block-race", "block %u touches byte %llu of a buffer of %llu, which block %u wrote in this launch",
               w.block->index, offset, size, (tag & kBlockMask) - 2);
      atomic = true;
    }
    if (writes) b->tags[j] = own;
  }
}
// An acq_rel atomic: this block comes after those that have been at the address.
void acquire_and_release(Warp& w, u64 address) {
  std::vector<u32>& before = released[address];
  for (const u32 block : before) {
    if (acquired.size() <= block) acquired.resize(block + 1);
    acquired[block] = 1;
  }
  before.push_back(w.block->index);
}

// An access as the host's address; nullptr where it is not allowed. It is checked, and noted.
template <Space SPACE>
u8* access(Warp& w, const Inst& i, u32 lane, u32 bytes, bool writes, bool reads, bool atomic) {
  u64 address = address_of(w, i, lane);
  if (SPACE == Space::param) return reinterpret_cast<u8*>(address);
  bool shared = SPACE == Space::shared;
  if (SPACE == Space::generic) {
    const u64 offset = address - reinterpret_cast<u64>(w.block->shared);
    shared = offset < kSharedAt + 256 * 1024;
    if (shared) address = offset;
  }
  if (shared) {
    u8* const at = shared_at(w, i, lane, address, bytes);
    if (at != nullptr) note_shared(w, i, lane, static_cast<u32>(address), bytes, writes, reads, atomic);
    return at;
  }
  Buffer* const b = buffer_at(w, i, lane, address, bytes, bytes);
  if (b == nullptr) return nullptr;
  note_global(w, i, lane, b, address, bytes, writes, reads, atomic, SPACE == Space::readonly);
  if (i.flag && atomic) acquire_and_release(w, address);
  return reinterpret_cast<u8*>(address);
}

template <class T, Space SPACE>
void run_load(Warp& w, const Inst& i, u32 lanes) {
  const u32 count = static_cast<u32>(i.list.size());
  each_lane(lanes, [&](u32 l) {
    const u8* const at = access<SPACE>(w, i, l, count * sizeof(T), false, true, false);
    for (u32 j = 0; j < count; j++) {
      T value = static_cast<T>(~T(0));
      if (at != nullptr) memcpy(&value, at + j * sizeof(T), sizeof(T));
      if (i.list[j] == kNone) continue;
      if (i.wide) {
        slots<u64>(w, i.list[j])[l] = static_cast<u64>(value);
      } else {
        slots<u32>(w, i.list[j])[l] = static_cast<u32>(value);
      }
    }
  });
}
template <class T, Space SPACE>
void run_store(Warp& w, const Inst& i, u32 lanes) {
  const u32 count = static_cast<u32>(i.list.size());
  each_lane(lanes, [&](u32 l) {
    u8* const at = access<SPACE>(w, i, l, count * sizeof(T), true, false, false);
    for (u32 j = 0; at != nullptr && j < count; j++) {
      memcpy(at + j * sizeof(T), w.registers + i.list[j] + (i.wide ? 8 * l : 4 * l), sizeof(T));  // little endian
    }
  });
}

enum Atomic : u8 { kAdd, kMin, kExchange, kSwap };
const char* const kAtomics[] = {"add", "min", "exch", "cas"};
template <class T>
T combine(u8 kind, T old, T b, T c) {
  switch (kind) {
    case kAdd: return static_cast<T>(static_cast<u64>(old) + static_cast<u64>(b));
    case kMin: return std::min(old, b);
    case kExchange: return b;
    default: return old == b ? c : old;
  }
}
template <class T, Space SPACE>
void run_atomic(Warp& w, const Inst& i, u32 lanes) {
  each_lane(lanes, [&](u32 l) {
    u8* const at = access<SPACE>(w, i, l, sizeof(T), true, true, true);
    if (at == nullptr) return;
    T old;
    memcpy(&old, at, sizeof(T));
    const T b = value_of<T>(slots<T>(w, i.b)[l]), c = i.c == kNone ? T() : value_of<T>(slots<T>(w, i.c)[l]);
    const T fresh = combine(i.kind, old, b, c);
    memcpy(at, &fresh, sizeof(T));
    if (i.d != kNone) slots<T>(w, i.d)[l] = bits_of<T>(old);
  });
}
// ---- cp.async: it reads now, and writes as late as it may ----

void run_copy(Warp& w, const Inst& i, u32 lanes) {
  each_lane(lanes, [&](u32 l) {
    const u64 to = address_of(w, i, l), from = slots<u64>(w, i.b)[l] + static_cast<u64>(static_cast<i32>(i.list[0]));
    const u32 bytes = i.bits, read = i.c == kNone ? bytes : slots<u32>(w, i.c)[l];
    if (shared_at(w, i, l, to, bytes) == nullptr) return;
    Copy copy{static_cast<u32>(to), bytes, w.copy_group[l], static_cast<u8>(l), {}};
    if (read > bytes) fault_at(w, i, "async", "copies %u bytes, of %u", read, bytes);
    Buffer* const b = read == 0 ? nullptr : buffer_at(w, i, l, from, read, bytes);
    if (b != nullptr) {
      note_global(w, i, l, b, from, read, false, true, false);
      memcpy(copy.data, reinterpret_cast<void*>(from), std::min(read, bytes));
    }
    note_shared(w, i, l, copy.to, bytes, true, false, false, true);
    memset(w.block->shared + to, 0xff, bytes);
    w.copies.push_back(copy);
  });
}
void run_commit(Warp& w, const Inst&, u32 lanes) {
  each_lane(lanes, [&](u32 l) { w.copy_group[l]++; });
}
void run_wait(Warp& w, const Inst& i, u32 lanes) {
  const auto arrives = [&](const Copy& copy) {
    const i64 open = static_cast<i64>(w.copy_group[copy.lane]) - i.imm;
    if (!(lanes >> copy.lane & 1) || static_cast<i64>(copy.group) >= open) return false;
    for (u32 at = copy.to; at < copy.to + copy.bytes; at += 1u << w.block->granule_log) {
      Cell& c = w.block->cell(at);
      c.pending = false;
      c.written = w.clock[w.id];
      c.write_meeting = w.meeting;
    }
    memcpy(w.block->shared + copy.to, copy.data, copy.bytes);
    return true;
  };
  w.copies.erase(std::remove_if(w.copies.begin(), w.copies.end(), arrives), w.copies.end());
}
// PTX ISA, "ldmatrix": lane l of each eight names row l of a matrix; lane 4 g + t gets columns 2 t of row g.
void run_load_matrix(Warp& w, const Inst& i, u32) {
  const u32 count = static_cast<u32>(i.list.size());
  u16 rows[4][8][8];
  for (u32 l = 0; l < 8 * count; l++) {
    const u64 address = i.narrow_address ? address_of(w, i, l) : static_cast<u32>(address_of(w, i, l));
    const u8* const at = shared_at(w, i, l, address, 16);
    if (at != nullptr) note_shared(w, i, l, static_cast<u32>(address), 16, false, true, false);
    if (at != nullptr) memcpy(rows[l / 8][l % 8], at, 16);
  }
  for (u32 j = 0; j < count; j++) {
    u32* const out = slots<u32>(w, i.list[j]);
    for (u32 l = 0; l < 32; l++) {
      const u32 g = l / 4, t = l % 4;
      const u16 first = i.flag ? rows[j][2 * t][g] : rows[j][g][2 * t];
      const u16 second = i.flag ? rows[j][2 * t + 1][g] : rows[j][g][2 * t + 1];
      out[l] = first | u32{second} << 16;
    }
  }
}
void run_convert_address(Warp& w, const Inst& i, u32 lanes) {  // kind 1: from shared, 2: to shared
  const u64 window = reinterpret_cast<u64>(w.block->shared), *const a = slots<u64>(w, i.a);
  u64 out[32];
  for (int l = 0; l < 32; l++) out[l] = i.kind == 1 ? a[l] + window : i.kind == 2 ? a[l] - window : a[l];
  put(w, i.d, out, lanes);
}

template <template <class, Space> class MAKE, class T>
Execute in_space(Space space) {
  switch (space) {
    case Space::global: return MAKE<T, Space::global>::run;
    case Space::shared: return MAKE<T, Space::shared>::run;
    case Space::param: return MAKE<T, Space::param>::run;
    case Space::readonly: return MAKE<T, Space::readonly>::run;
    default: return MAKE<T, Space::generic>::run;
  }
}
template <class T, Space SPACE>
struct Load {
  static constexpr Execute run = run_load<T, SPACE>;
};
template <class T, Space SPACE>
struct Store {
  static constexpr Execute run = run_store<T, SPACE>;
};
template <class T, Space SPACE>
struct AtomicOf {
  static constexpr Execute run = run_atomic<T, SPACE>;
};

}  // namespace

Cell& Block::cell(u32 address) {
  Cell& c = cells[address >> granule_log];
  if (c.stamp != stamp) {
    c = Cell();
    c.stamp = stamp;
    std::fill_n(reads(address), num_warps, 0u);
  }
  return c;
}
u32* Block::reads(u32 address) {
  const size_t at = static_cast<size_t>(address >> granule_log) * num_warps;
  if (at + num_warps > read_clocks.size()) read_clocks.resize(2 * (at + num_warps));
  return &read_clocks[at];
}

int atomic_kind(const std::string& name) {
  const auto at = std::find(std::begin(kAtomics), std::end(kAtomics), name);
  return at == std::end(kAtomics) ? -1 : static_cast<int>(at - std::begin(kAtomics));
}
Execute find_load(const std::string& t, Space s) {
  if (t == "s8") return in_space<Load, i8>(s);
  if (t == "s16") return in_space<Load, i16>(s);
  if (t == "s32") return in_space<Load, i32>(s);
  switch (type_bytes(t)) {
    case 1: return in_space<Load, u8>(s);
    case 2: return in_space<Load, u16>(s);
    case 4: return in_space<Load, u32>(s);
    default: return in_space<Load, u64>(s);
  }
}
Execute find_store(const std::string& t, Space s) {
  switch (type_bytes(t)) {
    case 1: return in_space<Store, u8>(s);
    case 2: return in_space<Store, u16>(s);
    case 4: return in_space<Store, u32>(s);
    default: return in_space<Store, u64>(s);
  }
}
Execute find_atomic(const std::string& t, Space s) {
  if (t == "u32" || t == "b32") return in_space<AtomicOf, u32>(s);
  if (t == "s32") return in_space<AtomicOf, i32>(s);
  return t == "u64" ? in_space<AtomicOf, u64>(s) : nullptr;
}
Execute find_memory(const std::string& name) {
  if (name == "cp.async") return run_copy;
  if (name == "cp.commit") return run_commit;
  if (name == "cp.wait") return run_wait;
  if (name == "ldmatrix") return run_load_matrix;
  return name == "cvta" ? run_convert_address : nullptr;
}

}  // namespace ptx
