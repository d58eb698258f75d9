// The cosines and sines of rotary embedding, which depend on positions and turns alone: keys and queries of all layers
// have the same ones, so that a context keeps those of the last call.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace tkf {

class AngleCache {
 public:
  // [rows, 2, pairs], cosines first. `known`: whether they are those of these positions [rows] and turns [pairs, 2]; if
  // not, the caller fills all. May throw std::bad_alloc.
  float* get(const int32_t* positions, int64_t rows, const double* turns, int64_t pairs, bool* known) {
    const size_t count = static_cast<size_t>(rows), turned = static_cast<size_t>(2 * pairs);
    *known = same(positions_, positions, count) && same(turns_, turns, turned);
    if (!*known) {
      positions_.clear();  // nothing is known where memory is short
      values_.resize(count * turned);
      turns_.assign(turns, turns + turned);
      positions_.assign(positions, positions + count);
    }
    return values_.data();
  }

 private:
  template <class T>
  static bool same(const std::vector<T>& own, const T* other, size_t count) {
    return own.size() == count && memcmp(own.data(), other, count * sizeof(T)) == 0;
  }

  std::vector<int32_t> positions_;
  std::vector<double> turns_;
  std::vector<float> values_;
};

}  // namespace tkf
