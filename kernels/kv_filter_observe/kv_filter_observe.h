// What other ops ask of the fit.
#pragma once
#include "../include/tokenfilter.h"

namespace tkf {
namespace filter {

struct ObserveArguments {
  tkf_filter_spec spec;
  double *numbers, *scores, *learned;  // of sequence 0
  const uint8_t* keep;                 // [batch]; a step's outcomes: one for each kept sequence
  const float *output, *residual;      // [batch, hidden_size], with keep
  const double* y;                     // or outcomes themselves, of a batch of one: [count]
  int64_t count;
  int* fault;
};

// Takes in outcomes, and fits where a block is complete and all its outcomes are known: also with a count of 0.
void launch_observe(tkf_context* context, const ObserveArguments& arguments, int64_t batch);

}  // namespace filter
}  // namespace tkf
