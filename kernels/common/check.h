// Checks of what crosses the ABI. The first failure wins, gives the status, and writes the context's message:
// what was found and what was expected.
#pragma once
#include <cfloat>
#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <initializer_list>

#include "context.h"

namespace tkf {

// Values of one block of an element type and its bytes; 0 and 0 for an unknown type.
struct BlockSize {
  int64_t values, bytes;
};
inline BlockSize block_size(int32_t dtype) {
  switch (dtype) {
    case TKF_DTYPE_F32: return {1, 4};
    case TKF_DTYPE_F16: return {1, 2};
    case TKF_DTYPE_BF16: return {1, 2};
#define TKF_CASE(name, values, bytes) \
  case TKF_DTYPE_##name: return {values, bytes};
    TKF_BLOCK_TYPES(TKF_CASE)
#undef TKF_CASE
    default: return {0, 0};
  }
}
// Bytes that a pointer to such values must be aligned to; blocks are read byte by byte.
inline int64_t alignment_of(int32_t dtype) {
  return dtype == TKF_DTYPE_F32 ? 4 : dtype == TKF_DTYPE_F16 || dtype == TKF_DTYPE_BF16 ? 2 : 1;
}

class Check {
 public:
  explicit Check(tkf_context* context) : context_(context) {
    if (context == nullptr) status_ = TKF_STATUS_NULL;
  }

  bool ok() const { return status_ == TKF_STATUS_OK; }
  bool on_device() const { return context_ != nullptr && context_->on_device; }
  // Whether buffers may be read here: what lies in device memory, the kernels check.
  bool readable() const { return ok() && !on_device(); }
  int32_t status() const { return status_; }

  // Records a failure; returns its status, so that an entry point can `return check.fail(...)`.
  __attribute__((format(printf, 3, 4))) int32_t fail(int32_t status, const char* format, ...) {
    if (!ok()) return status_;
    status_ = status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context_->message, sizeof context_->message, format, arguments);
    va_end(arguments);
    return status_;
  }
  // The status after the work was handed on: the body's own, else that of its launches, where kernels are launched.
  int32_t done(int32_t status) {
    if (status == TKF_STATUS_MEMORY && context_->launch_status == TKF_STATUS_OK) return fail_memory();
    status_ = status != TKF_STATUS_OK ? status : context_->launch_status;
    context_->launch_status = TKF_STATUS_OK;
    return status_;
  }
  int32_t fail_memory() { return fail(TKF_STATUS_MEMORY, "found too little memory for scratch space"); }

  // A size within [least, most].
  void size(const char* name, int64_t found, int64_t least = 0, int64_t most = INT64_MAX) {
    if (ok() && (found < least || found > most)) {
      fail(TKF_STATUS_SHAPE, "found %s = %" PRId64 ", expected %" PRId64 " to %" PRId64, name, found, least, most);
    }
  }
  // Fails with `status` unless `condition` holds.
  void require(bool condition, int32_t status, const char* message) {
    if (ok() && !condition) fail(status, "%s", message);
  }
  void scale(double scale) {
    require(std::fabs(scale) <= FLT_MAX, TKF_STATUS_VALUE, "found a scale that is not finite in f32, expected a number");
  }
  void dtype(const char* name, int32_t found,
             std::initializer_list<int32_t> allowed = {TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16}) {
    if (!ok()) return;
    for (int32_t code : allowed) {
      if (code == found) return;
    }
    fail(TKF_STATUS_DTYPE, "found element type %d for \"%s\", expected one that this op takes", found, name);
  }
  // Any known element type, in whole blocks along `last`.
  void blocks(const char* name, int32_t dtype, int64_t last) {
    if (!ok()) return;
    const BlockSize block = block_size(dtype);
    if (block.values == 0) {
      fail(TKF_STATUS_DTYPE, "found unknown element type %d for \"%s\"", dtype, name);
    } else if (last % block.values != 0) {
      fail(TKF_STATUS_SHAPE, "found rows of %" PRId64 " values in \"%s\", expected a multiple of the block of %" PRId64,
           last, name, block.values);
    }
  }
  // Product of sizes >= 0; overflow of a signed 64-bit number fails.
  int64_t product(std::initializer_list<int64_t> sizes) {
    int64_t product = 1;
    for (int64_t size : sizes) {
      if (ok() && __builtin_mul_overflow(product, size, &product)) {
        fail(TKF_STATUS_SHAPE, "found sizes whose product overflows 64 bits");
      }
    }
    return ok() ? product : 0;
  }
  // Bytes of `count` values in whole blocks (see `blocks`).
  int64_t bytes_of(int32_t dtype, int64_t count) {
    if (!ok()) return 0;
    const BlockSize block = block_size(dtype);
    return product({count / block.values, block.bytes});
  }
  // At least `need` bytes. A buffer may be NULL where it is not needed at all.
  void buffer(const char* name, const tkf_buffer& buffer, int64_t need, int64_t alignment) {
    if (!ok() || need == 0) return;
    if (buffer.data == nullptr) {
      fail(TKF_STATUS_NULL, "found NULL for \"%s\", expected %" PRId64 " bytes", name, need);
    } else if (buffer.bytes < static_cast<uint64_t>(need)) {
      fail(TKF_STATUS_BUFFER, "found %" PRIu64 " bytes in \"%s\", expected %" PRId64, buffer.bytes, name, need);
    } else if (reinterpret_cast<uintptr_t>(buffer.data) % static_cast<uintptr_t>(alignment) != 0) {
      fail(TKF_STATUS_BUFFER, "found \"%s\" misaligned, expected an address divisible by %" PRId64, name, alignment);
    }
  }
  // An array of T of a shape.
  template <class T>
  void array(const char* name, const tkf_buffer& found, std::initializer_list<int64_t> shape) {
    buffer(name, found, product({product(shape), sizeof(T)}), sizeof(T));
  }
  // Values of an element type, of a shape whose last size is whole blocks (see `blocks`).
  void values(const char* name, const tkf_buffer& found, int32_t dtype, std::initializer_list<int64_t> shape) {
    buffer(name, found, bytes_of(dtype, product(shape)), alignment_of(dtype));
  }
  // Numbers of a checked buffer, each within [0, end).
  void indices(const char* name, const tkf_buffer& checked, int64_t count, int64_t end) {
    const int32_t* numbers = as<int32_t>(checked);
    for (int64_t i = 0; readable() && i < count; i++) {
      if (numbers[i] < 0 || numbers[i] >= end) {
        fail(TKF_STATUS_VALUE, "found %d at index %" PRId64 " of \"%s\", expected 0 to %" PRId64, numbers[i], i, name,
             end - 1);
      }
    }
  }

  // The list of a decode step's kept slots and its length, or neither: all. The CUDA library alone has such lists.
  void kept(const tkf_buffer& list, const tkf_buffer& count, int64_t rows) {
    if (!ok() || (list.data == nullptr && count.data == nullptr)) return;
    require(context_->on_device, TKF_STATUS_UNSUPPORTED, "found a list of kept rows, expected it on a device alone");
    array<int32_t>("kept", list, {rows});
    array<int32_t>("kept_count", count, {1});
  }

 private:
  tkf_context* context_;
  int32_t status_ = TKF_STATUS_OK;
};

}  // namespace tkf
