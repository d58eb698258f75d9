// Random calls of filtered attention: in common form, decode over a cache, prefill of a batch.
#include "draw.h"

namespace fuzz {

tkf_kv_cache draw_cache(Draw& d, int32_t batch, int32_t kv_heads, int32_t head_dim, int32_t dtype) {
  tkf_kv_cache cache;
  memset(&cache, 0, sizeof cache);
  cache.batch = batch, cache.kv_heads = kv_heads, cache.head_dim = head_dim, cache.dtype = dtype;
  cache.capacity = d.below(40), cache.recent = d.from(0, 6);
  const int64_t width = int64_t{kv_heads} * head_dim;
  int64_t rows = batch * cache.capacity;
  if (d.once(2)) {  // paged
    cache.page_rows = d.pick({1, 4, 16});
    const int64_t per_sequence = (cache.capacity + cache.page_rows - 1) / cache.page_rows;
    const int32_t num_pages = static_cast<int32_t>(per_sequence * batch) + d.from(0, 2);
    cache.pages = d.ints(batch * per_sequence, 0, num_pages - 1);
    rows = int64_t{num_pages} * cache.page_rows;
  }
  cache.keys = d.values(dtype, rows * width), cache.values = d.values(dtype, rows * width);
  cache.positions = d.ascending(rows, 0, 1);
  cache.counts = d.ints(batch, 0, static_cast<int32_t>(cache.capacity));
  const int64_t recent = int64_t{batch} * cache.recent;
  cache.recent_keys = d.values(dtype, recent * width), cache.recent_values = d.values(dtype, recent * width);
  cache.recent_positions = d.ints(recent, -1, 40);
  return cache;
}

void spoil_cache(Draw& d, tkf_kv_cache& c) {
  d.spoil(c.keys, c.values, c.positions, c.counts, c.pages, c.recent_keys, c.recent_values, c.recent_positions,
          c.capacity, c.batch, c.page_rows, c.kv_heads, c.head_dim, c.dtype, c.recent);
}

namespace {

int32_t draw_head_dim(Draw& d) { return d.pick({1, 3, 16, 32, 33, 64, 80, 96, 128, 256}); }

int32_t filtered(Draw& d, tkf_context* context) {
  tkf_attention_shape shape;
  memset(&shape, 0, sizeof shape);
  shape.n_queries = d.below(d.once(3) ? 20 : 3), shape.n_keys = d.below(40), shape.n_recent = d.below(6);
  shape.kv_heads = d.from(1, 2), shape.heads = shape.kv_heads * d.from(1, 3), shape.head_dim = draw_head_dim(d);
  shape.kv_dtype = d.float_dtype(), shape.recent_window = d.from(0, 20), shape.scale = 0.25;
  const int64_t width = int64_t{shape.kv_heads} * shape.head_dim, wide = int64_t{shape.heads} * shape.head_dim;
  tkf_buffer queries = d.floats(shape.n_queries * wide), out = d.bytes(shape.n_queries * wide * 4);
  tkf_buffer keys = d.values(shape.kv_dtype, shape.n_keys * width);
  tkf_buffer values = d.values(shape.kv_dtype, shape.n_keys * width);
  tkf_buffer recent_keys = d.values(shape.kv_dtype, shape.n_recent * width);
  tkf_buffer recent_values = d.values(shape.kv_dtype, shape.n_recent * width);
  tkf_buffer query_positions = d.ascending(shape.n_queries, 20, 3), key_positions = d.ascending(shape.n_keys, 0, 2);
  tkf_buffer recent_positions = d.ascending(shape.n_recent, 10, 3);
  d.spoil(shape.n_queries, shape.n_keys, shape.n_recent, shape.heads, shape.kv_heads, shape.head_dim, shape.kv_dtype,
          shape.recent_window, shape.scale, queries, out, keys, values, recent_keys, recent_values, query_positions,
          key_positions, recent_positions);
  return tkf_attention_filtered(context, d.maybe(&shape), d.said(sizeof shape), as<float>(queries), queries.bytes,
                                as<int32_t>(query_positions), query_positions.bytes, keys.data, keys.bytes, values.data,
                                values.bytes, as<int32_t>(key_positions), key_positions.bytes, recent_keys.data,
                                recent_keys.bytes, recent_values.data, recent_values.bytes,
                                as<int32_t>(recent_positions), recent_positions.bytes, as<float>(out), out.bytes);
}

int32_t decode(Draw& d, tkf_context* context) {
  const int32_t batch = d.from(0, 3), kv_heads = d.from(1, 2), head_dim = draw_head_dim(d);
  tkf_kv_cache cache = draw_cache(d, batch, kv_heads, head_dim, d.float_dtype());
  tkf_decode_rows rows;
  memset(&rows, 0, sizeof rows);
  rows.heads = kv_heads * d.from(1, 4), rows.window = d.from(0, 20), rows.scale = 0.25;
  const int64_t wide = int64_t{rows.heads} * head_dim;
  rows.queries = d.floats(batch * wide), rows.out = d.bytes(batch * wide * 4);
  rows.positions = d.ints(batch, -1, 60), rows.keep = d.bytes(batch);
  spoil_cache(d, cache);
  if (d.once(2)) d.spoil(rows.queries, rows.out, rows.positions, rows.keep, rows.heads, rows.window, rows.scale);
  const tkf_kv_cache* given = d.maybe(&cache);
  const uint64_t said = d.said(sizeof cache);
  tkf_attention_decode_workspace(context, given, said, rows.heads);
  return tkf_attention_decode(context, given, said, d.maybe(&rows), d.said(sizeof rows));
}

int32_t prefill(Draw& d, tkf_context* context) {
  tkf_prefill_rows r;
  memset(&r, 0, sizeof r);
  r.batch = d.from(0, 3), r.kv_heads = d.from(1, 2), r.head_dim = draw_head_dim(d);
  r.heads = r.kv_heads * (d.once(6) ? 16 : d.from(1, 3));  // 16: rows enough for wgmma
  r.dtype = d.float_dtype(), r.query_dtype = d.once(2) ? r.dtype : TKF_DTYPE_F32;
  r.recent = d.from(0, 20), r.window = d.from(0, 20), r.scale = 0.25;
  r.num_queries = r.batch == 0 ? 0 : d.below(20), r.num_keys = r.batch == 0 ? 0 : d.below(40);
  r.num_recent = r.batch == 0 ? 0 : d.below(8);
  const int64_t width = int64_t{r.kv_heads} * r.head_dim, wide = int64_t{r.heads} * r.head_dim;
  r.queries = d.values(r.query_dtype, r.num_queries * wide);
  r.out = d.bytes(r.num_queries * wide * Draw::block_bytes(r.query_dtype));
  r.keys = d.values(r.dtype, r.num_keys * width), r.values = d.values(r.dtype, r.num_keys * width);
  r.recent_keys = d.values(r.dtype, r.num_recent * width), r.recent_values = d.values(r.dtype, r.num_recent * width);
  r.query_positions = d.ascending(r.num_queries, 20, 3), r.key_positions = d.ascending(r.num_keys, 0, 2);
  r.recent_positions = d.ascending(r.num_recent, 10, 3);
  int32_t longest = 0, unused = 0;
  r.query_starts = d.starts(r.batch, r.num_queries, &longest);
  r.key_starts = d.starts(r.batch, r.num_keys, &unused), r.recent_starts = d.starts(r.batch, r.num_recent, &unused);
  r.longest_queries = longest;
  d.spoil(r.queries, r.out, r.query_positions, r.keys, r.values, r.key_positions, r.recent_keys, r.recent_values,
          r.recent_positions, r.query_starts, r.key_starts, r.recent_starts, r.num_queries, r.num_keys, r.num_recent,
          r.longest_queries, r.batch, r.heads, r.kv_heads, r.head_dim, r.dtype, r.query_dtype, r.recent, r.window,
          r.scale);
  return tkf_attention_prefill(context, d.maybe(&r), d.said(sizeof r));
}

}  // namespace

const Call kAttentionCalls[] = {
    {"tkf_attention_filtered", filtered},
    {"tkf_attention_decode", decode},
    {"tkf_attention_prefill", prefill},
};
const size_t kNumAttentionCalls = sizeof kAttentionCalls / sizeof *kAttentionCalls;

}  // namespace fuzz
