// Element types of weights: how each is laid out (as in GGUF) and dequantized, 32 values at a time.
// A `Format` has VALUES and BYTES of one block; prepare(blocks, count, scales) makes the scales of up to CHUNK blocks,
// SCALES floats each; and decode(block, scales, part, w) the values 32*part .. 32*part+31 of one, into w[32 / W].
// A dense format counts as blocks of 32; what is left at the end of a row goes through `scalar`.
#pragma once
#include "blocks_of_256.h"
#include "blocks_of_32.h"

namespace tkf::TKF_NAMESPACE {

// Dense formats have no scales.
struct NoScales {
  static constexpr int SCALES = 0;
  static TKF_INLINE void prepare(const uint8_t*, int, float*) {}
};

template <class Type>
struct DenseFormat : NoScales {
  using Value = typename Type::Value;
  static constexpr int VALUES = 32, BYTES = 32 * sizeof(Value);
  static constexpr bool DENSE = true;
  static TKF_INLINE void decode(const uint8_t* block, const float*, int, vf* w) {
    for (int i = 0; i < kVectors; i++) w[i] = Type::load(reinterpret_cast<const Value*>(block) + i * W);
  }
  static TKF_INLINE float scalar(const uint8_t* p) { return Type::one(reinterpret_cast<const Value*>(p)); }
};
using FormatF32 = DenseFormat<F32>;

#if TKF_LEVEL == TKF_LEVEL_BASE
// Infinities and NaN, which have the highest exponent, are looked for once: 1 more overflows into a bit that is 0.
template <>
TKF_INLINE void DenseFormat<F16>::decode(const uint8_t* block, const float*, int, vf* w) {
#if defined(__wasm__)
  v128_t sums = wasm_i16x8_const_splat(0);
  for (int i = 0; i < kVectors; i += 2) {  // upper and lower halves of eight numbers, then interleaved
    const v128_t bits = wasm_v128_load(block + 2 * W * i), low = wasm_i16x8_shl(bits, 13);
    const v128_t high = wasm_v128_and(wasm_i16x8_shr(bits, 3), wasm_u16x8_const_splat(0x8FFF));
    sums = wasm_v128_or(sums, wasm_i16x8_add(high, wasm_i16x8_const_splat(0x0080)));
    w[i] = (vf)wasm_i16x8_shuffle(low, high, 0, 8, 1, 9, 2, 10, 3, 11) * 0x1p112f;
    w[i + 1] = (vf)wasm_i16x8_shuffle(low, high, 4, 12, 5, 13, 6, 14, 7, 15) * 0x1p112f;
  }
  if (!wasm_v128_any_true(wasm_v128_and(sums, wasm_i16x8_const_splat(0x1000)))) return;
#else
  vi sums{};
  for (int i = 0; i < kVectors; i++) {
    const vi bits = spread_f16(block + 2 * W * i);
    sums |= bits + 0x00800000;
    w[i] = (vf)bits * 0x1p112f;
  }
  sums &= 0x10000000;
  if ((sums[0] | sums[1] | sums[2] | sums[3]) == 0) return;
#endif
  for (int i = 0; i < kVectors; i++) w[i] = load_f16(block + 2 * W * i);
}
#endif

// Calls body(Format()) with the format of an element type that was checked before.
template <class F>
TKF_INLINE void with_format(int dtype, F&& body) {
  switch (dtype) {
    case TKF_DTYPE_F32: body(FormatF32()); break;
    case TKF_DTYPE_F16: body(DenseFormat<F16>()); break;
    case TKF_DTYPE_BF16: body(DenseFormat<Bf16>()); break;
#define TKF_CASE(name, values, bytes)                                                                             \
  case TKF_DTYPE_##name:                                                                                        \
    static_assert(Format##name::VALUES == values && Format##name::BYTES == bytes, "as the list of types says"); \
    body(Format##name());                                                                                       \
    break;
    TKF_BLOCK_TYPES(TKF_CASE)
#undef TKF_CASE
    default: break;
  }
}

// Blocks whose scales are made at once: 2048 values; and room for those scales.
template <class Format>
constexpr int kChunk = 2048 / Format::VALUES;
template <class Format>
constexpr int kChunkScales = Format::SCALES == 0 ? 1 : kChunk<Format> * Format::SCALES;

// Bytes of one row of k values.
template <class Format>
TKF_INLINE int64_t row_bytes(int64_t k) {
  return Format::DENSE ? k * (Format::BYTES / 32) : k / Format::VALUES * Format::BYTES;
}

// One row of k values as floats.
template <class Format>
static void decode_row(const uint8_t* row, int64_t k, float* out) {
  constexpr int parts = Format::VALUES / 32;
  const int64_t blocks = k / Format::VALUES;
  for (int64_t chunk = 0; chunk < blocks; chunk += kChunk<Format>) {
    const int count = static_cast<int>(smaller(blocks - chunk, int64_t{kChunk<Format>}));
    float scales[kChunkScales<Format>];
    Format::prepare(row + chunk * Format::BYTES, count, scales);
    for (int b = 0; b < count; b++) {
      for (int part = 0; part < parts; part++) {
        vf w[kVectors];
        Format::decode(row + (chunk + b) * Format::BYTES, scales + b * Format::SCALES, part, w);
        for (int i = 0; i < kVectors; i++) store(out + (chunk + b) * Format::VALUES + 32 * part + W * i, w[i]);
      }
    }
  }
  if constexpr (Format::DENSE) {
    for (int64_t i = blocks * 32; i < k; i++) out[i] = Format::scalar(row + i * (Format::BYTES / 32));
  }
}

}  // namespace tkf::TKF_NAMESPACE
