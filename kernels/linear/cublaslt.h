// Matrix products by cuBLASLt, NVIDIA's library, which is loaded at run time where it is installed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../common/cuda/cuda.h"

namespace tkf {

// out [rows, n] of row stride `out_stride` = (add: +=) x [rows, k] times the transpose of weight [n, k], both of `type`
// (TKF_DTYPE_F32, F16 or BF16) and contiguous. Sums are in float32, and float32 is never rounded to TF32.
struct LtProduct {
  int type;
  const void* x;
  const void* weight;
  int64_t rows, n, k;
  float* out;
  int64_t out_stride;
  bool add;
};

// Device memory that a product may use.
constexpr size_t kCublasLtWorkspace = size_t{32} << 20;

// A loaded cuBLASLt with its handle on the device that was current then.
class CublasLt {
 public:
  virtual ~CublasLt() = default;
  // Its version, as in "cuBLASLt 13.0.2".
  virtual const char* name() const = 0;
  // The failure of the last product, in words.
  virtual void failure(char* words, size_t words_bytes) const = 0;
  // False where cuBLASLt has no algorithm for such a product: *status is then TKF_STATUS_OK; else what went wrong.
  virtual bool multiply(const LtProduct& product, void* workspace, cudaStream_t stream, int32_t* status) = 0;
};

// nullptr where the file is missing or no cuBLASLt; `why` then says so.
std::unique_ptr<CublasLt> cublaslt_load(const char* path, char* why, size_t why_bytes);

}  // namespace tkf
