// The random signs of the `learned` rule's projections. They cost a hash an entry, and every scan of a layer uses the
// same ones: a context keeps them.
#pragma once
#include <map>
#include <tuple>
#include <vector>

#include "score.h"

namespace tkf {

class SignCache {
 public:
  // [hidden_size, projections], each -1 or 1. May throw std::bad_alloc.
  const float* get(const tkf_filter_spec& spec) {
    const Key key(spec.seed, spec.layer, spec.hidden_size, spec.projections);
    const auto found = tables_.find(key);
    if (found != tables_.end()) return found->second.data();
    const size_t count = static_cast<size_t>(spec.hidden_size) * static_cast<size_t>(spec.projections);
    if (held_ + count > kMost) {
      tables_.clear();
      held_ = 0;
    }
    std::vector<float> signs(count);
    for (int a = 0; a < spec.hidden_size; a++) {
      for (int j = 0; j < spec.projections; j++) {
        signs[static_cast<size_t>(a) * spec.projections + j] = sign_of(spec, a, j);
      }
    }
    const float* table = (tables_[key] = std::move(signs)).data();
    held_ += count;
    return table;
  }

 private:
  using Key = std::tuple<uint64_t, int, int, int>;
  static constexpr size_t kMost = size_t{1} << 24;  // 64 MB: 80 layers of width 8192 with 16 projections are 42 MB

  std::map<Key, std::vector<float>> tables_;
  size_t held_ = 0;
};

}  // namespace tkf
