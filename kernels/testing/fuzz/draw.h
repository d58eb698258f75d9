// Random arguments: buffers of exactly the bytes that a call says, so that the address sanitizer sees what goes past
// them, and ways to spoil an argument that a caller could come up with.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../emulator/tokenfilter_emulator.h"

namespace fuzz {

class Draw {
 public:
  explicit Draw(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  ~Draw() {
    for (void* memory : memory_) free(memory);
  }
  Draw(const Draw&) = delete;
  Draw& operator=(const Draw&) = delete;

  uint64_t bits() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  int64_t below(int64_t n) { return n <= 0 ? 0 : static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  int32_t from(int32_t least, int32_t most) { return least + static_cast<int32_t>(below(int64_t{most} - least + 1)); }
  bool once(int64_t n) { return below(n) == 0; }
  double number() { return static_cast<double>(bits() >> 11) / 4503599627370496.0 - 1; }  // in [-1, 1)
  template <class T, size_t N>
  T pick(const T (&choices)[N]) {
    return choices[below(N)];
  }

  // ---- buffers ----

  // Of random bits, 16-byte aligned.
  tkf_buffer bytes(int64_t size) {
    if (size <= 0) return {nullptr, 0};
    void* memory = nullptr;
    if (posix_memalign(&memory, 16, static_cast<size_t>(size)) != 0) abort();
    memory_.push_back(memory);
    for (int64_t i = 0; i < size; i++) static_cast<uint8_t*>(memory)[i] = static_cast<uint8_t>(bits());
    return {memory, static_cast<uint64_t>(size)};
  }
  tkf_buffer floats(int64_t count) {
    const tkf_buffer buffer = bytes(count * 4);
    for (int64_t i = 0; i < count; i++) static_cast<float*>(buffer.data)[i] = static_cast<float>(number());
    if (count > 0 && once(30)) static_cast<float*>(buffer.data)[below(count)] = once(2) ? NAN : INFINITY;
    return buffer;
  }
  // Numbers of an element type: f32 as above, small ones for 16 bits, any bits for blocks.
  tkf_buffer values(int32_t dtype, int64_t count) {
    if (dtype == TKF_DTYPE_F32) return floats(count);
    const int64_t block = block_values(dtype), block_size = block_bytes(dtype);
    const tkf_buffer buffer = bytes(count / block * block_size);
    if (block == 1 && !once(10)) {
      const uint16_t mask = dtype == TKF_DTYPE_F16 ? 0xbbff : 0xbf7f;  // below 2 in size
      for (int64_t i = 0; i < count; i++) static_cast<uint16_t*>(buffer.data)[i] &= mask;
    }
    return buffer;
  }
  // Whole numbers in [least, most], seldom others.
  tkf_buffer ints(int64_t count, int32_t least, int32_t most) {
    const tkf_buffer buffer = bytes(count * 4);
    if (once(20)) return buffer;
    for (int64_t i = 0; i < count; i++) static_cast<int32_t*>(buffer.data)[i] = from(least, most);
    if (count > 0 && once(20)) mutate(static_cast<int32_t*>(buffer.data)[below(count)]);
    return buffer;
  }
  // Ascending whole numbers from `first`, by steps of up to `step`; seldom others.
  tkf_buffer ascending(int64_t count, int32_t first, int32_t step) {
    const tkf_buffer buffer = bytes(count * 4);
    if (once(20)) return buffer;
    for (int64_t i = 0; i < count; i++) {
      static_cast<int32_t*>(buffer.data)[i] = first;
      first += from(step == 0 ? 0 : 1, step);
    }
    if (count > 0 && once(20)) mutate(static_cast<int32_t*>(buffer.data)[below(count)]);
    return buffer;
  }
  // Starts [batch + 1] of `rows` rows.
  tkf_buffer starts(int32_t batch, int64_t rows, int32_t* longest) {
    const tkf_buffer buffer = bytes((int64_t{batch} + 1) * 4);
    int32_t* const start = static_cast<int32_t*>(buffer.data);
    start[0] = 0, start[batch] = static_cast<int32_t>(rows);
    for (int32_t b = 1; b < batch; b++) start[b] = from(start[b - 1], static_cast<int32_t>(rows));
    *longest = 0;
    for (int32_t b = 0; b < batch; b++) {
      if (start[b + 1] - start[b] > *longest) *longest = start[b + 1] - start[b];
    }
    if (once(15)) mutate(start[below(batch + 1)]);
    return buffer;
  }
  tkf_buffer doubles(int64_t count, double largest) {
    const tkf_buffer buffer = bytes(count * 8);
    if (once(40)) return buffer;
    for (int64_t i = 0; i < count; i++) static_cast<double*>(buffer.data)[i] = number() * largest;
    return buffer;
  }
  tkf_buffer zeros(int64_t size) {
    const tkf_buffer buffer = bytes(size);
    if (buffer.data != nullptr) memset(buffer.data, 0, buffer.bytes);
    return buffer;
  }

  static int64_t block_values(int32_t dtype) {
    switch (dtype) {
      case TKF_DTYPE_F32: case TKF_DTYPE_F16: case TKF_DTYPE_BF16: return 1;
      case TKF_DTYPE_Q4_K: case TKF_DTYPE_Q6_K: return 256;
      default: return 32;
    }
  }
  static int64_t block_bytes(int32_t dtype) {
    switch (dtype) {
      case TKF_DTYPE_F32: return 4;
      case TKF_DTYPE_F16: case TKF_DTYPE_BF16: return 2;
      case TKF_DTYPE_Q4_0: return 18;
      case TKF_DTYPE_Q4_1: return 20;
      case TKF_DTYPE_Q5_0: return 22;
      case TKF_DTYPE_Q5_1: return 24;
      case TKF_DTYPE_Q8_0: return 34;
      case TKF_DTYPE_Q4_K: return 144;
      default: return 210;
    }
  }
  int32_t float_dtype() { return pick({TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16}); }
  int32_t any_dtype() {
    return pick({TKF_DTYPE_F32, TKF_DTYPE_F16, TKF_DTYPE_BF16, TKF_DTYPE_Q4_0, TKF_DTYPE_Q4_1, TKF_DTYPE_Q5_0,
                 TKF_DTYPE_Q5_1, TKF_DTYPE_Q8_0, TKF_DTYPE_Q4_K, TKF_DTYPE_Q6_K});
  }

  // ---- spoiling ----

  // Spoils one or two of the arguments, of a third of the calls none.
  template <class... Arguments>
  void spoil(Arguments&... arguments) {
    for (int64_t times = below(3); times > 0; times--) {
      int64_t which = below(static_cast<int64_t>(sizeof...(arguments)));
      ((which-- == 0 ? mutate(arguments) : void()), ...);
    }
  }
  void mutate(int32_t& x) {
    x = pick({-1, 0, x ^ 1, x == INT32_MAX ? 0 : x + 1, static_cast<int32_t>(static_cast<uint32_t>(x) * 2), INT32_MAX,
              INT32_MIN, 65536, 3, 7, 1 << 30});
  }
  void mutate(int64_t& x) {
    x = pick({int64_t{-1}, int64_t{0}, x ^ 1, x == INT64_MAX ? 0 : x + 1, INT64_MAX, INT64_MIN, int64_t{1} << 31,
              int64_t{1} << 32, int64_t{1} << 61, int64_t{3}, int64_t{1} << 40});
  }
  void mutate(uint64_t& x) { x = bits() >> below(64); }
  void mutate(double& x) { x = pick({double{NAN}, double{INFINITY}, -1.0, 0.0, 1e308, 5e-324, 2.0, 0.5, -1e308}); }
  // Never more bytes than there are: that lie nobody can see through.
  void mutate(tkf_buffer& buffer) {
    switch (below(5)) {
      case 0: buffer.data = nullptr; return;
      case 1: buffer = {nullptr, 0}; return;
      case 2: buffer.bytes = 0; return;
      case 3: buffer.bytes = static_cast<uint64_t>(below(static_cast<int64_t>(buffer.bytes))); return;
      default: {
        const uint64_t shift = uint64_t{1} << below(4);
        if (buffer.bytes < shift) return;
        buffer.data = static_cast<char*>(buffer.data) + shift;
        buffer.bytes -= shift;
      }
    }
  }
  // Bytes that a call says a struct has: the size mostly.
  uint64_t said(size_t size) { return once(40) ? static_cast<uint64_t>(below(static_cast<int64_t>(size))) : size; }
  template <class T>
  const T* maybe(const T* pointer) {
    return once(60) ? nullptr : pointer;
  }

 private:
  uint64_t state_;
  std::vector<void*> memory_;
};

// One call with random arguments; its status.
struct Call {
  const char* name;
  int32_t (*run)(Draw& draw, tkf_context* context);
};
extern const Call kCommonCalls[];
extern const size_t kNumCommonCalls;
extern const Call kFilterCalls[];
extern const size_t kNumFilterCalls;
extern const Call kAttentionCalls[];
extern const size_t kNumAttentionCalls;

// Of a filter, with a state of `batch` sequences that goes with it.
void draw_spec(Draw& draw, tkf_filter_spec& spec);
void spoil_spec(Draw& draw, tkf_filter_spec& spec);
tkf_filter_states draw_states(Draw& draw, const tkf_filter_spec& spec, int32_t batch);
tkf_kv_cache draw_cache(Draw& draw, int32_t batch, int32_t kv_heads, int32_t head_dim, int32_t dtype);
void spoil_cache(Draw& draw, tkf_kv_cache& cache);

template <class T>
T* as(const tkf_buffer& buffer) {
  return static_cast<T*>(buffer.data);
}

}  // namespace fuzz
