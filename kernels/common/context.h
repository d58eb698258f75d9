// What one context holds: threads, the kernels of its instruction-set level, scratch memory, an optional BLAS, and
// the message of the last failure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../kv_filter_scan/signs.h"
#include "kernels.h"
#include "pool.h"

namespace tkf {

// 64-byte aligned memory that only grows.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  bool reserve(size_t bytes);
  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace tkf

struct tkf_context {
  explicit tkf_context(int threads) : pool(threads), thread_scratch(new tkf::Scratch[threads]) {}

  tkf::Pool pool;
  int level = TKF_LEVEL_BASE;
  const tkf::Kernels* kernels = nullptr;
  tkf::SgemmFunction sgemm = nullptr;
  char blas_name[64] = "built-in matrix product";

  // Memory of one thread during one call, and memory that all threads of a call share.
  std::unique_ptr<tkf::Scratch[]> thread_scratch;
  tkf::Scratch shared_scratch;
  tkf::SignCache signs;

  char message[512] = "";
  char description[256] = "";

  int threads() const { return pool.threads(); }
};
