// Gates over as many values as there are: see gate.h.
#include "gate.h"

namespace tkf::TKF_NAMESPACE {

template <class Lanes>
static void apply_gate(tkf_context* context, const tkf_gate_apply_args& a, Lanes lanes) {
  const float *gate = as<float>(a.gate), *up = as<float>(a.up);
  float* out = as<float>(a.out);
  parallel_ranges(context, a.count, 4096, [&](int64_t begin, int64_t end, int) {
    int64_t i = begin;
    for (; i + W <= end; i += W) store(out + i, lanes(load(gate + i), load(up + i)));
    if (i < end) {
      const int rest = static_cast<int>(end - i);
      store_part(out + i, lanes(load_part(gate + i, rest), load_part(up + i, rest)), rest);
    }
  });
}

int32_t gate_apply(tkf_context* context, const tkf_gate_apply_args& a) {
  if (a.kind == TKF_GATE_SWIGLU) apply_gate(context, a, [](vf gate, vf up) { return swiglu_lanes(gate, up); });
  else apply_gate(context, a, [](vf gate, vf up) { return geglu_lanes(gate, up); });
  return TKF_STATUS_OK;
}

}  // namespace tkf::TKF_NAMESPACE
