// Checks of a layer's state of a batch in device memory, and of what the filter's kernels can take.
#pragma once
#include "../include/tokenfilter_cuda.h"
#include "check_filter.h"
#include "device.cuh"

namespace tkf {

inline void check_buffer(Check& check, const char* name, const tkf_buffer& buffer, int64_t need, int64_t alignment) {
  check.buffer(name, buffer.data, buffer.bytes, need, alignment);
}

// Call after check_spec.
inline void check_device_limits(Check& check, const tkf_filter_spec* spec) {
  if (!check.ok()) return;
  if (spec->kv_heads > filter::kMaxHeads || spec->head_dim > filter::kMaxHeadDim) {
    check.fail(TKF_STATUS_UNSUPPORTED, "found %d KV heads of %d, expected at most %d of %d on a device", spec->kv_heads,
               spec->head_dim, filter::kMaxHeads, filter::kMaxHeadDim);
  }
}

inline bool learns(const tkf_filter_spec* spec) { return spec->fusion == TKF_FUSION_LEARNED; }
inline bool projects(const tkf_filter_spec* spec) {
  return learns(spec) && (spec->features & kProjection) && spec->projections > 0;
}

// Arrays of a state but its anchors.
inline void check_memory(Check& check, const tkf_filter_spec* spec, const tkf_filter_states* states, int64_t batch) {
  if (!check.ok()) return;
  check_buffer(check, "numbers", states->numbers, check.product({batch, TKF_NUM_SLOTS, 8}), 8);
  check_buffer(check, "scores", states->scores, check.product({batch, score_capacity(*spec), 8}), 8);
  if (!learns(spec)) return;
  check_buffer(check, "learned", states->learned, check.product({batch, LearnedLayout(*spec).length, 8}), 8);
}

inline void check_states(Check& check, const tkf_filter_spec* spec, const tkf_filter_states* states, int64_t batch,
                         bool signs) {
  check_memory(check, spec, states, batch);
  if (!check.ok()) return;
  const int64_t anchor_bytes = check.product({batch, spec->kv_heads, spec->head_dim, 4});
  check_buffer(check, "anchor_k", states->anchor_k, anchor_bytes, 4);
  check_buffer(check, "anchor_v", states->anchor_v, anchor_bytes, 4);
  if (signs && projects(spec)) {
    check_buffer(check, "signs", states->signs, check.product({spec->projections, spec->hidden_size, 4}), 4);
  }
}

}  // namespace tkf
