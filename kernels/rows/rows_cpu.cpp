// Rows in and out of tensors: copied, by index and with rounding, scattered back with an addition, measured.
#include <cmath>

#include "../common/simd.h"

namespace tkf::TKF_NAMESPACE {

static int64_t value_bytes(int dtype) { return dtype == TKF_DTYPE_F32 ? 4 : 2; }

// count values of f16 or bf16 as floats.
static void widen(int dtype, const uint8_t* in, int64_t count, float* out) {
  with_type(dtype, [&](auto type) {
    using Type = decltype(type);
    const auto* from = reinterpret_cast<const typename Type::Value*>(in);
    int64_t i = 0;
    for (; i + W <= count; i += W) store(out + i, Type::load(from + i));
    for (; i < count; i++) out[i] = Type::one(from + i);
  });
}

static void narrow(int dtype, const float* in, int64_t count, uint8_t* out) {
  const bool f16 = dtype == TKF_DTYPE_F16;
  int64_t i = 0;
  for (; f16 && i + W <= count; i += W) store_f16(out + 2 * i, load(in + i));
  for (; i < count; i++) {
    const uint16_t half = f16 ? float_to_f16(in[i]) : float_to_bf16(in[i]);
    memcpy(out + 2 * i, &half, 2);
  }
}

int32_t rows_copy(tkf_context* context, const tkf_rows_copy_args& a) {
  const int32_t* indices = as<int32_t>(a.indices);
  const int dtype = a.dtype, out_dtype = a.out_dtype;
  const int64_t cols = a.cols, in_row = cols * value_bytes(dtype), out_row = cols * value_bytes(out_dtype);
  // Neighbours that stay neighbours are one.
  const auto copy = [&](const tkf_buffer& x, const tkf_buffer& out, int64_t from, int64_t to, int64_t some) {
    const uint8_t* const source = as<uint8_t>(x) + from * in_row;
    uint8_t* const target = as<uint8_t>(out) + (a.at + to) * out_row;
    if (dtype == out_dtype) memmove(target, source, static_cast<size_t>(some * in_row));
    else if (dtype != TKF_DTYPE_F32) widen(dtype, source, some * cols, reinterpret_cast<float*>(target));
    else narrow(out_dtype, reinterpret_cast<const float*>(source), some * cols, target);
  };
  // Rows that move within a tensor do so one after the other.
  const int64_t grain = a.x.data == a.out.data ? a.rows : larger(int64_t{1}, 32768 / cols);
  parallel_ranges(context, a.rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end;) {
      const int64_t first = row, from = indices == nullptr ? row : indices[row];
      do row++;
      while (row < end && (indices == nullptr || indices[row] == from + row - first));
      copy(a.x, a.out, from, first, row - first);
      if (a.out2.data != nullptr) copy(a.x2, a.out2, from, first, row - first);
    }
  });
  return TKF_STATUS_OK;
}

int32_t rows_scatter_add(tkf_context* context, const tkf_rows_scatter_add_args& a) {
  float* x = as<float>(a.x);
  const float* delta = as<float>(a.delta);
  const int32_t* indices = as<int32_t>(a.indices);
  const int64_t cols = a.cols;
  parallel_ranges(context, a.rows, larger(int64_t{1}, 16384 / cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      float* to = x + indices[row] * cols;
      const float* from = delta + row * cols;
      int64_t i = 0;
      for (; i + W <= cols; i += W) store(to + i, load(to + i) + load(from + i));
      for (; i < cols; i++) to[i] += from[i];
    }
  });
  return TKF_STATUS_OK;
}

int32_t rows_norm(tkf_context* context, const tkf_rows_norm_args& a) {
  const float* x = as<float>(a.x);
  double* out = as<double>(a.out);
  const int64_t cols = a.cols;
  const int64_t grain = larger(int64_t{1}, 8192 / larger(cols, int64_t{1}));
  parallel_ranges(context, a.rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) out[row] = sqrt(sum_of_squares(x + row * cols, cols));
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
