// The emulated machine: runs the threads of a block as fibers, one at a time, in a chosen order.
#include "machine.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../../include/tokenfilter_emulator.h"
#include "fiber.h"
#include "runtime.h"
#include "warp.h"

namespace tkf::simt {

__thread Thread* current = nullptr;

namespace {

constexpr unsigned kMaxThreads = 1024;
constexpr size_t kDefaultShared = 48 * 1024, kMaxShared = 227 * 1024;

std::atomic<int> g_order{TKF_ORDER_ASCENDING};
std::atomic<uint64_t> g_seed{0}, g_launches{0}, g_threads{0};

enum class State { kReady, kWarp, kBlock, kDone };

struct Copy {
  void* to;
  const void* from;
  bool full;
};

struct Fiber : Thread {
  Context context;
  unsigned rank;  // place in the order
  State state;
  // What it waits for.
  const char* name;  // of the operation, or the file of a barrier
  int line;
  uint32_t mask;
  void* data;
  Perform perform;
  // cp.async: copies in the order of issue; `groups` holds the end of each group that was committed.
  std::vector<Copy> copies;
  std::vector<size_t> groups;
};

struct Warp {
  uint32_t live, waiting;  // waiting: in `meet`
};

struct Variable {
  const void* key;
  void* memory;
  size_t bytes;
  uint64_t block;  // the last that used it
};

uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

class Machine {
 public:
  ~Machine() { free_variables(); }
  void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
  bool running() const { return body_ != nullptr; }

  void meet(const char* name, uint32_t mask, void* data, Perform perform);
  int sync_block(const char* file, int line, bool predicate);
  void yield();
  void* variable(const void* key, size_t bytes, size_t alignment);
  void* dynamic() const { return dynamic_; }
  bool is_shared(const void* address, size_t bytes) const;
  [[noreturn]] void die(const char* format, va_list arguments);

 private:
  static void entry();
  Fiber& self() const { return *static_cast<Fiber*>(current); }
  void run_block(uint64_t number, uint3 index);
  void arrange(uint64_t number);
  void set_ready(Fiber& fiber) {
    fiber.state = State::kReady;
    ready_[fiber.rank / 64] |= uint64_t(1) << fiber.rank % 64;
  }
  void set_waiting(Fiber& fiber, State state) {
    fiber.state = state;
    ready_[fiber.rank / 64] &= ~(uint64_t(1) << fiber.rank % 64);
  }
  Fiber* next_ready(unsigned from) const;
  void go_on();  // leaves the current fiber for one that is ready
  bool complete_meeting(unsigned warp, uint32_t mask, Perform perform);
  bool complete_barrier();
  void finish();
  [[noreturn]] void deadlock();
  void free_variables();

  Stacks stacks_;
  std::vector<std::unique_ptr<Fiber>> fibers_;  // never fewer; each runs `entry` for ever
  std::vector<Warp> warps_;
  std::vector<Fiber*> by_rank_;
  std::vector<uint64_t> ready_;
  Context outside_;
  Context* left_ = nullptr;

  const char* name_ = "";
  const std::function<void()>* body_ = nullptr;
  unsigned num_threads_ = 0, live_ = 0, at_barrier_ = 0;
  int count_ = 0, counted_ = 0;  // predicates at the barrier
  int order_ = 0;
  uint64_t block_number_ = 0;  // over all launches
  std::vector<Variable> variables_;
  void* dynamic_ = nullptr;
  size_t dynamic_bytes_ = 0;
};

Machine& machine() {
  static thread_local Machine machine;
  return machine;
}

void* allocate(size_t bytes, size_t alignment) {
  void* memory = nullptr;
  if (bytes != 0 && posix_memalign(&memory, alignment, bytes) != 0) simt::die("found no memory for %zu bytes", bytes);
  return memory;
}

void Machine::free_variables() {
  for (Variable& variable : variables_) free(variable.memory);
  variables_.clear();
}

void Machine::run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  name_ = name;
  num_threads_ = block.x * block.y * block.z;
  if (fibers_.empty() && !stacks_.reserve(kMaxThreads)) simt::die("found no memory for stacks");
  while (fibers_.size() < num_threads_) {
    const size_t i = fibers_.size();
    fibers_.push_back(std::make_unique<Fiber>());
    // Tops of stacks at different offsets: all at the same would share a few lines of the cache.
    make_context(fibers_[i]->context, stacks_.stack(i), stacks_.stack_bytes(), i * 5 % 509 * 64, entry);
  }
  for (unsigned i = 0; i < num_threads_; i++) {
    Fiber& fiber = *fibers_[i];
    fiber.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    fiber.linear = i, fiber.lane = i % kWarp, fiber.warp = i / kWarp;
    fiber.block_dim = block, fiber.grid_dim = grid;
  }
  warps_.resize((num_threads_ + kWarp - 1) / kWarp);
  by_rank_.resize(num_threads_);
  dynamic_bytes_ = shared_bytes;
  dynamic_ = allocate(shared_bytes, 128);
  body_ = &body;
  order_ = g_order;

  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks; i++) {
    const uint64_t at = order_ == TKF_ORDER_REVERSED ? blocks - 1 - i : i;
    run_block(at, {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                   static_cast<unsigned>(at / (uint64_t(grid.x) * grid.y))});
  }
  body_ = nullptr;
  free(dynamic_);
  dynamic_ = nullptr;
  free_variables();
  g_launches++;
  g_threads += blocks * num_threads_;
}

// Gives every thread its rank.
void Machine::arrange(uint64_t number) {
  const unsigned n = num_threads_;
  for (unsigned i = 0; i < n; i++) by_rank_[i] = fibers_[i].get();
  if (order_ == TKF_ORDER_DESCENDING) {
    std::reverse(by_rank_.begin(), by_rank_.end());
  } else if (order_ == TKF_ORDER_INTERLEAVED) {
    unsigned rank = 0;
    for (unsigned lane = 0; lane < kWarp; lane++) {
      for (unsigned i = lane; i < n; i += kWarp) by_rank_[rank++] = fibers_[i].get();
    }
  } else if (order_ != TKF_ORDER_ASCENDING) {
    uint64_t random = mix(g_seed + number);
    for (unsigned i = n; i > 1; i--) {
      random = mix(random);
      std::swap(by_rank_[i - 1], by_rank_[random % i]);
    }
  }
  for (unsigned i = 0; i < n; i++) by_rank_[i]->rank = i;
}

void Machine::run_block(uint64_t number, uint3 index) {
  block_number_++;
  arrange(number);
  ready_.assign((num_threads_ + 63) / 64, 0);
  for (unsigned i = 0; i < warps_.size(); i++) {
    const unsigned lanes = std::min(kWarp, num_threads_ - i * kWarp);
    warps_[i] = {lanes == kWarp ? kAllLanes : (1u << lanes) - 1, 0};
  }
  for (unsigned i = 0; i < num_threads_; i++) {
    Fiber& fiber = *fibers_[i];
    fiber.block_index = index;
    fiber.copies.clear();
    fiber.groups.clear();
    set_ready(fiber);
  }
  live_ = num_threads_;
  at_barrier_ = 0;
  count_ = 0;
  if (dynamic_ != nullptr) memset(dynamic_, 0xff, dynamic_bytes_);
  Fiber* first = by_rank_[0];
  current = first;
  switch_context(outside_, first->context, &left_);
  current = nullptr;
}

void Machine::entry() {
  Machine& machine = simt::machine();
  arrive(machine.self().context, *machine.left_);
  for (;;) {
    (*machine.body_)();
    machine.finish();
  }
}

Fiber* Machine::next_ready(unsigned from) const {
  const size_t words = ready_.size();
  size_t word = from / 64;
  uint64_t bits = word < words ? ready_[word] & ~uint64_t(0) << from % 64 : 0;
  for (size_t i = 0; i <= words; i++) {
    if (bits != 0) return by_rank_[word * 64 + static_cast<unsigned>(__builtin_ctzll(bits))];
    word = word + 1 < words ? word + 1 : 0;
    bits = ready_[word];
  }
  return nullptr;
}

void Machine::go_on() {
  Fiber& me = self();
  Fiber* next = next_ready(order_ == TKF_ORDER_INTERLEAVED ? me.rank + 1 : 0);
  if (next == &me) return;
  if (next == nullptr) {
    if (live_ != 0) deadlock();
    switch_context(me.context, outside_, &left_);
    return;
  }
  current = next;
  switch_context(me.context, next->context, &left_);
}

void Machine::yield() {
  Fiber& me = self();
  Fiber* next = next_ready(me.rank + 1);
  if (next == &me || next == nullptr) return;
  current = next;
  switch_context(me.context, next->context, &left_);
}

// Performs the operation if all live lanes of the mask are there, and lets them go on.
bool Machine::complete_meeting(unsigned warp, uint32_t mask, Perform perform) {
  const uint32_t lanes = mask & warps_[warp].live;
  if (lanes == 0 || (warps_[warp].waiting & lanes) != lanes) return false;
  Meeting meeting{lanes, {}};
  for (unsigned lane = 0; lane < kWarp; lane++) {
    if (!(lanes >> lane & 1)) continue;
    const Fiber& fiber = *fibers_[warp * kWarp + lane];
    if (fiber.mask != mask || fiber.perform != perform) return false;
    meeting.data[lane] = fiber.data;
  }
  perform(meeting);
  warps_[warp].waiting &= ~lanes;
  for (unsigned lane = 0; lane < kWarp; lane++) {
    if (lanes >> lane & 1) set_ready(*fibers_[warp * kWarp + lane]);
  }
  return true;
}

void Machine::meet(const char* name, uint32_t mask, void* data, Perform perform) {
  Fiber& me = self();
  if (!(mask >> me.lane & 1)) simt::die("%s: found mask %08x without the lane that calls, %u", name, mask, me.lane);
  me.name = name, me.mask = mask, me.data = data, me.perform = perform;
  set_waiting(me, State::kWarp);
  warps_[me.warp].waiting |= 1u << me.lane;
  // The last to come goes on at once, except where warps take turns.
  if (complete_meeting(me.warp, mask, perform) && order_ != TKF_ORDER_INTERLEAVED) return;
  go_on();
}

bool Machine::complete_barrier() {
  if (at_barrier_ != live_ || live_ == 0) return false;
  const Fiber* first = nullptr;
  for (unsigned i = 0; i < num_threads_; i++) {
    Fiber& fiber = *fibers_[i];
    if (fiber.state != State::kBlock) continue;
    if (first == nullptr) first = &fiber;
    if (fiber.line != first->line || strcmp(fiber.name, first->name) != 0) {
      simt::die("found thread %u at the barrier of %s:%d and thread %u at that of %s:%d, expected one barrier for all",
                first->linear, first->name, first->line, fiber.linear, fiber.name, fiber.line);
    }
  }
  for (unsigned i = 0; i < num_threads_; i++) {
    if (fibers_[i]->state == State::kBlock) set_ready(*fibers_[i]);
  }
  at_barrier_ = 0;
  counted_ = count_;
  count_ = 0;
  return true;
}

int Machine::sync_block(const char* file, int line, bool predicate) {
  Fiber& me = self();
  me.name = file, me.line = line;
  set_waiting(me, State::kBlock);
  at_barrier_++;
  count_ += predicate;
  complete_barrier();
  go_on();
  return counted_;
}

// The current thread has run to its end. Returns when the fiber is a thread of the next block.
void Machine::finish() {
  Fiber& me = self();
  set_waiting(me, State::kDone);
  live_--;
  Warp& warp = warps_[me.warp];
  warp.live &= ~(1u << me.lane);
  for (unsigned lane = 0; lane < kWarp; lane++) {  // those who would have waited for it
    if (!(warp.waiting >> lane & 1)) continue;
    const Fiber& other = *fibers_[me.warp * kWarp + lane];
    complete_meeting(me.warp, other.mask, other.perform);
  }
  complete_barrier();
  go_on();
}

void Machine::deadlock() {
  std::map<std::string, unsigned> places;
  for (unsigned i = 0; i < num_threads_; i++) {
    const Fiber& fiber = *fibers_[i];
    char place[256] = "at their end";
    if (fiber.state == State::kBlock) snprintf(place, sizeof place, "at the barrier of %s:%d", fiber.name, fiber.line);
    if (fiber.state == State::kWarp) snprintf(place, sizeof place, "in %s with mask %08x", fiber.name, fiber.mask);
    places[place]++;
  }
  std::string all;
  for (const auto& [place, threads] : places) all += (all.empty() ? "" : ", ") + std::to_string(threads) + " " + place;
  simt::die("found threads that wait for ever: %s", all.c_str());
}

void Machine::die(const char* format, va_list arguments) {
  fprintf(stderr, "emulator: kernel %s", name_);
  if (current != nullptr) {
    const Thread& at = *current;
    fprintf(stderr, ", block (%u, %u, %u), thread %u", at.block_index.x, at.block_index.y, at.block_index.z, at.linear);
  }
  fprintf(stderr, ": ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  fflush(stderr);
  abort();
}

void* Machine::variable(const void* key, size_t bytes, size_t alignment) {
  Variable* found = nullptr;
  size_t total = 0;
  for (Variable& variable : variables_) {
    if (variable.key == key) found = &variable;
    total += variable.bytes;
  }
  if (found == nullptr) {
    if (total + bytes > kDefaultShared) simt::die("found %zu bytes of fixed shared memory, expected 48 KB at most", total + bytes);
    variables_.push_back({key, allocate(bytes, alignment), bytes, 0});
    found = &variables_.back();
  }
  if (found->block != block_number_) {
    memset(found->memory, 0xff, bytes);
    found->block = block_number_;
  }
  return found->memory;
}

bool Machine::is_shared(const void* address, size_t bytes) const {
  const auto inside = [=](const void* memory, size_t size) {
    const auto from = reinterpret_cast<uintptr_t>(memory), at = reinterpret_cast<uintptr_t>(address);
    return memory != nullptr && at >= from && bytes <= size && at - from <= size - bytes;
  };
  if (inside(dynamic_, dynamic_bytes_)) return true;
  for (const Variable& variable : variables_) {
    if (inside(variable.memory, variable.bytes)) return true;
  }
  return false;
}

std::mutex g_allowed_mutex;
std::map<const void*, size_t> g_allowed;  // dynamic shared memory by kernel

size_t allowed_shared(const void* kernel) {
  const std::lock_guard<std::mutex> lock(g_allowed_mutex);
  const auto found = g_allowed.find(kernel);
  return found == g_allowed.end() ? kDefaultShared : std::max(kDefaultShared, found->second);
}

}  // namespace

void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  machine().die(format, arguments);
}

void meet(const char* name, uint32_t mask, void* data, Perform perform) { machine().meet(name, mask, data, perform); }
void sync_block(const char* file, int line) { machine().sync_block(file, line, false); }
int sync_block_count(const char* file, int line, bool predicate) { return machine().sync_block(file, line, predicate); }
void yield() { machine().yield(); }
void* shared_variable(const void* key, size_t bytes, size_t alignment) { return machine().variable(key, bytes, alignment); }
void* shared_dynamic() { return machine().dynamic(); }

void check_shared(const char* name, const void* address, size_t bytes) {
  if (!machine().is_shared(address, bytes)) die("%s: found %p, expected %zu bytes in shared memory", name, address, bytes);
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) die("%s: found %p, expected 16-byte alignment", name, address);
}

cudaError_t allow_shared(const void* kernel, size_t bytes) {
  if (bytes > kMaxShared) return note_error(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> lock(g_allowed_mutex);
  g_allowed[kernel] = bytes;
  return cudaSuccess;
}

void launch(const char* name, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> body) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  const bool valid = threads >= 1 && threads <= kMaxThreads && block.z <= 64 && grid.x >= 1 && grid.x <= INT32_MAX &&
                     grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
  if (!valid) return static_cast<void>(note_error(cudaErrorInvalidConfiguration));
  if (shared_bytes > allowed_shared(kernel)) return static_cast<void>(note_error(cudaErrorInvalidValue));
  if (machine().running()) die("found a launch within a kernel, expected launches by the host");
  const auto work = [=] { machine().run(name, grid, block, shared_bytes, body); };
  if (!record(work)) work();
}

// ---- cp.async ----

void copy_async(void* shared, const void* global, bool full) {
  check_shared("cp_async_16", shared, 16);
  if (full && reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    die("cp_async_16: found source %p, expected 16-byte alignment", global);
  }
  memset(shared, 0xff, 16);
  static_cast<Fiber*>(current)->copies.push_back({shared, global, full});
}

void copy_async_commit() {
  Fiber& me = *static_cast<Fiber*>(current);
  me.groups.push_back(me.copies.size());
}

void copy_async_wait(unsigned newest) {
  Fiber& me = *static_cast<Fiber*>(current);
  if (me.groups.size() <= newest) return;
  const size_t groups = me.groups.size() - newest, end = me.groups[groups - 1];
  for (size_t i = 0; i < end; i++) {
    const Copy& copy = me.copies[i];
    if (copy.full) memcpy(copy.to, copy.from, 16);
    else memset(copy.to, 0, 16);
  }
  me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<ptrdiff_t>(end));
  me.groups.erase(me.groups.begin(), me.groups.begin() + static_cast<ptrdiff_t>(groups));
  for (size_t& group : me.groups) group -= end;
}

}  // namespace tkf::simt

int32_t tkf_emulator_order(int32_t order, uint64_t seed) {
  if (order < 0 || order >= TKF_NUM_ORDERS) return TKF_STATUS_VALUE;
  tkf::simt::g_order = order;
  tkf::simt::g_seed = seed;
  return TKF_STATUS_OK;
}
uint64_t tkf_emulator_num_launches(void) { return tkf::simt::g_launches; }
uint64_t tkf_emulator_num_threads(void) { return tkf::simt::g_threads; }
