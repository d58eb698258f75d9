// The cosines and sines of rotary embedding, which depend on positions and turns alone: keys and queries of all layers
// have the same ones, queries of kept tokens some of them. So a context keeps those that it made last.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "../common/kernels.h"

namespace tkf {

class AngleCache {
 public:
  // Those of positions [rows], with turns [pairs, 2]: found among the ones that are kept, or else to be filled by the
  // caller, in their order, and kept from now on. May throw std::bad_alloc.
  Angles get(const int32_t* positions, int64_t rows, const double* turns, int64_t pairs) {
    const size_t count = static_cast<size_t>(rows), turned = static_cast<size_t>(2 * pairs);
    index_.resize(count);
    const bool known = same(turns_, turns, turned) && find(positions, count);
    if (!known) {
      positions_.clear();  // nothing is known where memory is short
      values_.resize(count * turned);
      turns_.assign(turns, turns + turned);
      positions_.assign(positions, positions + count);
      for (size_t i = 0; i < count; i++) index_[i] = static_cast<int64_t>(i);
    }
    return {values_.data(), index_.data(), known};
  }

 private:
  template <class T>
  static bool same(const std::vector<T>& own, const T* other, size_t count) {
    return own.size() == count && memcmp(own.data(), other, count * sizeof(T)) == 0;
  }

  // Whether these are the positions that are kept, or some of them where those follow one on the other.
  bool find(const int32_t* positions, size_t count) {
    const int64_t held = static_cast<int64_t>(positions_.size()), first = held > 0 ? positions_[0] : 0;
    const bool alike = same(positions_, positions, count);
    for (size_t i = 0; i < count; i++) {
      const int64_t at = alike ? static_cast<int64_t>(i) : positions[i] - first;
      if (at < 0 || at >= held || positions_[static_cast<size_t>(at)] != positions[i]) return false;
      index_[i] = at;
    }
    return true;
  }

  std::vector<int32_t> positions_;
  std::vector<int64_t> index_;
  std::vector<double> turns_;
  std::vector<float> values_;
};

}  // namespace tkf
