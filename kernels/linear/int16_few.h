// Products of few rows of x in int16 by VNNI: weights go from memory into registers, four blocks of 32 at a time, and
// are used there; nothing of them is stored. Included by int16.h, with AVX512-VNNI on.
namespace tkf::TKF_NAMESPACE::int16::few {

constexpr int kBlocks = 4;

// Four blocks of a row of x. Its values are q = 256 * high + low: of each block 16 in a lane, then the other 16. `d` is
// the block's factor, four times. `rest` is what a block of weights' m is multiplied with, the second of four numbers;
// or, where m is -OFFSET * d, what is added to the product of integers before d is multiplied with it.
struct alignas(64) Quad {
  int8_t high[2][64], low[2][64];
  float d[W], rest[W];
};
inline int64_t quads_of(int64_t k) { return (k / 32 + kBlocks - 1) / kBlocks; }

// Rows of x [rows, quads]; blocks that are not there are 0.
static void make_quads(const Rounded& x, int64_t rows, int offset, Quad* to) {
  const int64_t blocks = x.k / 32;
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t first = 0; first < blocks; first += kBlocks, to++) {
      memset(to, 0, sizeof *to);
      for (int64_t i = 0; i < smaller(blocks - first, int64_t{kBlocks}); i++) {
        const int64_t block = row * blocks + first + i;
        for (int half = 0; half < 2; half++) {
          memcpy(to->high[half] + 16 * i, x.high + 32 * block + 16 * half, 16);
          memcpy(to->low[half] + 16 * i, x.low + 32 * block + 16 * half, 16);
        }
        for (int lane = 0; lane < 4; lane++) to->d[4 * i + lane] = x.d[block];
        to->rest[4 * i + 1] = offset == 0 ? x.sum[block] : -static_cast<float>(offset) * x.sum[block];
      }
    }
  }
}

// 16 bytes of each of four blocks, `stride` apart; those that are not there are the first one's.
template <bool WHOLE>
TKF_INLINE __m512i load_lanes(const uint8_t* at, int stride, int count) {
  const auto lane = [&](int i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + (WHOLE || i < count ? i * stride : 0)));
  };
  __m512i v = _mm512_castsi128_si512(lane(0));
  v = _mm512_mask_broadcast_i32x4(v, 0x00F0, lane(1));
  v = _mm512_mask_broadcast_i32x4(v, 0x0F00, lane(2));
  return _mm512_mask_broadcast_i32x4(v, 0xF000, lane(3));
}

// The two numbers that begin four blocks, as the first two of four floats each, 0 where a block is not there.
template <int BYTES, bool WHOLE>
TKF_INLINE vf load_leading(const uint8_t* at, int count) {
  __m512i words, from;
  if constexpr (3 * BYTES + 4 <= 64) {
    if (WHOLE) words = _mm512_loadu_si512(at);
    else words = _mm512_maskz_loadu_epi8((uint64_t{1} << smaller(count * BYTES, 63)) - 1, at);
    constexpr int w = BYTES / 2;
    from = _mm512_castsi256_si512(_mm256_setr_epi16(0, 1, 0, 0, w, w + 1, 0, 0, 2 * w, 2 * w + 1, 0, 0, 3 * w, 3 * w + 1,
                                                    0, 0));
  } else {
    int32_t pairs[kBlocks] = {};
    for (int i = 0; i < kBlocks; i++) {
      if (WHOLE || i < count) memcpy(&pairs[i], at + i * BYTES, 4);
    }
    words = _mm512_castsi128_si512(_mm_setr_epi32(pairs[0], pairs[1], pairs[2], pairs[3]));
    from = _mm512_castsi256_si512(_mm256_setr_epi16(0, 1, 0, 0, 2, 3, 0, 0, 4, 5, 0, 0, 6, 7, 0, 0));
  }
  return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(from, words)));
}

// Four blocks of weights: the first 16 and the last 16 of each; its d four times; m as the second of four numbers.
struct Unpacked {
  __m512i first, last;
  vf d, m;
};

template <class Format, bool WHOLE>
TKF_INLINE void unpack(const uint8_t* at, int count, Unpacked& to) {
  constexpr int stride = Format::BYTES;
  const __m512i nibble = _mm512_set1_epi8(15);
  to.m = load_leading<stride, WHOLE>(at, count);
  to.d = _mm512_permute_ps(to.m, 0);
  if constexpr (Format::BYTES == FormatQ8_0::BYTES) {
    const __m512i top = _mm512_set1_epi8(-128);
    to.first = _mm512_xor_si512(load_lanes<WHOLE>(at + 2, stride, count), top);
    to.last = _mm512_xor_si512(load_lanes<WHOLE>(at + 18, stride, count), top);
  } else {
    const __m512i pairs = load_lanes<WHOLE>(at + stride - 16, stride, count);
    to.first = _mm512_and_si512(pairs, nibble);
    to.last = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), nibble);
    if constexpr (Format::BYTES > FormatQ4_1::BYTES) {  // a fifth bit
      uint64_t low = 0, high = 0;
      for (int i = 0; i < kBlocks; i++) {
        uint32_t bits;
        memcpy(&bits, at + (WHOLE || i < count ? i * stride : 0) + stride - 20, 4);
        low |= static_cast<uint64_t>(bits & 0xFFFFu) << (16 * i);
        high |= static_cast<uint64_t>(bits >> 16) << (16 * i);
      }
      const __m512i sixteen = _mm512_set1_epi8(16);
      to.first = _mm512_or_si512(to.first, _mm512_maskz_mov_epi8(low, sixteen));
      to.last = _mm512_or_si512(to.last, _mm512_maskz_mov_epi8(high, sixteen));
    }
  }
}
// A half of a block of q4_k, whose scales have been made.
TKF_INLINE void unpack_half(const uint8_t* block, const float* scales, int half, Unpacked& to) {
  const __m512i nibble = _mm512_set1_epi8(15), pairs = _mm512_loadu_si512(block + 16 + 64 * half);
  const __m512i low = _mm512_and_si512(pairs, nibble), high = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), nibble);
  to.first = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), high);
  to.last = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), high);
  const __m512i four = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  to.d = _mm512_permutexvar_ps(four, _mm512_castps128_ps512(_mm_loadu_ps(scales + 4 * half)));
  to.m = _mm512_permutexvar_ps(four, _mm512_castps128_ps512(_mm_loadu_ps(scales + 8 + 4 * half)));
}

template <class Format>
constexpr int kOffset = Integers<Format>::OFFSET;
template <>
constexpr int kOffset<FormatQ4_K> = 0;

// sum plus four blocks of weights times those of x.
template <class Format>
TKF_INLINE vf multiply(const Unpacked& w, const Quad& x, vf sum) {
  const auto bytes = [](const int8_t* at) { return _mm512_load_si512(at); };
  __m512i q = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.first, bytes(x.high[0]));
  q = _mm512_slli_epi32(_mm512_dpbusd_epi32(q, w.last, bytes(x.high[1])), 8);
  q = _mm512_dpbusd_epi32(q, w.first, bytes(x.low[0]));
  const vf product = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(q, w.last, bytes(x.low[1])));
  if constexpr (kOffset<Format> != 0) return fma(w.d, fma(product, load(x.d), load(x.rest)), sum);
  else return fma(w.m, load(x.rest), fma(w.d, product * load(x.d), sum));
}

// R rows of weights, of which `valid` are there, times M rows of x: out[m * n + r].
template <class Format, int R, int M>
static TKF_INLINE void tile(const Quad* x, const uint8_t* weight, int valid, int64_t n, int64_t k, float* out) {
  const int64_t bytes = row_bytes<Format>(k), blocks = k / 32, quads = quads_of(k);
  const uint8_t* row[R];
  vf sums[R][M];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    row[r] = r < valid ? weight + r * bytes : weight;  // a row that is not there: the first one again, to no effect
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) sums[r][m] = set1(0);
  }
  const uintptr_t later = ahead_of(weight, R * bytes);
  const auto add = [&](int64_t quad, auto&& get) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      Unpacked w;
      get(row[r], r, w);
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) sums[r][m] = multiply<Format>(w, x[m * quads + quad], sums[r][m]);
    }
  };
  if constexpr (Format::VALUES == 32) {
    constexpr int stride = kBlocks * Format::BYTES;
    int64_t quad = 0;
    for (; quad < blocks / kBlocks; quad++) {
      prefetch_lines<R * stride>(later + static_cast<uintptr_t>(quad * R * stride));
      add(quad, [&](const uint8_t* at, int, Unpacked& w) { unpack<Format, true>(at + quad * stride, kBlocks, w); });
    }
    const int rest = static_cast<int>(blocks % kBlocks);
    if (rest > 0) {
      prefetch_lines<R * stride>(later + static_cast<uintptr_t>(quad * R * stride));
      add(quad, [&](const uint8_t* at, int, Unpacked& w) { unpack<Format, false>(at + quad * stride, rest, w); });
    }
  } else {
    for (int64_t block = 0; block < quads / 2; block++) {
      prefetch_lines<R * Format::BYTES>(later + static_cast<uintptr_t>(block * R * Format::BYTES));
      float scales[R][Format::SCALES];
      for (int r = 0; r < R; r++) Format::prepare_one(row[r] + block * Format::BYTES, scales[r]);
      for (int half = 0; half < 2; half++) {
        add(2 * block + half, [&](const uint8_t* at, int r, Unpacked& w) {
          unpack_half(at + block * Format::BYTES, scales[r], half, w);
        });
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    float dots[R];
    vf own[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) own[r] = sums[r][m];
    if constexpr (R == 4) sum4(own, dots);
    else for (int r = 0; r < R; r++) dots[r] = sum(own[r]);
    for (int r = 0; r < smaller(R, valid); r++) out[m * n + r] = dots[r];
  }
}

// All products of few rows of x, whose quads lie at `x`.
template <class Format>
static void products(tkf_context* context, const Quad* x, const ProductList& list, int64_t rows, int64_t k) {
  constexpr int together = 4;
  const int64_t bytes = row_bytes<Format>(k), grain = 32768 / larger(together * k * rows, int64_t{1});
  parallel_products(context, list, together, grain, [&](const tkf_product& p, int64_t begin, int64_t end, int) {
    for (int64_t i = begin * together; i < end * together; i += together) {
      const int valid = static_cast<int>(smaller(p.n - i, int64_t{together}));
      const uint8_t* const some = as<uint8_t>(p.weight) + i * bytes;
      for (int64_t m = 0; m < rows;) {
        const Quad* const own = x + m * quads_of(k);
        float* const to = as<float>(p.out) + m * p.n + i;
        if (rows - m >= 4) tile<Format, 4, 4>(own, some, valid, p.n, k, to), m += 4;
        else if (rows - m >= 2) tile<Format, 4, 2>(own, some, valid, p.n, k, to), m += 2;
        else tile<Format, 4, 1>(own, some, valid, p.n, k, to), m += 1;
      }
    }
  });
}

}  // namespace tkf::TKF_NAMESPACE::int16::few
