// What the launchers of attention share: the grid of a prefill kernel, which has blocks for tiles of rows and, where
// these are few, for splits of the keys; and which launcher takes what.
#pragma once
#include <algorithm>

#include "../../common/cuda/launch.h"
#include "prefill.cuh"

namespace tkf::attention {

constexpr int64_t kMostPrefillSplits = 32;
constexpr int64_t kKeysOfPrefillSplit = 256;  // fewer are not worth a block
constexpr int kPrefillBlocksOfSm = 2;         // at most, that splits are to fill

inline int64_t tiles_of(const PrefillJob& job, int rows) {
  return (int64_t{job.num_queries} * job.group + rows - 1) / rows;
}

// Room in the workspace for what splits find, behind that of log_sums; NULL: too little.
inline float* take_partial(tkf_context* context, const AttentionJob& job, size_t bytes) {
  void* const all = cuda_workspace(context, static_cast<size_t>(job.log_room) * sizeof(float) + bytes);
  return all == nullptr ? nullptr : static_cast<float*>(all) + job.log_room;
}

// Takes it for log_sums of some queries, where a call asks for shares. False where there is too little (cuda_short).
inline bool take_log_sums(tkf_context* context, int64_t num_queries, AttentionJob* job) {
  job->log_room = (num_queries * job->heads + 3) / 4 * 4;  // pairs of floats may follow
  const size_t bytes = static_cast<size_t>(job->log_room) * sizeof(float);
  job->log_sums = static_cast<float*>(cuda_workspace(context, bytes));
  if (job->log_sums == nullptr) cuda_short(context, bytes);
  return job->log_sums != nullptr;
}
inline bool take_log_sums(tkf_context* context, const tkf_attention_filtered_args& a, AttentionJob* job) {
  return a.num_shares == 0 || take_log_sums(context, a.num_queries, job);
}

// Fills shares, and changes where a call asks for them, once attention has filled out and log_sums.
int32_t launch_shares(tkf_context* context, const tkf_attention_filtered_args& a);

// Likewise changes of decode. `attended`: the job that has filled out and log_sums.
int32_t launch_changes(tkf_context* context, const tkf_attention_decode_args& a, const AttentionJob& attended);

// Plans splits for tiles of `rows` rows, `at_once` of whose blocks a multiprocessor holds, and takes the workspace that
// they need. A function of shapes and of the device alone, so that calls of the same shapes round alike. False, and
// splits 0, where there is too little workspace (cuda_short).
inline bool plan_splits(tkf_context* context, PrefillJob& job, int rows, int at_once) {
  const int64_t blocks = tiles_of(job, rows) * job.kv_heads;
  const int64_t room = int64_t{cuda_num_sms(context)} * std::min(at_once, kPrefillBlocksOfSm) / blocks;
  const int64_t keys = int64_t{job.num_rows[0]} + job.num_rows[1];
  const int64_t splits = std::min({room, keys / kKeysOfPrefillSplit, kMostPrefillSplits});
  job.splits = 1;
  if (splits < 2) return true;
  const int64_t numbers = splits * job.num_queries * job.heads * (2 + job.head_dim);
  const size_t bytes = sizeof(float) * static_cast<size_t>(numbers);
  job.partial = take_partial(context, job, bytes);
  job.splits = job.partial == nullptr ? 0 : static_cast<int>(splits);
  if (job.splits == 0) cuda_short(context, job.log_room * sizeof(float) + bytes);
  return job.splits > 0;
}

inline dim3 prefill_grid(const PrefillJob& job, int rows) {
  return dim3(static_cast<unsigned>(tiles_of(job, rows) * job.splits), static_cast<unsigned>(job.kv_heads));
}

// Every query reads all that it sees, whose rows are split among blocks (decode.cu): for few queries, and for what
// neither prefill_mma.cuh nor prefill_plain.cuh takes.
int32_t decode_queries(tkf_context* context, const tkf_attention_filtered_args& a);

// Whether the device is an sm_90 and this library holds code made for it. (What sm_90 compiles from PTX of compute_80
// has no wgmma.)
bool has_wgmma(const tkf_context* context);

// Launches it, where tkf_cuda_wgmma_use asks for it, for heads of at most 128; `job` fits the tensor-core kernels.
// False where prefill_mma.cuh has to do it. Plans the job's splits.
bool launch_wgmma(tkf_context* context, PrefillJob& job, int dtype);

}  // namespace tkf::attention
