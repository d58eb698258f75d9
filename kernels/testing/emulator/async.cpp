// Shared memory as TMA and wgmma see it, mbarriers, and TMA's copies. Source: PTX ISA, "mbarrier" and
// "cp.async.bulk.tensor"; CUDA programming guide, "Tensor memory access".
#include "async.h"

#include "block.h"

namespace tkf::simt {
namespace {

constexpr uint64_t kSignature = 0x6d62617200000000u;  // of an mbarrier; the low half is its number
constexpr int64_t kMostCounted = (1 << 20) - 1;       // arrivals, and bytes either way

}  // namespace

// ---- shared memory ----

void Async::begin_block(void* dynamic, size_t bytes) {
  memory_ = static_cast<unsigned char*>(dynamic);
  bytes_ = bytes;
  viewed_ = fenced_ = false;
  barriers_.clear();
  groups_.clear();
}

void Async::end_block() {
  for (const auto& barrier : barriers_) {
    if (!barrier->copies.empty()) die("load_box: found a block that ends while a copy is under way");
  }
}

unsigned char* Async::view() {
  if (!viewed_) view_.assign(bytes_, 0xff);
  viewed_ = true;
  return view_.data();
}

void Async::fence() {
  fenced_ = true;
  for (const auto& barrier : barriers_) barrier->shown = true;
}

void Async::publish() {
  if (!fenced_) return;
  fenced_ = false;
  if (bytes_ != 0) memcpy(view(), memory_, bytes_);
}

uint32_t Async::address_of(const void* shared) const {
  const auto* at = static_cast<const unsigned char*>(shared);
  if (memory_ == nullptr || at < memory_ || at > memory_ + bytes_) {
    die("shared_address: found %p, expected dynamic shared memory: no other is modelled", shared);
  }
  return kDynamicAddress + static_cast<uint32_t>(at - memory_);
}

size_t Async::offset_of(const char* name, uint32_t address, size_t bytes) const {
  if (address < kDynamicAddress || bytes > bytes_ || address - kDynamicAddress > bytes_ - bytes) {
    die("%s: found shared address %u, expected %zu bytes in dynamic shared memory", name, address, bytes);
  }
  return address - kDynamicAddress;
}

void Async::read(uint32_t address, uint16_t (&values)[8]) {
  const size_t at = offset_of("wgmma", address, sizeof values);
  memcpy(values, view() + at, sizeof values);
  if (memcmp(values, memory_ + at, sizeof values) != 0) memset(values, 0xff, sizeof values);
}

// ---- mbarriers ----

std::string Mbarrier::state() const {
  return "phase " + std::to_string(phase) + " lacks " + std::to_string(pending) + " of " + std::to_string(expected) +
         " arrivals and " + std::to_string(bytes) + " bytes";
}

Mbarrier& Async::find(const char* name, const uint64_t* object) {
  if (!machine().is_shared(object, sizeof *object) || reinterpret_cast<uintptr_t>(object) % sizeof *object != 0) {
    die("%s: found %p, expected 8 bytes in shared memory, 8-byte aligned", name, static_cast<const void*>(object));
  }
  const uint64_t number = *object ^ kSignature;
  if (number >= barriers_.size() || barriers_[number]->object != object) {
    die("%s: found no mbarrier at %p, expected one that barrier_start has made", name,
        static_cast<const void*>(object));
  }
  return *barriers_[number];
}

void Async::start(uint64_t* object, int arrivals) {
  if (!machine().is_shared(object, sizeof *object) || reinterpret_cast<uintptr_t>(object) % sizeof *object != 0) {
    die("barrier_start: found %p, expected 8 bytes in shared memory, 8-byte aligned", static_cast<void*>(object));
  }
  if (arrivals < 1 || arrivals > kMostCounted) {
    die("barrier_start: found %d arrivals, expected 1 .. 2^20 - 1", arrivals);
  }
  const uint64_t number = *object ^ kSignature;
  if (number < barriers_.size() && barriers_[number]->object == object) {
    die("barrier_start: found an mbarrier at %p, expected other memory", static_cast<void*>(object));
  }
  *object = kSignature ^ barriers_.size();
  barriers_.push_back(std::make_unique<Mbarrier>());
  Mbarrier& made = *barriers_.back();
  made.object = object;
  made.expected = made.pending = static_cast<uint32_t>(arrivals);
}

void Async::arrive(const char* name, uint64_t* object, uint32_t bytes) {
  Mbarrier& barrier = find(name, object);
  if (barrier.complete() || !barrier.observed) {
    die("%s: found an arrival after the end of phase %llu, expected a wait for that phase first", name,
        static_cast<unsigned long long>(barrier.complete() ? barrier.phase : barrier.phase - 1));
  }
  if (barrier.pending == 0) die("%s: found an arrival beyond the %u of a phase", name, barrier.expected);
  barrier.bytes += bytes;
  if (barrier.bytes > kMostCounted) die("%s: found %u bytes, expected less than 2^20 in a phase", name, bytes);
  barrier.pending--;
  settle(barrier);
}

// Ends the phase if all is there. What copies have brought is there when a thread waits for it, and not before.
void Async::settle(Mbarrier& barrier) {
  if (barrier.pending == 0 && barrier.bytes < 0) {
    die("load_box: found %lld bytes more than barrier_expect has announced", static_cast<long long>(-barrier.bytes));
  }
  if (barrier.complete() && (barrier.copies.empty() || barrier.waiting > 0)) advance(barrier);
}

void Async::advance(Mbarrier& barrier) {
  publish();
  for (const BoxCopy& copy : barrier.copies) land(copy);
  barrier.copies.clear();
  barrier.phase++;
  barrier.pending = barrier.expected;
  barrier.observed = barrier.waiting > 0;
  barrier.waiting = 0;
  machine().wake(barrier);
}

void Async::wait(uint64_t* object, uint32_t parity, Place place) {
  Mbarrier& barrier = find("barrier_wait", object);
  if (parity > 1) die("barrier_wait: found parity %u, expected 0 or 1", parity);
  for (;;) {
    if (barrier.complete() && (barrier.phase & 1) == parity) advance(barrier);
    if ((barrier.phase & 1) != parity) break;  // the phase before this one has that parity
    barrier.waiting++;
    machine().wait_for(barrier, "barrier_wait", place);
  }
  barrier.observed = true;
}

// ---- TMA ----

void Async::load(void* shared, const CUtensorMap* map, const int (&at)[3], uint64_t* object) {
  const char* const name = "load_box";
  Mbarrier& barrier = find(name, object);
  if (!barrier.shown) die("%s: found no fence_async since barrier_start", name);
  const BoxCopy copy{read_map(name, map), address_of(shared), {at[0], at[1], at[2]}};
  const TensorMap& m = copy.map;
  if (copy.to % 128 != 0) die("%s: found shared address %u, expected 128-byte alignment", name, copy.to);
  const size_t bytes = size_t{128} * m.box[1] * m.box[2], offset = offset_of(name, copy.to, bytes);
  if (memcmp(view() + offset, memory_ + offset, bytes) != 0) {
    die("%s: found writes to its destination, expected fence_async and a barrier after them", name);
  }
  if (barrier.complete() || !barrier.observed) {
    die("%s: found a copy after the end of a phase, expected a wait for that phase first", name);
  }
  memset(view() + offset, 0xff, bytes);
  memset(memory_ + offset, 0xff, bytes);
  barrier.copies.push_back(copy);
  barrier.bytes -= static_cast<int64_t>(bytes);
  if (barrier.bytes < -kMostCounted) die("%s: found 2^20 bytes or more in a phase, expected less", name);
  settle(barrier);
}

// Pieces of 16 bytes go where the swizzle puts them: bits 4 .. 6 of the address ^= bits 7 .. 9. What lies outside of
// the tensor is 0.
void Async::land(const BoxCopy& copy) {
  const TensorMap& m = copy.map;
  const auto inside = [&](int64_t at, int dimension) {
    return at >= 0 && static_cast<uint64_t>(at) < m.sizes[dimension];
  };
  for (int row = 0; row < m.box[1] * m.box[2]; row++) {
    const int64_t y = int64_t{copy.at[1]} + row % m.box[1], z = int64_t{copy.at[2]} + row / m.box[1];
    for (int piece = 0; piece < 8; piece++) {
      unsigned char values[16] = {};
      for (int i = 0; i < 8 && inside(y, 1) && inside(z, 2); i++) {
        const int64_t x = int64_t{copy.at[0]} + piece * 8 + i;
        if (!inside(x, 0)) continue;
        memcpy(values + 2 * i, m.address + z * m.strides[1] + y * m.strides[0] + 2 * x, 2);
      }
      const uint32_t straight = copy.to + static_cast<uint32_t>(row * 128 + piece * 16);
      const size_t offset = (straight ^ (straight >> 3 & 0x70)) - kDynamicAddress;
      memcpy(memory_ + offset, values, 16);
      memcpy(view() + offset, values, 16);
    }
  }
}

uint32_t shared_address(const void* shared) { return machine().async().address_of(shared); }

}  // namespace tkf::simt

namespace tkf::hopper {

using simt::machine;

void barrier_start(uint64_t* barrier, int arrivals) { machine().async().start(barrier, arrivals); }
void barrier_arrive(uint64_t* barrier) { machine().async().arrive("barrier_arrive", barrier, 0); }
void barrier_expect(uint64_t* barrier, uint32_t bytes) { machine().async().arrive("barrier_expect", barrier, bytes); }
void barrier_wait(uint64_t* barrier, uint32_t parity, const char* file, int line) {
  machine().async().wait(barrier, parity, {file, line});
}
void fence_async() { machine().async().fence(); }
void load_box(void* shared, const CUtensorMap* map, int column, int head, int row, uint64_t* barrier) {
  machine().async().load(shared, map, {column, head, row}, barrier);
}
void wgmma_commit() { machine().async().commit(); }

}  // namespace tkf::hopper
