// Entry points of tkf_filter_observe (of the CUDA library) and tkf_filter_observe_batch.
#include "kv_filter_observe.cuh"

#include "../kv_filter_scan/check_states.h"

namespace tkf {
namespace filter {

void launch_observe(tkf_context* context, const ObserveArguments& arguments, int64_t batch) {
  TKF_LAUNCH(cuda_stream(context), filter_observe_kernel, static_cast<unsigned>(batch), kThreads,
             fit_shared_bytes(arguments.spec), arguments);
}

}  // namespace filter

namespace {

void check_learns(Check& check, const tkf_filter_spec* spec) {
  if (check.ok() && !learns(spec)) {
    check.fail(TKF_STATUS_STATE, "found a rule that learns nothing, expected \"learned\"");
  }
}

}  // namespace
}  // namespace tkf

int32_t tkf_filter_observe(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes, double* numbers,
                           uint64_t numbers_bytes, double* scores, uint64_t scores_bytes, double* learned,
                           uint64_t learned_bytes, const double* y, uint64_t y_bytes, int64_t count) {
  using namespace tkf;
  Check check(context);
  check_spec(check, spec, spec_bytes);
  check_learns(check, spec);
  tkf_filter_states states = {};
  states.numbers = {numbers, numbers_bytes};
  states.scores = {scores, scores_bytes};
  states.learned = {learned, learned_bytes};
  check_memory(check, spec, &states, 1);
  check.size("count", count);
  check.buffer("y", y, y_bytes, check.product({count, 8}), 8);
  if (!check.ok()) return check.status();
  filter::ObserveArguments a = {};
  a.spec = *spec;
  a.numbers = numbers;
  a.scores = scores;
  a.learned = learned;
  a.y = y;
  a.count = count;
  a.fault = cuda_fault(context);
  filter::launch_observe(context, a, 1);
  return check.done(cuda_launched(context, "tkf_filter_observe"));
}

int32_t tkf_filter_observe_batch(tkf_context* context, const tkf_filter_spec* spec, uint64_t spec_bytes,
                                 const tkf_filter_states* states, uint64_t states_bytes, int32_t batch,
                                 const tkf_decisions* decisions, uint64_t decisions_bytes, const float* output,
                                 uint64_t output_bytes, const float* residual, uint64_t residual_bytes) {
  using namespace tkf;
  Check check(context);
  check_spec(check, spec, spec_bytes);
  check_learns(check, spec);
  check.buffer("states", states, states_bytes, sizeof(tkf_filter_states), 8);
  check.buffer("decisions", decisions, decisions_bytes, sizeof(tkf_decisions), 8);
  check.size("batch", batch);
  check_memory(check, spec, states, batch);
  if (!check.ok()) return check.status();
  check_buffer(check, "keep", decisions->keep, batch, 1);
  const int64_t bytes = check.product({batch, spec->hidden_size, 4});
  check.buffer("output", output, output_bytes, bytes);
  check.buffer("residual", residual, residual_bytes, bytes);
  if (!check.ok() || batch == 0) return check.status();
  filter::ObserveArguments a = {};
  a.spec = *spec;
  a.numbers = static_cast<double*>(states->numbers.data);
  a.scores = static_cast<double*>(states->scores.data);
  a.learned = static_cast<double*>(states->learned.data);
  a.keep = static_cast<const uint8_t*>(decisions->keep.data);
  a.output = output;
  a.residual = residual;
  a.fault = cuda_fault(context);
  filter::launch_observe(context, a, batch);
  return check.done(cuda_launched(context, "tkf_filter_observe_batch"));
}
