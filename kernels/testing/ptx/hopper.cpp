// What sm_90a has beside: mbarriers, boxes of tensors by TMA, wgmma. All happens as late as it may: a box lands when a thread
// waits for its barrier, a product reads its factors when its warp waits; until then their targets are NaN.
#include <algorithm>
#include <cmath>

#include "ptx.h"

namespace ptx {
namespace {

struct Barrier {
  u32 count = 0, pending = 0, phase = 0;
  i64 bytes = 0;  // announced, and not there yet
  std::array<u32, 32> clock{}, ended{};  // of those that arrived; of the last phase that ended
};
struct Box {
  u32 to, barrier, warp, clock;
  std::vector<u8> data;
};
struct Product {
  const Inst* inst;
  u64 a, b;
  bool adds;
  std::vector<std::array<u32, 32>> fragments;  // the first factor, where it is in registers
};
struct Accumulator {
  u32 at;
  std::array<u32, 32> values;
};
// Of a block.
std::map<u32, Barrier> barriers;
std::vector<Box> boxes;
struct OfWarp {
  u32 proxy_fences = 0;
  bool fenced = false, open = false;  // wgmma.fence was there; products that are not committed
  std::vector<Product> products;
  std::vector<Accumulator> accumulators;
};
std::array<OfWarp, 32> warps;

void merge(std::array<u32, 32>& into, const std::array<u32, 32>& from) {
  for (int j = 0; j < 32; j++) into[j] = std::max(into[j], from[j]);
}
void end_phase(Barrier& b) {
  if (b.pending != 0 || b.bytes != 0) return;
  b.phase++;
  b.pending = b.count;
  b.ended = b.clock;
}
Barrier* find_barrier(Warp& w, const Inst& i, u32 address) {
  const auto found = barriers.find(address);
  if (found != barriers.end()) return &found->second;
  fault_at(w, i, "mbarrier", "no barrier was started at shared+%u", address - kSharedAt);
  return nullptr;
}
void run_init(Warp& w, const Inst& i, u32 lanes) {
  each_lane(lanes, [&](u32 l) {
    Barrier b;
    b.count = b.pending = slots<u32>(w, i.b)[l];
    b.clock[w.id] = w.clock[w.id];
    b.ended = b.clock;
    barriers[static_cast<u32>(address_of(w, i, l))] = b;
  });
}
void run_arrive(Warp& w, const Inst& i, u32 lanes) {  // b: bytes that are announced, if any
  each_lane(lanes, [&](u32 l) {
    Barrier* const b = find_barrier(w, i, static_cast<u32>(address_of(w, i, l)));
    if (b == nullptr) return;
    if (i.b != kNone) b->bytes += slots<u32>(w, i.b)[l];
    if (b->pending == 0) return fault_at(w, i, "mbarrier", "more arrive than a phase expects");
    merge(b->clock, w.clock);
    b->pending--;
    end_phase(*b);
  });
  w.clock[w.id]++;
}
void land(Warp& w, Box& box) {
  memcpy(w.block->shared + box.to, box.data.data(), box.data.size());
  for (u32 at = box.to; at < box.to + box.data.size(); at += 1u << w.block->granule_log) {
    Cell& c = w.block->cell(at);
    c.pending = c.plain = c.atomic = false;
    c.written = box.clock;
    c.writer = static_cast<u8>(box.warp);
    c.write_lane = 0;
    c.write_meeting = 0;
  }
}
void run_try_wait(Warp& w, const Inst& i, u32 lanes) {
  each_lane(lanes, [&](u32 l) {
    const u32 address = static_cast<u32>(address_of(w, i, l)), parity = slots<u32>(w, i.b)[l];
    Barrier* const b = find_barrier(w, i, address);
    for (size_t j = 0; b != nullptr && (b->phase & 1) == parity && j < boxes.size();) {
      if (boxes[j].barrier != address) {
        j++;
        continue;
      }
      land(w, boxes[j]);
      b->clock[boxes[j].warp] = std::max(b->clock[boxes[j].warp], boxes[j].clock);
      b->bytes -= static_cast<i64>(boxes[j].data.size());
      boxes.erase(boxes.begin() + static_cast<i64>(j));
      end_phase(*b);
    }
    const bool done = b == nullptr || (b->phase & 1) != parity;
    if (done && b != nullptr) {
      const u32 own = w.clock[w.id];
      merge(w.clock, b->ended);
      w.clock[w.id] = own;
    }
    set_predicate(w, i.p, done ? kAll : 0, 1u << l);
  });
}

// A tensor map as the driver's stand-in writes it: of 16-bit values, rows of 128 bytes, swizzled.
constexpr u64 kMagic = 0x70616d2d78747074;
struct Map {
  u64 magic, address, sizes[3], strides[2];
  u32 box[3];
};
static_assert(sizeof(Map) <= 128, "a CUtensorMap");

void run_box(Warp& w, const Inst& i, u32 lanes) {
  Block& b = *w.block;
  each_lane(lanes, [&](u32 l) {
    const u32 to = static_cast<u32>(address_of(w, i, l)), barrier = slots<u32>(w, i.c)[l] + i.e;
    Map map;
    memcpy(&map, reinterpret_cast<const void*>(slots<u64>(w, i.b)[l]), sizeof map);
    if (map.magic != kMagic || i.list.size() != 3) return fault_at(w, i, "tensor-map", "found none");
    const u32 bytes = 2 * map.box[0] * map.box[1] * map.box[2], granule = 1u << b.granule_log;
    if (to % 1024 != 0) return fault_at(w, i, "misaligned", "a swizzled box at shared+%u", to - kSharedAt);
    if (to < kSharedAt || to + bytes > b.shared_end) {
      return fault_at(w, i, "outside", "a box of %u bytes at shared+%u, of %u", bytes, to - kSharedAt, b.shared_end - kSharedAt);
    }
    Box box{to, barrier, w.id, w.clock[w.id], std::vector<u8>(bytes)};
    i64 start[3];
    for (int j = 0; j < 3; j++) start[j] = static_cast<i32>(slots<u32>(w, i.list[j])[l]);
    const auto is_inside = [&](int j, i64 at) { return at >= 0 && at < static_cast<i64>(map.sizes[j]); };
    for (u32 row = 0; row < map.box[1] * map.box[2]; row++) {
      const i64 y = start[1] + row % map.box[1], z = start[2] + row / map.box[1];
      for (u32 e = 0; e < map.box[0] && is_inside(1, y) && is_inside(2, z); e++) {
        if (!is_inside(0, start[0] + e)) continue;
        const u64 from = map.address + 2 * static_cast<u64>(start[0] + e) + static_cast<u64>(y) * map.strides[0] +
                         static_cast<u64>(z) * map.strides[1];
        const Buffer* const buffer = find_buffer(from);
        if (buffer == nullptr || from < buffer->base || from + 2 > buffer->base + buffer->size) {
          return fault_at(w, i, "outside", "a box reads outside of its buffer");
        }
        if (buffer->tags != nullptr && buffer->tags[from - buffer->base] == 0) {
          fault_at(w, i, "unwritten", "a box reads byte %llu of a buffer, which nothing wrote",
                   static_cast<unsigned long long>(from - buffer->base));
        }
        const u32 at = row * 128 + e * 2;
        memcpy(&box.data[at ^ (at >> 7 & 7) << 4], reinterpret_cast<const void*>(from), 2);
      }
    }
    for (u32 at = to; at < to + bytes; at += granule) {
      Cell& c = b.cell(at);
      const u32* const reads = b.reads(at);
      bool free = !c.pending && (c.written == 0 || c.writer == w.id || w.clock[c.writer] >= c.written);
      for (u32 q = 0; q < b.num_warps; q++) free = free && (q == w.id || reads[q] <= w.clock[q]);
      if (!free) fault_at(w, i, "race", "a box over shared+%u, which is still in use", at - kSharedAt);
      c.pending = true;
      c.written = std::max(c.written, 1u);
    }
    memset(b.shared + to, 0xff, bytes);
    boxes.push_back(std::move(box));
  });
}

void run_proxy_fence(Warp& w, const Inst&, u32) { warps[w.id].proxy_fences++; }
void run_product_fence(Warp& w, const Inst&, u32) { warps[w.id].fenced = true; }
void run_product_commit(Warp& w, const Inst&, u32) { warps[w.id].open = false; }

void run_product(Warp& w, const Inst& i, u32) {
  OfWarp& own = warps[w.id];
  const u64 a = i.wide ? 0 : slots<u64>(w, i.a)[0], b = slots<u64>(w, i.b)[0];
  num_products++;
  if (!own.fenced) fault_at(w, i, "wgmma", "a product with no wgmma.fence before it");
  if (b >> 62 != 1 || (!i.wide && a >> 62 != 1) || (b >> 49 & 7) != 0) {
    fault_at(w, i, "wgmma", "a matrix that is not swizzled by 128 bytes");
  }
  Product product{&i, a, b, (operand_predicate(w, i) & 1) != 0, {}};
  for (u32 j = 0; j < i.bits; j++) {  // sums come at the wait
    u32* const sums = slots<u32>(w, i.list[j]);
    const auto is_it = [&](const Accumulator& each) { return each.at == i.list[j]; };
    if (std::any_of(own.accumulators.begin(), own.accumulators.end(), is_it)) continue;
    Accumulator kept{i.list[j], {}};
    std::copy_n(sums, 32, kept.values.begin());
    own.accumulators.push_back(kept);
    std::fill_n(sums, 32, 0x7fffffffu);
  }
  for (size_t j = i.bits; j < i.list.size(); j++) {
    std::array<u32, 32> values;
    std::copy_n(slots<u32>(w, i.list[j]), 32, values.begin());
    product.fragments.push_back(values);
  }
  own.products.push_back(product);
  own.open = true;
}
// Eight neighbours of a factor in shared memory: 16 bytes at an address before swizzling, which keeps them together.
void read_factor(Warp& w, const Inst& i, u64 address, float* out) {
  Block& b = *w.block;
  const u32 at = static_cast<u32>(address ^ (address >> 7 & 7) << 4);
  if (at < kSharedAt || at + 16 > b.shared_end) {
    fault_at(w, i, "outside", "a product reads shared+%u, of %u bytes", at - kSharedAt, b.shared_end - kSharedAt);
    std::fill_n(out, 8, NAN);
    return;
  }
  for (u32 part = at; part < at + 16; part += 1u << b.granule_log) {
    Cell& c = b.cell(part);
    const u32 place = part - kSharedAt;
    if (c.pending) {
      fault_at(w, i, "async", "a product reads shared+%u, to which a box is under way", place);
    } else if (c.written == 0) {
      fault_at(w, i, "unwritten", "a product reads shared+%u, which nothing wrote", place);
    } else if (c.writer != w.id && w.clock[c.writer] < c.written) {
      fault_at(w, i, "race", "a product reads shared+%u, which warp %u wrote with no barrier between", place, c.writer);
    } else if (c.plain && proxy_fences(c.writer) == c.fence) {
      fault_at(w, i, "proxy", "a product reads shared+%u, which warp %u wrote with no fence.proxy.async since", place, c.writer);
    }
    b.reads(part)[w.id] = w.clock[w.id];
    c.reader = static_cast<u8>(w.id);
    c.read_lane = 255;
    c.read_meeting = w.meeting;
  }
  u16 bits[8];
  memcpy(bits, b.shared + at, 16);
  for (int j = 0; j < 8; j++) out[j] = i.flag ? from_bf16(bits[j]) : from_half(bits[j]);
}
void multiply(Warp& w, const Product& product) {
  const Inst& i = *product.inst;
  const u32 columns = 2u * i.bits;
  const auto field = [](u64 descriptor, int at) { return (descriptor >> at & 0x3fff) << 4; };
  float a[16][16];
  std::vector<std::array<float, 16>> b(columns);
  for (u32 l = 0; l < 32 && i.wide; l++) {
    for (u32 j = 0; j < 4; j++) {
      const u32 x = product.fragments[j][l], row = l / 4 + j % 2 * 8, column = 2 * (l % 4) + j / 2 * 8;
      for (u32 e = 0; e < 2; e++) {
        const u16 bits = static_cast<u16>(x >> 16 * e);
        a[row][column + e] = i.flag ? from_bf16(bits) : from_half(bits);
      }
    }
  }
  for (u32 r = 0; r < 16 && !i.wide; r++) {
    const u32 row = w.id % 4 * 16 + r;
    const u64 at = field(product.a, 0) + row / 8 * field(product.a, 32) + row % 8 * 128;
    for (u32 k = 0; k < 16; k += 8) read_factor(w, i, at + 2 * k, &a[r][k]);
  }
  const u64 begin = field(product.b, 0), leading = field(product.b, 16), stride = field(product.b, 32);
  for (u32 n = 0; n < columns && !i.kind; n++) {
    for (u32 k = 0; k < 16; k += 8) read_factor(w, i, begin + n / 8 * stride + n % 8 * 128 + k * 2, &b[n][k]);
  }
  for (u32 n = 0; n < columns && i.kind; n += 8) {  // neighbours in memory are of different columns
    for (u32 k = 0; k < 16; k++) {
      float values[8];
      read_factor(w, i, begin + k / 8 * stride + k % 8 * 128 + n % 64 * 2 + n / 64 * leading, values);
      for (u32 j = 0; j < 8; j++) b[n + j][k] = values[j];
    }
  }
  for (u32 j = 0; j < i.bits; j++) {
    float* const sums = reinterpret_cast<float*>(slots<float>(w, i.list[j]));
    for (u32 l = 0; l < 32; l++) {
      const u32 row = l / 4 + j % 4 / 2 * 8, column = j / 4 * 8 + 2 * (l % 4) + j % 2;
      sums[l] = tensor_sum(product.adds ? sums[l] : 0, a[row], b[column].data());
    }
  }
}
void run_product_wait(Warp& w, const Inst& i, u32) {
  OfWarp& own = warps[w.id];
  if (own.open) fault_at(w, i, "wgmma", "a wait for products that were not committed");
  for (const Accumulator& each : own.accumulators) std::copy_n(each.values.begin(), 32, slots<u32>(w, each.at));
  for (const Product& each : own.products) multiply(w, each);
  own = OfWarp{own.proxy_fences, false, false, {}, {}};
}

}  // namespace

u32 proxy_fences(u32 warp) { return warps[warp].proxy_fences; }
void begin_hopper() {
  barriers.clear();
  boxes.clear();
  warps = {};
}
void end_hopper(Block& block) {
  const Warp& w = block.warps[0];
  if (!boxes.empty()) fault_at(w, w.kernel->code[0], "async", "a block ends with boxes under way");
  for (const OfWarp& each : warps) {
    if (!each.products.empty()) fault_at(w, w.kernel->code[0], "async", "a warp ends with products under way");
  }
}
// Writes a map; false where it is not one of those that are known here.
bool write_map(void* to, int type, u32 rank, void* address, const u64* sizes, const u64* strides, const u32* box,
               const u32* steps, int interleave, int swizzle, int fill) {
  Map map{kMagic, reinterpret_cast<u64>(address), {}, {}, {}};
  bool known = rank == 3 && map.address % 16 == 0 && (type == 6 || type == 9) && interleave == 0 && swizzle == 3 && fill == 0;
  for (int j = 0; known && j < 3; j++) {
    known = sizes[j] != 0 && box[j] != 0 && box[j] <= 256 && steps[j] == 1;
    map.sizes[j] = sizes[j];
    map.box[j] = box[j];
  }
  for (int j = 0; known && j < 2; j++) {
    known = strides[j] % 16 == 0 && strides[j] < u64{1} << 40;
    map.strides[j] = strides[j];
  }
  if (known && map.box[0] != 64) known = false;
  memset(to, 0, 128);
  memcpy(to, &map, sizeof map);
  return known;
}
Execute find_hopper(const std::string& op) {
  const auto begins = [&](const char* with) { return op.rfind(with, 0) == 0; };
  if (begins("mbarrier.init.shared")) return run_init;
  if (begins("mbarrier.arrive.shared") || begins("mbarrier.arrive.expect_tx.shared")) return run_arrive;
  if (begins("mbarrier.try_wait.parity.shared")) return run_try_wait;
  if (begins("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier")) return run_box;
  if (op == "fence.proxy.async.shared::cta" || op == "fence.proxy.async") return run_proxy_fence;
  if (op == "wgmma.fence.sync.aligned") return run_product_fence;
  if (op == "wgmma.commit_group.sync.aligned") return run_product_commit;
  if (op == "wgmma.wait_group.sync.aligned") return run_product_wait;
  return begins("wgmma.mma_async.sync.aligned.m64n") ? run_product : nullptr;
}

}  // namespace ptx
