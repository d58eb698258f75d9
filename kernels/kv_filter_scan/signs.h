// The random signs of the `learned` rule's projections. They cost a hash an entry, and every scan of a layer uses the
// same ones: a context keeps them, in bits, as what decodes reads them from far memory at every token.
#pragma once
#include <map>
#include <tuple>
#include <vector>

#include "score.h"

namespace tkf {

class SignCache {
 public:
  // Bytes of one entry's signs: a bit a projection, 1 for -1, in whole groups of 16.
  static int64_t stride(int projections) { return (projections + 15) / 16 * 2; }

  // [hidden_size, stride]: projection j in bit j % 8 of byte j / 8. May throw std::bad_alloc.
  const uint8_t* get(const tkf_filter_spec& spec) {
    const Key key(spec.seed, spec.layer, spec.hidden_size, spec.projections);
    const auto found = tables_.find(key);
    if (found != tables_.end()) return found->second.data();
    const size_t count = static_cast<size_t>(spec.hidden_size * stride(spec.projections));
    if (held_ + count > kMost) {
      tables_.clear();
      held_ = 0;
    }
    std::vector<uint8_t> signs(count);
    for (int a = 0; a < spec.hidden_size; a++) {
      for (int j = 0; j < spec.projections; j++) {
        const int bit = sign_of(spec, a, j) < 0 ? 1 << j % 8 : 0;
        signs[static_cast<size_t>(a * stride(spec.projections) + j / 8)] |= static_cast<uint8_t>(bit);
      }
    }
    const uint8_t* table = (tables_[key] = std::move(signs)).data();
    held_ += count;
    return table;
  }

 private:
  using Key = std::tuple<uint64_t, int, int, int>;
  static constexpr size_t kMost = size_t{1} << 22;  // 80 layers of width 8192 with 16 projections are 1.3 MB

  std::map<Key, std::vector<uint8_t>> tables_;
  size_t held_ = 0;
};

}  // namespace tkf
