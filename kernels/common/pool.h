// A persistent pool of threads for jobs of many short tasks. Workers spin for a moment before they sleep, because a
// decode step makes hundreds of jobs in a row; a worker that wakes late costs nothing, the others take its tasks.
// WebAssembly starts no threads: workers of the caller's own call `serve`, and the caller of `run` spins, since the main
// thread of a page may not wait.
#pragma once
#include <atomic>
#include <cstdint>
#if !defined(__wasm__)
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#endif

#include "kernels.h"

namespace tkf {

class Pool {
 public:
  // `threads` includes the caller. May throw std::system_error or std::bad_alloc.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Runs tasks 0 .. tasks-1, each once, on all threads; returns when all are done. Not reentrant.
  void run(int64_t tasks, TaskFunction function, void* argument);

#if defined(__wasm__)
  // A worker enters, serves until the pool stops, and has left when `serve` returns. One that failed says so, and `run`
  // traps from then on.
  void enter() { served_.fetch_add(1); }
  void serve(int thread);
  void fail();
#endif

 private:
  void work(int thread);
  bool take(int64_t* task);
  bool is_idle() const;
  void sleep();
  void wake();
  void stop();

  int threads_;
  // The job in one word, so that a task is claimed by one compare-and-swap: its count of tasks above, the next task
  // below. A claim that succeeds is a claim on the present job, whatever the thread knew before.
  alignas(64) std::atomic<uint64_t> job_{0};
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  TaskFunction function_ = nullptr;
  void* argument_ = nullptr;
  std::atomic<bool> stopping_{false};
#if defined(__wasm__)
  std::atomic<int> wakes_{0};
  std::atomic<int> served_{0};
  std::atomic<bool> failed_{false};
#else
  std::mutex mutex_;
  std::condition_variable wake_;
  std::unique_ptr<std::thread[]> workers_;
#endif
};

}  // namespace tkf
