// Rows of a table, and whole tensors, as floats.
#include "../common/blocks.h"

namespace tkf::TKF_NAMESPACE {

int32_t tensor_dequantize(tkf_context* context, const tkf_tensor_dequantize_args& a) {
  const uint8_t* values = as<uint8_t>(a.values);
  float* out = as<float>(a.out);
  with_format(a.dtype, [&](auto format) {
    using Format = decltype(format);
    constexpr int64_t step = Format::VALUES;
    parallel_ranges(context, (a.count + step - 1) / step, 16384 / step, [&](int64_t begin, int64_t end, int) {
      const int64_t first = begin * step, last = smaller(end * step, a.count);
      decode_row<Format>(values + row_bytes<Format>(first), last - first, out + first);
    });
  });
  return TKF_STATUS_OK;
}

int32_t embedding_gather(tkf_context* context, const tkf_embedding_gather_args& a) {
  const uint8_t* table = as<uint8_t>(a.table);
  const int32_t* ids = as<int32_t>(a.ids);
  float* out = as<float>(a.out);
  const int64_t cols = a.cols;
  const float scale = static_cast<float>(a.scale);
  with_format(a.dtype, [&](auto format) {
    using Format = decltype(format);
    parallel_ranges(context, a.rows, larger(int64_t{1}, 16384 / cols), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; row++) {
        float* to = out + row * cols;
        decode_row<Format>(table + ids[row] * row_bytes<Format>(cols), cols, to);
        if (scale != 1) {
          for (int64_t i = 0; i < cols; i++) to[i] *= scale;
        }
      }
    });
  });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
