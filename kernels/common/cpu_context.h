// What a context of the CPU library holds: threads, its instruction-set level, scratch memory, an optional BLAS.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../kv_filter_scan/signs.h"
#include "../kv_filter_scan/sorted_scores.h"
#include "../rope/angles.h"
#include "check.h"
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

struct CpuContext final : tkf_context {
  explicit CpuContext(int threads) : pool(threads), thread_scratch(new Scratch[threads]) {}

  Pool pool;
  int level = TKF_LEVEL_BASE;
  const Kernels* kernels = nullptr;
  SgemmFunction sgemm = nullptr;
  Products products = kExact;
  char blas_name[64] = "built-in matrix product";

  // Memory of one thread during one call, and memory that all threads of a call share.
  std::unique_ptr<Scratch[]> thread_scratch;
  Scratch shared_scratch;
  SignCache signs;
  SortedScores sorted_scores;
  AngleCache angles;

  int threads() const { return pool.threads(); }
};

inline CpuContext* cpu(tkf_context* context) { return static_cast<CpuContext*>(context); }
inline const CpuContext* cpu(const tkf_context* context) { return static_cast<const CpuContext*>(context); }

// Loads the BLAS at `path` and takes its sgemm; each call of it must stay on the calling thread, since the pool calls it
// from all threads at once.
int32_t load_blas(tkf_context* context, const char* path, Check& check);

}  // namespace tkf
