// What an attention call asks for, once its arguments are checked.
#pragma once
#include <cstdint>

namespace tkf {

struct AttentionJob {
  int64_t num_queries, num_keys, num_recent;
  int heads, kv_heads, head_dim, kv_dtype, recent_window;
  float scale;
  const float* queries;                     // [num_queries, heads, head_dim]
  const int32_t* query_positions;           // [num_queries], ascending
  const void *keys, *values;                // [num_keys, kv_heads, head_dim] of kv_dtype
  const int32_t* key_positions;             // [num_keys], ascending
  const void *recent_keys, *recent_values;  // [num_recent, kv_heads, head_dim] of kv_dtype
  const int32_t* recent_positions;          // [num_recent], ascending
  float* out;                               // [num_queries, heads, head_dim]
};

}  // namespace tkf
