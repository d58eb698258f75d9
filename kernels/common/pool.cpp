#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tkf {
namespace {

constexpr uint64_t kNextMask = 0xFFFFFFFFu;
// Some 600 microseconds of spinning: longer than what TypeScript does between two ops. To be woken takes 75.
#if defined(__wasm__)
constexpr int kSpins = 400000;  // without an instruction that pauses
#else
constexpr int kSpins = 32000;
#endif

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

inline void yield() {
#if !defined(__wasm__)
  std::this_thread::yield();
#endif
}

inline bool has_task(uint64_t job) { return (job & kNextMask) < (job >> 32); }

}  // namespace

bool Pool::is_idle() const { return !stopping_.load() && !has_task(job_.load(std::memory_order_seq_cst)); }

Pool::~Pool() { stop(); }

#if defined(__wasm__)

Pool::Pool(int threads) : threads_(threads) {}

void Pool::stop() {
  stopping_ = true;
  wake();
  while (served_.load() > 0) continue;
}

void Pool::wake() {
  wakes_.fetch_add(1);
  __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(&wakes_), 1u << 16);
}

// Whatever wakes it after it has read `wakes_` has changed that, and the wait ends at once.
void Pool::sleep() {
  const int seen = wakes_.load();
  if (is_idle()) __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(&wakes_), seen, -1);
}

void Pool::serve(int thread) {
  work(thread);
  served_.fetch_sub(1);
}

void Pool::fail() {
  failed_ = true;
  served_.fetch_sub(1);
}

#else

Pool::Pool(int threads) : threads_(threads), workers_(new std::thread[threads > 1 ? threads - 1 : 1]) {
  try {
    for (int i = 1; i < threads; i++) workers_[i - 1] = std::thread([this, i] { work(i); });
  } catch (...) {
    stop();
    throw;
  }
}

void Pool::stop() {
  stopping_ = true;
  wake();
  for (int i = 1; i < threads_; i++) {
    if (workers_[i - 1].joinable()) workers_[i - 1].join();
  }
}

void Pool::wake() {
  { std::lock_guard<std::mutex> lock(mutex_); }
  wake_.notify_all();
}

void Pool::sleep() {
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [this] { return !is_idle(); });
}

#endif

bool Pool::take(int64_t* task) {
  uint64_t job = job_.load(std::memory_order_acquire);
  while (has_task(job)) {
    if (job_.compare_exchange_weak(job, job + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      *task = static_cast<int64_t>(job & kNextMask);
      return true;
    }
  }
  return false;
}

void Pool::run(int64_t tasks, TaskFunction function, void* argument) {
  if (threads_ == 1 || tasks <= 1) {
    for (int64_t task = 0; task < tasks; task++) function(argument, task, 0);
    return;
  }
  while (tasks > static_cast<int64_t>(kNextMask)) {  // cannot happen with sane grains, but must not go wrong
    tasks--;
    function(argument, tasks, 0);
  }
  function_ = function;
  argument_ = argument;
  done_.store(0, std::memory_order_relaxed);
  job_.store(static_cast<uint64_t>(tasks) << 32, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) wake();
  int64_t task;
  while (take(&task)) {
    function(argument, task, 0);
    done_.fetch_add(1, std::memory_order_acq_rel);
  }
  for (int spins = 0; done_.load(std::memory_order_acquire) != tasks; spins++) {
#if defined(__wasm__)
    if (failed_.load(std::memory_order_relaxed)) __builtin_trap();
#endif
    spins < kSpins ? relax() : yield();
  }
}

void Pool::work(int thread) {
  while (!stopping_.load(std::memory_order_relaxed)) {
    int64_t task;
    int spins = 0;
    while (!take(&task) && ++spins < kSpins) relax();
    if (spins < kSpins) {
      function_(argument_, task, thread);
      done_.fetch_add(1, std::memory_order_acq_rel);
      continue;
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    sleep();
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
}

}  // namespace tkf
