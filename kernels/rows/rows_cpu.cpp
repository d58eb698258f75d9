// Rows in and out of tensors: gathered by index, scattered back with an addition, stored with rounding, measured.
#include <cmath>

#include "../common/simd.h"

namespace tkf {
namespace TKF_NAMESPACE {

static int64_t value_bytes(int dtype) { return dtype == TKF_DTYPE_F32 ? 4 : 2; }

// count values of f16 or bf16 as floats.
static void widen(int dtype, const uint8_t* in, int64_t count, float* out) {
  int64_t i = 0;
  if (dtype == TKF_DTYPE_F16) {
    for (; i + W <= count; i += W) store(out + i, load_f16(in + 2 * i));
    for (; i < count; i++) out[i] = f16_to_float(read_u16(in + 2 * i));
  } else {
    for (; i + W <= count; i += W) store(out + i, load_bf16(in + 2 * i));
    for (; i < count; i++) out[i] = bf16_to_float(read_u16(in + 2 * i));
  }
}

static void narrow(int dtype, const float* in, int64_t count, uint8_t* out) {
  int64_t i = 0;
  if (dtype == TKF_DTYPE_F16) {
    for (; i + W <= count; i += W) store_f16(out + 2 * i, load(in + i));
    for (; i < count; i++) {
      const uint16_t half = float_to_f16(in[i]);
      memcpy(out + 2 * i, &half, 2);
    }
  } else {
    for (; i < count; i++) {
      const uint16_t half = float_to_bf16(in[i]);
      memcpy(out + 2 * i, &half, 2);
    }
  }
}

static void rows_gather(tkf_context* context, int dtype, const uint8_t* x, int64_t, int64_t cols,
                        const int32_t* indices, int64_t rows, int out_dtype, uint8_t* out) {
  const int64_t in_row = cols * value_bytes(dtype), out_row = cols * value_bytes(out_dtype);
  parallel_ranges(context, rows, larger(int64_t{1}, 32768 / cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const uint8_t* from = x + indices[row] * in_row;
      uint8_t* to = out + row * out_row;
      if (dtype == out_dtype) {
        memcpy(to, from, static_cast<size_t>(in_row));
      } else {
        widen(dtype, from, cols, reinterpret_cast<float*>(to));
      }
    }
  });
}

static void rows_scatter_add(tkf_context* context, float* x, int64_t, int64_t cols, const int32_t* indices,
                             int64_t rows, const float* delta) {
  parallel_ranges(context, rows, larger(int64_t{1}, 16384 / cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      float* to = x + indices[row] * cols;
      const float* from = delta + row * cols;
      int64_t i = 0;
      for (; i + W <= cols; i += W) store(to + i, load(to + i) + load(from + i));
      for (; i < cols; i++) to[i] += from[i];
    }
  });
}

static void rows_store(tkf_context* context, const float* x, int64_t rows, int64_t cols, int out_dtype, uint8_t* out) {
  const int64_t out_row = cols * value_bytes(out_dtype);
  parallel_ranges(context, rows, larger(int64_t{1}, 32768 / cols), [&](int64_t begin, int64_t end, int) {
    const float* from = x + begin * cols;
    const int64_t count = (end - begin) * cols;
    if (out_dtype == TKF_DTYPE_F32) {
      memcpy(out + begin * out_row, from, static_cast<size_t>(count) * 4);
    } else {
      narrow(out_dtype, from, count, out + begin * out_row);
    }
  });
}

static void rows_norm(tkf_context* context, const float* x, int64_t rows, int64_t cols, double* out) {
  const int64_t grain = larger(int64_t{1}, 8192 / larger(cols, int64_t{1}));
  parallel_ranges(context, rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) out[row] = sqrt(sum_of_squares(x + row * cols, cols));
  });
}

}  // namespace TKF_NAMESPACE
}  // namespace tkf
