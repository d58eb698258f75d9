// Launches of the emulated machine: blocks one after the other, shared memory, cp.async, and the emulator's ABI.
#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <mutex>

#include "tokenfilter_emulator.h"
#include "block.h"
#include "runtime.h"
#include "warp.h"

namespace tkf::simt {
namespace {

// Of each thread its own: programs in several threads do not disturb each other.
thread_local int t_order = TKF_ORDER_ASCENDING;
thread_local uint64_t t_seed = 0, t_launches = 0, t_threads = 0;

void* allocate(size_t bytes, size_t alignment) {
  void* memory = nullptr;
  if (bytes != 0 && posix_memalign(&memory, alignment, bytes) != 0) simt::die("found no memory for %zu bytes", bytes);
  return memory;
}

std::mutex g_allowed_mutex;
std::map<const void*, size_t> g_allowed;  // dynamic shared memory by kernel

size_t allowed_shared(const void* kernel) {
  const std::lock_guard<std::mutex> lock(g_allowed_mutex);
  const auto found = g_allowed.find(kernel);
  return found == g_allowed.end() ? kDefaultShared : std::max(kDefaultShared, found->second);
}

// Launches of each kernel: where TKF_EMULATOR_TRACE names a file, it gets, when the process ends, a line a kernel: its
// offset in this library, the most threads and bytes of dynamic shared memory that a block of it had, and the library.
class Trace {
 public:
  Trace() : path_(getenv("TKF_EMULATOR_TRACE")) {}
  ~Trace() {
    FILE* file = path_ == nullptr ? nullptr : fopen(path_, "a");
    if (file == nullptr) return;
    for (const auto& [kernel, most] : launches_) {
      Dl_info info;
      if (dladdr(kernel, &info) == 0) continue;
      const auto offset = static_cast<const char*>(kernel) - static_cast<const char*>(info.dli_fbase);
      fprintf(file, "%zx %zu %zu %s\n", static_cast<size_t>(offset), most.threads, most.shared, info.dli_fname);
    }
    fclose(file);
  }
  void add(const void* kernel, size_t threads, size_t shared) {
    if (path_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    Most& most = launches_[kernel];
    most = {std::max(most.threads, threads), std::max(most.shared, shared)};
  }

 private:
  struct Most {
    size_t threads, shared;
  };
  const char* path_;
  std::mutex mutex_;
  std::map<const void*, Most> launches_;
} g_trace;

}  // namespace

int chosen_order() { return t_order; }
uint64_t chosen_seed() { return t_seed; }

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
  order_ = chosen_order();

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
  t_launches++;
  t_threads += blocks * num_threads_;
}

void* Machine::variable(const void* key, size_t bytes, size_t alignment) {
  Variable* found = nullptr;
  size_t total = 0;
  for (Variable& variable : variables_) {
    if (variable.key == key) found = &variable;
    total += variable.bytes;
  }
  if (found == nullptr) {
    if (total + bytes > kDefaultShared) {
      simt::die("found %zu bytes of fixed shared memory, expected 48 KB at most", total + bytes);
    }
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

void check_shared(const char* name, const void* address, size_t bytes) {
  if (!machine().is_shared(address, bytes)) {
    die("%s: found %p, expected %zu bytes in shared memory", name, address, bytes);
  }
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) die("%s: found %p, expected 16-byte alignment", name, address);
}

cudaError_t allow_shared(const void* kernel, size_t bytes) {
  if (bytes > kMaxShared) return note_error(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> lock(g_allowed_mutex);
  g_allowed[kernel] = bytes;
  return cudaSuccess;
}

void launch(const char* name, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
            std::function<void()> body) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  const bool valid = threads >= 1 && threads <= kMaxThreads && block.z <= 64 && grid.x >= 1 && grid.x <= INT32_MAX &&
                     grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
  if (!valid) return static_cast<void>(note_error(cudaErrorInvalidConfiguration));
  if (shared_bytes > allowed_shared(kernel)) return static_cast<void>(note_error(cudaErrorInvalidValue));
  if (machine().running()) die("found a launch within a kernel, expected launches by the host");
  g_trace.add(kernel, threads, shared_bytes);
  perform([=] { machine().run(name, grid, block, shared_bytes, body); });
}

}  // namespace tkf::simt

namespace tkf {
using namespace simt;

// ---- cp.async ----

void cp_async_16(void* shared, const void* global, bool full) {
  check_shared("cp_async_16", shared, 16);
  if (full && reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    die("cp_async_16: found source %p, expected 16-byte alignment", global);
  }
  memset(shared, 0xff, 16);
  static_cast<Fiber*>(current)->copies.push_back({shared, global, full});
}

void cp_async_commit() {
  Fiber& me = *static_cast<Fiber*>(current);
  me.groups.push_back(me.copies.size());
}

void cp_async_wait(unsigned newest) {
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

}  // namespace tkf

int32_t tkf_emulator_order(int32_t order, uint64_t seed) {
  if (order < 0 || order >= TKF_NUM_ORDERS) return TKF_STATUS_VALUE;
  tkf::simt::t_order = order;
  tkf::simt::t_seed = seed;
  return TKF_STATUS_OK;
}
uint64_t tkf_emulator_num_launches(void) { return tkf::simt::t_launches; }
uint64_t tkf_emulator_num_threads(void) { return tkf::simt::t_threads; }
uint64_t tkf_emulator_num_products(void) { return tkf::simt::machine().async().num_products(); }
