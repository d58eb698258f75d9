// wgmma.mma_async, done when a thread waits for it. Source: PTX ISA, "Asynchronous Warpgroup Level Matrix
// Instructions": fragments of m64nNk16, the matrix descriptor, canonical layouts of 128-byte swizzling. With T = 8:
//   K-major   Swizzle<3,4,3> o ((8,m),(T,2)):((8T,SBO),(1,T))         rows of 128 bytes, 8 rows to a pattern
//   MN-major  Swizzle<3,4,3> o ((T,8,m),(8,k)):((1,T,LBO),(8T,SBO))   the same, of which a row is one k
// Stricter than the manual: a thread must call wgmma_fence after each wait, whether or not it has used the registers.
#include "async.h"

#include "block.h"
#include "tensor_cores.h"

namespace tkf::simt {
namespace {

constexpr int kRows = 64, kDepth = 16, kMostColumns = 128;
constexpr uint64_t kReserved = 0x3ff1c000c000c000u;  // bits 14-15, 30-31, 46-48, 52-61

struct Matrix {
  uint32_t start, leading, stride;
  explicit Matrix(uint64_t descriptor)
      : start(field(descriptor)), leading(field(descriptor >> 16)), stride(field(descriptor >> 32)) {}
  static uint32_t field(uint64_t bits) { return static_cast<uint32_t>(bits & 0x3fff) << 4; }
  uint32_t swizzled(uint32_t offset) const {
    const uint32_t straight = start + offset;
    return straight ^ (straight >> 3 & 0x70);
  }
};

float to_float(bool bf16, uint16_t bits) { return bf16 ? bfloat16_to_float(bits) : half_to_float(bits); }

// Rows of a K-major matrix, to[row * step_row + k * step_k].
void read_rows(Async& async, bool bf16, const Matrix& matrix, int rows, float* to, int step_row, int step_k) {
  for (int row = 0; row < rows; row++) {
    for (int piece = 0; piece < 2; piece++) {
      uint16_t values[8];
      const auto r = static_cast<uint32_t>(row);
      async.read(matrix.swizzled(r / 8 * matrix.stride + r % 8 * 128 + static_cast<uint32_t>(piece) * 16), values);
      for (int i = 0; i < 8; i++) to[row * step_row + (piece * 8 + i) * step_k] = to_float(bf16, values[i]);
    }
  }
}

// An N-major matrix, to[k * kMostColumns + column].
void read_columns(Async& async, bool bf16, const Matrix& matrix, int columns, float* to) {
  for (int k = 0; k < kDepth; k++) {
    for (int piece = 0; piece < columns / 8; piece++) {
      uint16_t values[8];
      const auto depth = static_cast<uint32_t>(k), p = static_cast<uint32_t>(piece);
      const uint32_t offset = p / 8 * matrix.leading + p % 8 * 16 + depth / 8 * matrix.stride + depth % 8 * 128;
      async.read(matrix.swizzled(offset), values);
      for (int i = 0; i < 8; i++) to[k * kMostColumns + piece * 8 + i] = to_float(bf16, values[i]);
    }
  }
}

template <int COLUMNS>
void multiply(const float (&a)[kRows][kDepth], const float (&b)[kDepth][kMostColumns], bool add, float* d) {
  RightFactor<COLUMNS> right;
  for (int k = 0; k < kDepth; k++) {
    for (int n = 0; n < COLUMNS; n++) right.set(k, n, b[k][n]);
  }
  if (!add) std::fill(d, d + kRows * COLUMNS, 0.0f);
  for (int row = 0; row < kRows; row++) add_products<16>(a[row], right, d + row * COLUMNS);
}

// Where entry i of a thread's accumulators stands in [64, columns].
int place_of(unsigned thread, int i, int columns) {
  const int lane = static_cast<int>(thread % kWarp), row = static_cast<int>(thread / kWarp) * 16 + lane / 4;
  return (row + i / 2 % 2 * 8) * columns + i / 4 * 8 + lane % 4 * 2 + i % 2;
}

bool is_unwritten(const float* d, int count) {
  for (int i = 0; i < count; i++) {
    if (bits_of<uint32_t>(d[i]) != 0xffffffffu) return false;
  }
  return true;
}

}  // namespace

std::string Warpgroup::state() const {
  const size_t missing = commits.empty() ? kGroup : kGroup - commits.back().threads;
  return std::to_string(missing) + " of 128 threads have not come to its last wgmma_commit";
}

Warpgroup& Async::own_group() {
  const unsigned thread = current->linear, first = thread / kGroup * kGroup;
  const unsigned threads = current->block_dim.x * current->block_dim.y * current->block_dim.z;
  if (first + kGroup > threads) die("wgmma: found a block of %u threads, expected warpgroups of 128", threads);
  auto& group = groups_[first / kGroup];
  if (group == nullptr) group = std::make_unique<Warpgroup>();
  return *group;
}

void Async::check_matrix(uint64_t descriptor, bool columns_first, int columns) {
  const auto bits = static_cast<unsigned long long>(descriptor);
  if ((descriptor & kReserved) != 0) die("wgmma: found descriptor %016llx, expected 0 in unused bits", bits);
  const unsigned swizzle = static_cast<unsigned>(descriptor >> 62), base = static_cast<unsigned>(descriptor >> 49 & 7);
  if (swizzle != 1) die("wgmma: found swizzle mode %u, expected 1 (128 bytes): no other is modelled", swizzle);
  if (base != 0) die("wgmma: found base offset %u, expected 0: no other is modelled", base);
  const Matrix matrix(descriptor);
  const bool leads = columns_first && columns > 64;  // otherwise the leading stride is not used
  if (matrix.start >> 7 & 7 || matrix.stride % 1024 != 0 || (leads && matrix.leading % 1024 != 0)) {
    die("wgmma: found descriptor %016llx, expected patterns of 1024 bytes that begin at multiples of 1024", bits);
  }
  if ((matrix.start & 0x7f) > (columns_first ? 0 : 96)) {
    die("wgmma: found descriptor %016llx, expected rows that end within their 128 bytes", bits);
  }
}

void Async::issue(ProductShape shape, float* d, const uint32_t* fragments, uint64_t a, uint64_t b, bool add) {
  Warpgroup& group = own_group();
  const unsigned thread = current->linear % kGroup;
  Warpgroup::Member& me = group.members[thread];
  if (!me.fenced) die("wgmma: found no wgmma_fence since the last wgmma_wait");
  const int count = shape.columns / 2;

  Warpgroup::Held* held = nullptr;
  for (auto& each : me.held) held = each.d == d ? &each : held;
  if (held != nullptr && !is_unwritten(d, count)) die("wgmma: found accumulators changed before wgmma_wait");
  const unsigned number = held != nullptr ? held->sums : me.num_sums;
  const uint64_t place = me.issued - group.done;
  if (place == group.products.size()) {
    if (!shape.a_in_registers) check_matrix(a, false, kRows);
    check_matrix(b, shape.b_columns_first, shape.columns);
    group.products.push_back({shape, a, b, number, add, {}});
  }
  Product& product = group.products[place];
  if (!(product.shape == shape && product.a == a && product.b == b && product.sums == number && product.add == add)) {
    die("wgmma: found another product than other threads of the warpgroup have (descriptors %016llx and %016llx, "
        "theirs %016llx and %016llx), expected one for all", static_cast<unsigned long long>(a),
        static_cast<unsigned long long>(b), static_cast<unsigned long long>(product.a),
        static_cast<unsigned long long>(product.b));
  }
  // The manual asks that registers of a be left alone until the wait; a compiler sees to that.
  if (shape.a_in_registers) memcpy(product.fragments[thread], fragments, sizeof product.fragments[thread]);
  if (held == nullptr) {
    Sums& sums = group.sums[number];
    if (sums.values.empty()) {
      sums = {shape.columns, kGroup, std::vector<float>(static_cast<size_t>(kRows * shape.columns))};
    }
    for (int i = 0; i < count; i++) sums.values[place_of(thread, i, shape.columns)] = d[i];
    memset(d, 0xff, sizeof(float) * static_cast<size_t>(count));
    me.held.push_back({d, number, 0});
    held = &me.held.back();
    me.num_sums++;
  }
  held->last = me.issued++;
}

void Async::fence_products() { own_group().members[current->linear % kGroup].fenced = true; }

void Async::commit() {
  Warpgroup& group = own_group();
  Warpgroup::Member& me = group.members[current->linear % kGroup];
  if (me.commits == group.commits.size()) group.commits.push_back({me.issued, 0});
  Warpgroup::Commit& commit = group.commits[me.commits++];
  if (commit.end != me.issued) {
    die("wgmma_commit: found a commit after %llu products, and of other threads after %llu, expected one for all",
        static_cast<unsigned long long>(me.issued), static_cast<unsigned long long>(commit.end));
  }
  if (++commit.threads == kGroup) machine().wake(group);
}

void Async::run_products(Warpgroup& group, uint64_t end) {
  float a[kRows][kDepth], b[kDepth][kMostColumns];
  for (; group.done < end; group.done++) {
    const Product& product = group.products.front();
    const auto [columns, bf16, a_in_registers, b_columns_first] = product.shape;
    if (a_in_registers) {
      for (unsigned thread = 0; thread < kGroup; thread++) {
        const unsigned row = thread / kWarp * 16 + thread % kWarp / 4, k = thread % 4 * 2;
        for (unsigned i = 0; i < 4; i++) {
          const uint32_t pair = product.fragments[thread][i];
          float* const to = &a[row + i % 2 * 8][k + i / 2 * 8];
          to[0] = to_float(bf16, static_cast<uint16_t>(pair));
          to[1] = to_float(bf16, static_cast<uint16_t>(pair >> 16));
        }
      }
    } else {
      read_rows(*this, bf16, Matrix(product.a), kRows, a[0], kDepth, 1);
    }
    if (b_columns_first) read_columns(*this, bf16, Matrix(product.b), columns, b[0]);
    else read_rows(*this, bf16, Matrix(product.b), columns, b[0], 1, kMostColumns);
    float* const d = group.sums[product.sums].values.data();
    if (columns == 128) multiply<128>(a, b, product.add, d);
    else multiply<64>(a, b, product.add, d);
    group.products.pop_front();
    num_products_++;
  }
}

void Async::wait_products(Place place) {
  Warpgroup& group = own_group();
  const unsigned thread = current->linear % kGroup;
  Warpgroup::Member& me = group.members[thread];
  me.fenced = false;
  if (me.commits == 0) return;
  while (group.commits[me.commits - 1].threads < kGroup) machine().wait_for(group, "wgmma_wait", place);
  const uint64_t end = group.commits[me.commits - 1].end;
  run_products(group, end);
  for (size_t i = 0; i < me.held.size();) {
    const auto [d, number, last] = me.held[i];
    if (last >= end) {
      i++;
      continue;
    }
    Sums& sums = group.sums[number];
    if (!is_unwritten(d, sums.columns / 2)) die("wgmma_wait: found accumulators changed before it");
    for (int j = 0; j < sums.columns / 2; j++) d[j] = sums.values[place_of(thread, j, sums.columns)];
    if (--sums.left == 0) group.sums.erase(number);
    me.held.erase(me.held.begin() + static_cast<ptrdiff_t>(i));
  }
}

void Async::end_thread(unsigned thread) {
  if (groups_.empty()) return;
  const auto found = groups_.find(thread / kGroup);
  if (found != groups_.end() && !found->second->members[thread % kGroup].held.empty()) {
    die("wgmma: found a thread that ends while products are under way, expected wgmma_commit and wgmma_wait");
  }
}

// ---- as kernels call it ----

void wgmma(ProductShape shape, float* d, const uint32_t* fragments, uint64_t a, uint64_t b, bool add) {
  machine().async().issue(shape, d, fragments, a, b, add);
}
void wgmma_fence() { machine().async().fence_products(); }
void wgmma_wait(Place place) { machine().async().wait_products(place); }

}  // namespace tkf::simt
