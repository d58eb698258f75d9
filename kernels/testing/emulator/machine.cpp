// Scheduling of the emulated machine: the threads of a block run as fibers, one at a time, in a chosen order.
#include <cstdio>
#include <map>
#include <string>

#include "tokenfilter_emulator.h"
#include "block.h"

namespace tkf::simt {

__thread Thread* current = nullptr;

namespace {

uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// Whether two threads are at the barrier of one line.
bool same_place(const Fiber& a, const Fiber& b) {
  return a.line == b.line && (a.name == b.name || strcmp(a.name, b.name) == 0);
}

}  // namespace

Machine& machine() {
  static __thread __attribute__((tls_model("initial-exec"))) Machine* made = nullptr;
  if (made == nullptr) {
    static thread_local Machine machine;
    made = &machine;
  }
  return *made;
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
    uint64_t random = mix(chosen_seed() + number);
    for (unsigned i = n; i > 1; i--) {
      random = mix(random);
      std::swap(by_rank_[i - 1], by_rank_[random % i]);
    }
  }
  for (unsigned i = 0; i < n; i++) {
    Fiber& fiber = *by_rank_[i];
    fiber.rank = i;
    warps_[fiber.warp].ranks[fiber.lane] = static_cast<uint16_t>(i);
  }
}

void Machine::run_block(uint64_t number, uint3 index) {
  block_number_++;
  arrange(number);
  ready_.assign((num_threads_ + 63) / 64, 0);
  for (unsigned i = 0; i < warps_.size(); i++) {
    const unsigned lanes = std::min(kWarp, num_threads_ - i * kWarp);
    warps_[i].live = lanes == kWarp ? kAllLanes : (1u << lanes) - 1;
    warps_[i].waiting = 0;
  }
  for (unsigned i = 0; i < num_threads_; i++) {
    Fiber& fiber = *fibers_[i];
    fiber.block_index = index;
    fiber.copies.clear();
    fiber.groups.clear();
    set_ready(fiber);
  }
  alive_ = ready_;
  live_ = num_threads_;
  at_barrier_ = 0;
  one_barrier_ = true;
  count_ = 0;
  for (NamedBarrier& barrier : named_) barrier = {0, 0};
  at_named_ = 0;
  if (dynamic_ != nullptr) memset(dynamic_, 0xff, dynamic_bytes_);
  async_.begin_block(dynamic_, dynamic_bytes_);
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

inline Fiber* Machine::next_ready(unsigned from) const {
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

inline void Machine::go_on() {
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

// Performs the operation if all live lanes of the mask are there, and lets them go on.
bool Machine::complete_meeting(unsigned warp, uint32_t mask, Perform perform) {
  Warp& w = warps_[warp];
  const uint32_t lanes = mask & w.live;
  if (lanes == 0 || (w.waiting & lanes) != lanes) return false;
  for (unsigned lane = 0; lane < kWarp && !w.alike; lane++) {
    if (!(lanes >> lane & 1)) continue;
    const Fiber& fiber = *fibers_[warp * kWarp + lane];
    if (fiber.mask != mask || fiber.perform != perform) return false;
  }
  Meeting meeting{lanes, w.data};
  perform(meeting);
  w.waiting &= ~lanes;
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    const unsigned rank = w.ranks[__builtin_ctz(left)];
    ready_[rank / 64] |= uint64_t(1) << rank % 64;
  }
  return true;
}

void Machine::meet(const char* name, uint32_t mask, void* data, Perform perform) {
  Fiber& me = self();
  if (!(mask >> me.lane & 1)) simt::die("%s: found mask %08x without the lane that calls, %u", name, mask, me.lane);
  me.name = name, me.mask = mask, me.perform = perform;
  set_waiting(me, State::kWarp);
  Warp& warp = warps_[me.warp];
  warp.alike = warp.waiting == 0 || (warp.alike && warp.mask == mask && warp.perform == perform);
  warp.mask = mask, warp.perform = perform;
  warp.data[me.lane] = data;
  warp.waiting |= 1u << me.lane;
  // The last to come goes on at once, except where warps take turns.
  const uint32_t lanes = mask & warp.live;
  const bool last = (warp.waiting & lanes) == lanes && complete_meeting(me.warp, mask, perform);
  if (!last || order_ == TKF_ORDER_INTERLEAVED) go_on();
  me.state = State::kReady;
}

bool Machine::complete_barrier() {
  if (at_barrier_ != live_ || live_ == 0) return false;
  const Fiber* first = nullptr;
  for (unsigned i = 0; i < num_threads_ && !one_barrier_; i++) {
    const Fiber& fiber = *fibers_[i];
    if (fiber.state != State::kBlock) continue;
    if (first == nullptr) first = &fiber;
    if (!same_place(fiber, *first)) {
      simt::die("found thread %u at the barrier of %s:%d and thread %u at that of %s:%d, expected one barrier for all",
                first->linear, first->name, first->line, fiber.linear, fiber.name, fiber.line);
    }
  }
  ready_ = alive_;
  at_barrier_ = 0;
  one_barrier_ = true;
  counted_ = count_;
  count_ = 0;
  async_.publish();
  return true;
}

int Machine::sync_block(const char* file, int line, bool predicate) {
  Fiber& me = self();
  me.name = file, me.line = line;
  set_waiting(me, State::kBlock);
  if (at_barrier_++ == 0) first_at_barrier_ = &me;
  one_barrier_ = one_barrier_ && same_place(me, *first_at_barrier_);
  count_ += predicate;
  complete_barrier();
  go_on();
  me.state = State::kReady;
  return counted_;
}

// Ends a named barrier if it has its threads. As on the device, a warp comes when all its live threads are there, and
// counts as a whole.
void Machine::complete_named(unsigned id) {
  NamedBarrier& barrier = named_[id];
  if (barrier.arrived == 0 || barrier.arrived + (num_threads_ - live_) < barrier.threads) return;
  unsigned come = 0;
  for (unsigned warp = 0; warp < warps_.size(); warp++) {
    bool all = warps_[warp].live != 0;
    for (unsigned lane = 0; lane < kWarp && all; lane++) {
      if (!(warps_[warp].live >> lane & 1)) continue;
      const Fiber& fiber = *fibers_[warp * kWarp + lane];
      all = fiber.state == State::kNamed && fiber.mask == id;
    }
    come += all ? kWarp : 0;
  }
  if (come < barrier.threads) return;
  for (unsigned i = 0; i < num_threads_; i++) {
    if (fibers_[i]->state == State::kNamed && fibers_[i]->mask == id) set_ready(*fibers_[i]);
  }
  at_named_ -= barrier.arrived;
  barrier = {0, 0};
  async_.publish();
}

void Machine::sync_named(unsigned id, unsigned threads, const char* file, int line) {
  Fiber& me = self();
  NamedBarrier& barrier = named_[id];
  if (barrier.arrived > 0 && barrier.threads != threads) {
    simt::die("found barrier %u of %u threads, and of %u at %s:%d, expected one number", id, barrier.threads, threads,
              file, line);
  }
  me.name = file, me.line = line, me.mask = id;
  set_waiting(me, State::kNamed);
  barrier.threads = threads;
  barrier.arrived++;
  at_named_++;
  complete_named(id);
  go_on();
}

void Machine::wait_for(const Event& event, const char* name, Place place) {
  Fiber& me = self();
  me.name = name, me.place = place, me.event = &event;
  set_waiting(me, State::kEvent);
  go_on();
}

void Machine::wake(const Event& event) {
  for (unsigned i = 0; i < num_threads_; i++) {
    Fiber& fiber = *fibers_[i];
    if (fiber.state == State::kEvent && fiber.event == &event) set_ready(fiber);
  }
}

// The current thread has run to its end. Returns when the fiber is a thread of the next block.
void Machine::finish() {
  Fiber& me = self();
  async_.end_thread(me.linear);
  set_waiting(me, State::kDone);
  alive_[me.rank / 64] &= ~(uint64_t(1) << me.rank % 64);
  live_--;
  if (live_ == 0) async_.end_block();
  Warp& warp = warps_[me.warp];
  warp.live &= ~(1u << me.lane);
  for (unsigned lane = 0; lane < kWarp && warp.waiting != 0; lane++) {  // those who would have waited for it
    if (!(warp.waiting >> lane & 1)) continue;
    const Fiber& other = *fibers_[me.warp * kWarp + lane];
    complete_meeting(me.warp, other.mask, other.perform);
  }
  complete_barrier();
  for (unsigned id = 0; id < kNamedBarriers && at_named_ > 0; id++) complete_named(id);
  go_on();
}

void Machine::deadlock() {
  std::map<std::string, unsigned> places;
  for (unsigned i = 0; i < num_threads_; i++) {
    const Fiber& fiber = *fibers_[i];
    char place[256] = "at their end";
    if (fiber.state == State::kBlock) snprintf(place, sizeof place, "at the barrier of %s:%d", fiber.name, fiber.line);
    if (fiber.state == State::kNamed) {
      snprintf(place, sizeof place, "at barrier %u for %u threads of %s:%d", fiber.mask, named_[fiber.mask].threads,
               fiber.name, fiber.line);
    }
    if (fiber.state == State::kEvent) {
      snprintf(place, sizeof place, "in %s of %s:%d (%s)", fiber.name, fiber.place.file, fiber.place.line,
               fiber.event->state().c_str());
    }
    if (fiber.state == State::kWarp) snprintf(place, sizeof place, "in %s with mask %08x", fiber.name, fiber.mask);
    places[place]++;
  }
  std::string all;
  for (const auto& [place, threads] : places) all += (all.empty() ? "" : ", ") + std::to_string(threads) + " " + place;
  simt::die("found threads that wait for ever: %s", all.c_str());
}

void Machine::die(const char* format, va_list arguments) {
  fprintf(stderr, "emulator");
  if (running()) fprintf(stderr, ": kernel %s", name_);
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

void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  machine().die(format, arguments);
}

void meet(const char* name, uint32_t mask, void* data, Perform perform) { machine().meet(name, mask, data, perform); }
void sync_named(unsigned id, unsigned threads, const char* file, int line) {
  machine().sync_named(id, threads, file, line);
}
int sync_block(const char* file, int line, bool predicate) { return machine().sync_block(file, line, predicate); }
void* shared_variable(const void* key, size_t bytes, size_t alignment) {
  return machine().variable(key, bytes, alignment);
}
void* shared_dynamic() { return machine().dynamic(); }

}  // namespace tkf::simt
