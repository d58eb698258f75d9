/* An engine's loop on tokenfilter's filter: a prefill, then one token per call, for one layer and one sequence.
 *
 *   cc -std=c99 filter.c libtokenfilter_cpu.so -Wl,-rpath,'$ORIGIN' -lm -o filter && ./filter CASES OUT
 *
 * CASES holds cases one after the other: a tkf_filter_spec; int64 tokens and heads; keys and values [tokens, kv_heads,
 * head_dim], queries [tokens, heads, head_dim], f32. OUT gets of each: keep u8 [tokens], redundancy f64 [tokens], the
 * attention's output f32 [tokens, heads, head_dim], which is 0 for skipped tokens. filter.py does the same. */
#include "tokenfilter_filter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFER(data, count) {(void*)(data), (uint64_t)(count) * sizeof *(data)}

static void* allocate(size_t count, size_t size) {
  void* memory = calloc(count ? count : 1, size);
  if (memory == NULL) fputs("Cannot allocate memory\n", stderr), exit(1);
  return memory;
}

/* Tokens that can be attended to: rows of keys and values, and their positions. */
typedef struct rows {
  float *keys, *values;
  int32_t* positions;
  int64_t count;
} rows;

typedef struct layer {
  tkf_context* context;
  tkf_filter_spec spec;
  tkf_filter_states states;
  int32_t heads;
  int64_t seen;
  rows kept, recent; /* recent: skipped tokens, which stay visible to the next spec.recent positions */
} layer;

static rows make_rows(int64_t capacity, int64_t width) {
  rows made = {allocate(capacity * width, 4), allocate(capacity * width, 4), allocate(capacity, 4), 0};
  return made;
}

static void add_row(rows* to, const float* key, const float* value, int64_t width, int32_t position) {
  memcpy(to->keys + to->count * width, key, width * 4);
  memcpy(to->values + to->count * width, value, width * 4);
  to->positions[to->count++] = position;
}

/* Removes skipped tokens that no later query sees. */
static void evict(rows* recent, int64_t width, int64_t before) {
  int64_t gone = 0;
  while (gone < recent->count && recent->positions[gone] < before) gone++;
  recent->count -= gone;
  memmove(recent->keys, recent->keys + gone * width, recent->count * width * 4);
  memmove(recent->values, recent->values + gone * width, recent->count * width * 4);
  memmove(recent->positions, recent->positions + gone, recent->count * 4);
}

/* Decides `count` new tokens, and computes attention of those that are kept. Scratch is allocated per call for brevity. */
static int feed(layer* layer, int64_t count, float* keys, float* values, const float* queries, uint8_t* keep,
                double* redundancy, float* out) {
  const tkf_filter_spec* spec = &layer->spec;
  const int64_t width = (int64_t)spec->kv_heads * spec->head_dim, own = (int64_t)layer->heads * spec->head_dim;
  double* columns = allocate(7 * count, 8);
  int64_t taken = 0;
  tkf_filter_scan_args scan;
  memset(&scan, 0, sizeof scan);
  scan.spec = *spec;
  scan.states = layer->states;
  scan.keys = (tkf_buffer)BUFFER(keys, count * width);
  scan.values = (tkf_buffer)BUFFER(values, count * width);
  scan.keep = (tkf_buffer)BUFFER(keep, count);
  scan.columns = (tkf_buffer)BUFFER(columns, 7 * count);
  scan.taken = (tkf_buffer)BUFFER(&taken, 1);
  scan.count = count;
  scan.kv_dtype = TKF_DTYPE_F32;
  int32_t status = tkf_filter_scan(layer->context, &scan, sizeof scan);
  memcpy(redundancy, columns, count * 8);
  free(columns);
  if (status != TKF_STATUS_OK) return status;

  float *asked = allocate(count * own, 4), *answers = allocate(count * own, 4);
  int32_t* positions = allocate(count, 4);
  int64_t computed = 0;
  evict(&layer->recent, width, layer->seen - spec->recent);
  for (int64_t i = 0; i < count; i++) {
    const int32_t position = (int32_t)(layer->seen + i);
    add_row(keep[i] ? &layer->kept : &layer->recent, keys + i * width, values + i * width, width, position);
    if (!keep[i]) continue;
    memcpy(asked + computed * own, queries + i * own, own * 4);
    positions[computed++] = position;
  }
  layer->seen += count;
  const rows *kept = &layer->kept, *recent = &layer->recent;
  tkf_attention_filtered_args attention;
  memset(&attention, 0, sizeof attention);
  attention.queries = (tkf_buffer)BUFFER(asked, computed * own);
  attention.query_positions = (tkf_buffer)BUFFER(positions, computed);
  attention.keys = (tkf_buffer)BUFFER(kept->keys, kept->count * width);
  attention.values = (tkf_buffer)BUFFER(kept->values, kept->count * width);
  attention.key_positions = (tkf_buffer)BUFFER(kept->positions, kept->count);
  attention.recent_keys = (tkf_buffer)BUFFER(recent->keys, recent->count * width);
  attention.recent_values = (tkf_buffer)BUFFER(recent->values, recent->count * width);
  attention.recent_positions = (tkf_buffer)BUFFER(recent->positions, recent->count);
  attention.out = (tkf_buffer)BUFFER(answers, computed * own);
  attention.num_queries = computed, attention.num_keys = kept->count, attention.num_recent = recent->count;
  attention.heads = layer->heads, attention.kv_heads = spec->kv_heads, attention.head_dim = spec->head_dim;
  attention.kv_dtype = TKF_DTYPE_F32, attention.recent_window = spec->recent;
  attention.scale = 1 / sqrt(spec->head_dim);
  status = tkf_attention_filtered(layer->context, &attention, sizeof attention);
  memset(out, 0, count * own * 4);
  for (int64_t i = 0, row = 0; i < count; i++) {
    if (keep[i]) memcpy(out + i * own, answers + row++ * own, own * 4);
  }
  free(asked), free(answers), free(positions);
  return status;
}

static int run_case(tkf_context* context, const tkf_filter_spec* spec, FILE* cases, FILE* results) {
  int64_t sizes[2];
  if (fread(sizes, 8, 2, cases) != 2) return fputs("Cannot read a case: it ends early\n", stderr), 2;
  const int64_t tokens = sizes[0], heads = sizes[1], width = (int64_t)spec->kv_heads * spec->head_dim;
  const int64_t own = heads * spec->head_dim;
  float *keys = allocate(tokens * width, 4), *values = allocate(tokens * width, 4), *queries = allocate(tokens * own, 4);
  float *anchor_k = allocate(width, 4), *anchor_v = allocate(width, 4), *out = allocate(tokens * own, 4);
  double *numbers = allocate(TKF_NUM_SLOTS, 8), *scores = allocate(tkf_filter_scores(spec), 8);
  double* redundancy = allocate(tokens, 8);
  uint8_t* keep = allocate(tokens, 1);
  if (fread(keys, width * 4, tokens, cases) != (size_t)tokens || fread(values, width * 4, tokens, cases) != (size_t)tokens ||
      fread(queries, own * 4, tokens, cases) != (size_t)tokens) {
    return fputs("Cannot read a case: it ends early\n", stderr), 2;
  }
  layer layer = {context, *spec, {BUFFER(anchor_k, width), BUFFER(anchor_v, width), BUFFER(numbers, TKF_NUM_SLOTS),
                 BUFFER(scores, tkf_filter_scores(spec)), {NULL, 0}, {NULL, 0}}, (int32_t)heads, 0,
                 make_rows(tokens, width), make_rows(tokens, width)};
  /* All but the last 8 tokens at once, those one by one; topk needs all of them. */
  const int64_t first = spec->threshold == TKF_THRESHOLD_TOPK ? tokens : tokens > 9 ? tokens - 8 : 1;
  int status = TKF_STATUS_OK;
  for (int64_t at = 0, count = first; at < tokens && status == TKF_STATUS_OK; at += count, count = 1) {
    status = feed(&layer, count, keys + at * width, values + at * width, queries + at * own, keep + at, redundancy + at,
                  out + at * own);
  }
  if (status != TKF_STATUS_OK) return fprintf(stderr, "Cannot run a case: %s\n", tkf_context_message(context)), 2;
  fwrite(keep, 1, tokens, results), fwrite(redundancy, 8, tokens, results), fwrite(out, 4, tokens * own, results);
  free(keys), free(values), free(queries), free(anchor_k), free(anchor_v), free(out), free(numbers), free(scores);
  free(redundancy), free(keep), free(layer.kept.keys), free(layer.kept.values), free(layer.kept.positions);
  free(layer.recent.keys), free(layer.recent.values), free(layer.recent.positions);
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) return fputs("usage: filter CASES OUT\n", stderr), 2;
  if (!tkf_filter_compatible()) return fputs("Cannot use this library: its structs are not those of version "
                                             TKF_FILTER_VERSION "\n", stderr), 2;
  FILE *cases = fopen(argv[1], "rb"), *results = cases ? fopen(argv[2], "wb") : NULL;
  if (results == NULL) return perror(cases ? argv[2] : argv[1]), 2;
  tkf_context* context;
  if (tkf_context_create(1, -1, &context) != TKF_STATUS_OK) return fputs("Cannot make a context\n", stderr), 1;
  tkf_filter_spec spec;
  int status = 0;
  while (status == 0 && fread(&spec, sizeof spec, 1, cases) == 1) status = run_case(context, &spec, cases, results);
  tkf_context_destroy(context);
  fclose(cases);
  return fclose(results) == 0 ? status : 1;
}
