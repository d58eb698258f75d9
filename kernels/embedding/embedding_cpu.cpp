// Rows of a table, and whole tensors, as floats.
#include "../common/blocks.h"

namespace tkf {
namespace TKF_NAMESPACE {

static void dequantize(tkf_context* context, int dtype, const uint8_t* values, int64_t count, float* out) {
  with_format(dtype, [&](auto format) {
    using Format = decltype(format);
    constexpr int64_t step = Format::VALUES;
    parallel_ranges(context, (count + step - 1) / step, 16384 / step, [&](int64_t begin, int64_t end, int) {
      const int64_t first = begin * step, last = smaller(end * step, count);
      decode_row<Format>(values + row_bytes<Format>(first), last - first, out + first);
    });
  });
}

static void embedding(tkf_context* context, int dtype, const uint8_t* table, int64_t, int64_t cols, const int32_t* ids,
                      int64_t rows, float* out) {
  with_format(dtype, [&](auto format) {
    using Format = decltype(format);
    parallel_ranges(context, rows, larger(int64_t{1}, 16384 / cols), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; row++) {
        decode_row<Format>(table + ids[row] * row_bytes<Format>(cols), cols, out + row * cols);
      }
    });
  });
}

}  // namespace TKF_NAMESPACE
}  // namespace tkf
