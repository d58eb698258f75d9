// tkf_filter_observe of the CUDA library, and tkf_filter_observe_batch: checks and launchers.
#include "kv_filter_observe.cuh"

#include "../kv_filter_scan/check_filter.h"

namespace tkf {
namespace filter {

void launch_observe(tkf_context* context, const ObserveArguments& arguments, int64_t batch) {
  TKF_LAUNCH(cuda_stream(context), filter_observe_kernel, static_cast<unsigned>(batch), kThreads,
             fit_shared_bytes(arguments.spec), arguments);
}

namespace {

ObserveArguments arguments_of(tkf_context* context, const tkf_filter_spec& spec, const tkf_filter_states& states) {
  ObserveArguments arguments = {};
  arguments.spec = spec;
  arguments.numbers = as<double>(states.numbers);
  arguments.scores = as<double>(states.scores);
  arguments.learned = as<double>(states.learned);
  arguments.fault = cuda_fault(context);
  return arguments;
}

}  // namespace
}  // namespace filter

bool check_args(Check& check, const tkf_filter_observe_args& a) {
  check_spec(check, a.spec);
  check_learns(check, a.spec);
  check_memory(check, a.spec, a.states, 1);
  check.size("count", a.count);
  check.array<double>("y", a.y, {a.count});
  return true;
}
int32_t on_cuda::filter_observe(tkf_context* context, const tkf_filter_observe_args& a) {
  filter::ObserveArguments arguments = filter::arguments_of(context, a.spec, a.states);
  arguments.y = as<double>(a.y);
  arguments.count = a.count;
  filter::launch_observe(context, arguments, 1);
  return cuda_launched(context, "tkf_filter_observe");
}

bool check_args(Check& check, const tkf_filter_observe_batch_args& a) {
  check_spec(check, a.spec);
  check_learns(check, a.spec);
  check.size("batch", a.batch, 0, INT32_MAX);
  check_memory(check, a.spec, a.states, a.batch);
  check.array<uint8_t>("keep", a.keep, {a.batch});
  check.array<float>("output", a.output, {a.batch, a.spec.hidden_size});
  check.array<float>("residual", a.residual, {a.batch, a.spec.hidden_size});
  return a.batch > 0;
}
int32_t on_cuda::filter_observe_batch(tkf_context* context, const tkf_filter_observe_batch_args& a) {
  filter::ObserveArguments arguments = filter::arguments_of(context, a.spec, a.states);
  arguments.keep = as<uint8_t>(a.keep);
  arguments.output = as<float>(a.output);
  arguments.residual = as<float>(a.residual);
  filter::launch_observe(context, arguments, a.batch);
  return cuda_launched(context, "tkf_filter_observe_batch");
}

}  // namespace tkf
