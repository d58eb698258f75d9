// Products of 4 to 8 rows of x in int16 by AMX: a tile unit multiplies a block of 16 rows of weights with the high and
// the low bytes of 8 rows of x at once. Included by bf16.h, with AMX on.
namespace tkf::TKF_NAMESPACE::int16::amx {

constexpr int kLeastRows = 4, kMostRows = 8;

// A block of 8 rows of x: four bytes at a time, the high ones of each row, then the low ones. `d` is a row's factor,
// twice; `rest` as in few::Quad, with the low bytes alone.
struct alignas(64) Block {
  int8_t bytes[8][2 * kMostRows][4];
  float d[W], rest[W];
};
inline int64_t blocks_of(int64_t k) { return few::quads_of(k) * few::kBlocks; }

// Rows of x, as many blocks as fill quads; what is not there is 0.
static void make_blocks(const Rounded& x, int64_t rows, int offset, Block* to) {
  const int64_t blocks = x.k / 32;
  memset(to, 0, sizeof(Block) * static_cast<size_t>(blocks_of(x.k)));
  for (int64_t b = 0; b < blocks; b++, to++) {
    for (int64_t row = 0; row < rows; row++) {
      for (int i = 0; i < 8; i++) {
        memcpy(to->bytes[i][row], x.high + row * x.k + 32 * b + 4 * i, 4);
        memcpy(to->bytes[i][row + kMostRows], x.low + row * x.k + 32 * b + 4 * i, 4);
      }
      const float sum = x.sum[row * blocks + b];
      to->d[row] = to->d[row + kMostRows] = x.d[row * blocks + b];
      to->rest[row + kMostRows] = offset == 0 ? sum : -static_cast<float>(offset) * sum;
    }
  }
}

// Tiles 0 to 3 hold products, 4 and 6 weights, 5 and 7 blocks of x.
struct alignas(64) TileShape {
  uint8_t palette = 1, start = 0, unused[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 32, 64, 32, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 8, 16, 8};
};
constexpr TileShape kTileShape;

// Four blocks of 16 rows of weights: of each row 32 bytes a block, and four floats, d and m first.
struct alignas(64) Panel {
  uint8_t bytes[16][few::kBlocks][32];
  float factors[16][few::kBlocks][4];
};
template <class Format, bool WHOLE>
TKF_INLINE void unpack_row(const uint8_t* at, int count, Panel& to, int r) {
  few::Unpacked w;
  few::unpack<Format, WHOLE>(at, count, w);
  store(to.factors[r][0], w.m);
  const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  _mm512_store_si512(to.bytes[r][0], _mm512_permutex2var_epi64(w.first, low, w.last));
  _mm512_store_si512(to.bytes[r][2], _mm512_permutex2var_epi64(w.first, high, w.last));
}

// 16 rows of weights, of which `valid` are there, times up to 8 rows of x: out[m * n + r].
template <class Format>
static void tile(const Block* x, int64_t rows, const uint8_t* weight, int valid, int64_t n, int64_t k, float* out) {
  const int64_t bytes = row_bytes<Format>(k), quads = few::quads_of(k);
  Panel panels[2];
  alignas(64) int32_t products[few::kBlocks][16][16];
  vf sums[16];
  for (int r = 0; r < 16; r++) sums[r] = set1(0);
  const uintptr_t later = ahead_of(weight, 16 * bytes);
  const auto unpack = [&](int64_t quad, Panel& to) {
    constexpr int stride = few::kBlocks * Format::BYTES;
    prefetch_lines<16 * stride>(later + static_cast<uintptr_t>(quad * 16 * stride));
    const int count = static_cast<int>(smaller(k / 32 - quad * few::kBlocks, int64_t{few::kBlocks}));
    for (int r = 0; r < 16; r++) {
      const uint8_t* const at = weight + (r < valid ? r : 0) * bytes + quad * stride;
      if (count == few::kBlocks) unpack_row<Format, true>(at, count, to, r);
      else unpack_row<Format, false>(at, count, to, r);
    }
  };
  const auto add = [&](int64_t quad) {  // what was stored of a quad's products
    const Panel& panel = panels[quad & 1];
    const Block* const own = x + quad * few::kBlocks;
    for (int b = 0; b < few::kBlocks; b++) {
      const vf d = load(own[b].d), rest = load(own[b].rest);
#pragma GCC unroll 16
      for (int r = 0; r < 16; r++) {
        const vf product = _mm512_cvtepi32_ps(_mm512_load_si512(products[b][r]));
        const float* const factors = panel.factors[r][b];
        if constexpr (few::kOffset<Format> != 0) sums[r] = fma(set1(factors[0]), fma(product, d, rest), sums[r]);
        else sums[r] = fma(set1(factors[1]), rest, fma(set1(factors[0]), product * d, sums[r]));
      }
    }
  };
  if (quads > 0) unpack(0, panels[0]);
  for (int64_t quad = 0; quad < quads; quad++) {
    const Panel& panel = panels[quad & 1];
    const Block* const own = x + quad * few::kBlocks;
    constexpr int stride = sizeof panel.bytes[0];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, panel.bytes[0][0], stride);
    _tile_loadd(5, own[0].bytes, 64);
    _tile_dpbusd(0, 4, 5);
    _tile_loadd(6, panel.bytes[0][1], stride);
    _tile_loadd(7, own[1].bytes, 64);
    _tile_dpbusd(1, 6, 7);
    _tile_loadd(4, panel.bytes[0][2], stride);
    _tile_loadd(5, own[2].bytes, 64);
    _tile_dpbusd(2, 4, 5);
    _tile_loadd(6, panel.bytes[0][3], stride);
    _tile_loadd(7, own[3].bytes, 64);
    _tile_dpbusd(3, 6, 7);
    // While the tile unit multiplies.
    if (quad > 0) add(quad - 1);
    if (quad + 1 < quads) unpack(quad + 1, panels[(quad + 1) & 1]);
    _tile_stored(0, products[0], 64);
    _tile_stored(1, products[1], 64);
    _tile_stored(2, products[2], 64);
    _tile_stored(3, products[3], 64);
  }
  if (quads > 0) add(quads - 1);
  transpose(sums);  // now the high bytes of each row of x, then the low ones
  for (int64_t m = 0; m < rows; m++) {
    store_part(out + m * n, fma(sums[m], set1(256), sums[m + kMostRows]), valid);
  }
}

// All products of 4 to 8 rows of x, whose blocks lie at `x`.
template <class Format>
static void products(tkf_context* context, const Block* x, const ProductList& list, int64_t rows, int64_t k) {
  const int64_t bytes = row_bytes<Format>(k), grain = 65536 / larger(16 * k * rows, int64_t{1});
  parallel_products(context, list, 16, grain, [&](const tkf_product& p, int64_t begin, int64_t end, int) {
    _tile_loadconfig(&kTileShape);
    for (int64_t i = begin * 16; i < end * 16; i += 16) {
      const int valid = static_cast<int>(smaller(p.n - i, int64_t{16}));
      tile<Format>(x, rows, as<uint8_t>(p.weight) + i * bytes, valid, p.n, k, as<float>(p.out) + i);
    }
    _tile_release();
  });
}

}  // namespace tkf::TKF_NAMESPACE::int16::amx
