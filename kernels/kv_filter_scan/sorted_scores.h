// Scores that thresholds look back on, in order. A layer decided block by block asks for its window's order at each
// block, and all but a few numbers stay: a context keeps what it sorted.
#pragma once
#include <cstring>
#include <map>
#include <vector>

namespace tkf {

// May throw std::bad_alloc.
class SortedScores {
 public:
  // The numbers of a ring [size] in order, if it holds what it did when they were kept.
  bool find(const double* ring, size_t size, std::vector<double>* sorted) const {
    const auto found = kept_.find(ring);
    if (size == 0 || found == kept_.end()) return false;
    const Entry& own = found->second;
    const bool same = own.ring.size() == size && own.sorted.size() == size &&
                      memcmp(own.ring.data(), ring, size * sizeof(double)) == 0;
    if (same) *sorted = own.sorted;
    return same;
  }

  void keep(const double* ring, const std::vector<double>& sorted) {
    Entry& own = kept_[ring];
    held_ += sorted.size() - own.ring.size();
    own.sorted = sorted;
    own.ring.assign(ring, ring + sorted.size());
    if (held_ <= kMost) return;
    kept_.clear();
    held_ = 0;
  }

 private:
  struct Entry {
    std::vector<double> ring, sorted;
  };
  static constexpr size_t kMost = size_t{1} << 18;  // of rings: 512 windows of 512 are 2 MB, and 2 MB in order

  std::map<const double*, Entry> kept_;
  size_t held_ = 0;
};

}  // namespace tkf
