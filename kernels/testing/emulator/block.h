// The emulated machine's inside: the threads of a block, and who goes next.
#pragma once
#include <cstdarg>
#include <memory>
#include <vector>

#include "async.h"
#include "fiber.h"
#include "machine.h"

namespace tkf::simt {

constexpr unsigned kMaxThreads = 1024;
constexpr size_t kDefaultShared = 48 * 1024, kMaxShared = 227 * 1024;

enum class State { kReady, kWarp, kBlock, kNamed, kEvent, kDone };

struct Copy {
  void* to;
  const void* from;
  bool full;
};

struct alignas(64) Fiber : Thread {
  Context context;
  unsigned rank;  // place in the order
  State state;
  // What it waits for.
  const char* name;  // of the operation, or of a barrier's file
  uint32_t mask;     // kNamed: the barrier
  int line;
  Perform perform;
  Place place;  // of an event
  const Event* event;
  // cp.async: copies in the order of issue; `groups` holds the end of each group that was committed.
  std::vector<Copy> copies;
  std::vector<size_t> groups;
};

struct Warp {
  uint32_t live, waiting;  // waiting: in `meet`
  bool alike;              // those that wait came with this mask, and to this operation
  uint32_t mask;
  Perform perform;
  void* data[kWarp];         // of those that wait
  uint16_t ranks[kWarp];
};

// A barrier of the block other than that of __syncthreads.
struct NamedBarrier {
  unsigned threads, arrived;
};
constexpr unsigned kNamedBarriers = 16;

struct Variable {
  const void* key;
  void* memory;
  size_t bytes;
  uint64_t block;  // the last that used it
};

class Machine {
 public:
  ~Machine() { free_variables(); }
  void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
  bool running() const { return body_ != nullptr; }

  void meet(const char* name, uint32_t mask, void* data, Perform perform);
  int sync_block(const char* file, int line, bool predicate);
  void sync_named(unsigned id, unsigned threads, const char* file, int line);
  void wait_for(const Event& event, const char* name, Place place);
  void wake(const Event& event);
  Async& async() { return async_; }
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
  void complete_named(unsigned id);
  void finish();
  [[noreturn]] void deadlock();
  void free_variables();

  Stacks stacks_;
  std::vector<std::unique_ptr<Fiber>> fibers_;  // never fewer; each runs `entry` for ever
  std::vector<Warp> warps_;
  std::vector<Fiber*> by_rank_;
  std::vector<uint64_t> ready_, alive_;  // by rank
  Context outside_;
  Context* left_ = nullptr;

  const char* name_ = "";
  const std::function<void()>* body_ = nullptr;
  unsigned num_threads_ = 0, live_ = 0, at_barrier_ = 0;
  const Fiber* first_at_barrier_ = nullptr;  // the first to come
  bool one_barrier_ = true;  // all of them are at the same line
  int count_ = 0, counted_ = 0;  // predicates at the barrier
  int order_ = 0;
  uint64_t block_number_ = 0;  // over all launches
  NamedBarrier named_[kNamedBarriers];
  unsigned at_named_ = 0;
  Async async_;
  std::vector<Variable> variables_;
  void* dynamic_ = nullptr;
  size_t dynamic_bytes_ = 0;
};

// Of this thread of the operating system.
Machine& machine();

// As tkf_emulator_order set it.
int chosen_order();
uint64_t chosen_seed();

}  // namespace tkf::simt
