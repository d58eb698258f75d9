// What other ops ask of the fit.
#pragma once
#include "../common/kernels.h"

namespace tkf::filter {

struct ObserveArguments {
  tkf_filter_spec spec;
  tkf_filter_states states;
  tkf_buffer keep, output, residual;  // a step's outcomes, one for each kept sequence, as in tkf_filter_observe_batch
  tkf_buffer y;                       // or outcomes themselves, of a batch of one: [count]
  int64_t count;
  int* fault;
};

// Takes in outcomes, and fits where a block is complete and all its outcomes are known: also with a count of 0.
void launch_observe(tkf_context* context, const ObserveArguments& arguments, int64_t batch);

}  // namespace tkf::filter
