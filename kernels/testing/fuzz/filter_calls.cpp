// Random calls of the filter: signs, scan, observe, and their forms for batches.
#include "../../kv_filter_scan/learned_layout.h"
#include "draw.h"

namespace fuzz {

void draw_spec(Draw& d, tkf_filter_spec& s) {
  memset(&s, 0, sizeof s);
  const bool learns = d.once(3);
  s.layer = d.from(0, 3);
  s.kv_heads = d.from(1, 3), s.head_dim = d.pick({1, 4, 17, 32, 64, 80, 128, 256});
  s.hidden_size = d.from(1, 20);
  s.fusion = learns ? TKF_FUSION_LEARNED : d.from(0, 8);
  s.invert = d.from(0, 1), s.anchor = d.from(0, 1), s.absorb = learns ? 0 : d.from(0, 1);
  s.warmup = learns ? d.from(8, 12) : d.from(0, 5);
  s.threshold = learns ? d.from(0, 1) : d.from(0, d.once(10) ? 4 : 3);
  s.window = d.pick({1, 2, 5, 40});
  s.chunk = d.from(0, 3);
  s.block = d.from(1, 6), s.projections = d.from(0, 20), s.features = d.from(0, 15);
  s.queries_size = d.from(0, 9);
  s.skip_ratio = 0.5, s.tau = 0.5, s.lambda = 0.1, s.eps = 1e-6, s.alpha = 0.1, s.gamma = 0.9, s.theta = 0;
  s.eta = 0.1, s.ridge = 1, s.seed = d.bits();
}

void spoil_spec(Draw& d, tkf_filter_spec& s) {
  d.spoil(s.layer, s.kv_heads, s.head_dim, s.hidden_size, s.fusion, s.invert, s.anchor, s.absorb, s.warmup, s.threshold,
          s.window, s.chunk, s.block, s.projections, s.features, s.queries_size, s.skip_ratio, s.tau, s.lambda, s.eps,
          s.alpha, s.gamma, s.theta, s.eta, s.ridge, s.seed);
}

tkf_filter_states draw_states(Draw& d, const tkf_filter_spec& s, int32_t batch) {
  const int64_t anchors = int64_t{s.kv_heads} * s.head_dim;
  tkf_filter_states states;
  states.anchor_k = d.floats(batch * anchors), states.anchor_v = d.floats(batch * anchors);
  states.numbers = d.zeros(batch * TKF_NUM_SLOTS * 8);
  const int64_t capacity = tkf::score_capacity(s);
  states.scores = d.doubles(batch * capacity, 1);
  states.learned = d.zeros(s.fusion == TKF_FUSION_LEARNED ? batch * tkf::LearnedLayout(s).length * 8 : 0);
  states.signs = d.floats(int64_t{s.projections} * s.hidden_size);
  for (int32_t b = 0; b < batch && !d.once(2); b++) {  // a state in the middle of its work
    double* numbers = as<double>(states.numbers) + b * TKF_NUM_SLOTS;
    const int32_t seen = d.from(0, 30);
    numbers[TKF_SLOT_SEEN] = seen, numbers[TKF_SLOT_ABSORBED] = d.from(0, seen);
    numbers[TKF_SLOT_SCORED] = d.from(0, seen), numbers[TKF_SLOT_DECIDED] = d.from(0, seen);
    numbers[TKF_SLOT_SKIPPED] = d.from(0, static_cast<int32_t>(numbers[TKF_SLOT_DECIDED]));
    numbers[TKF_SLOT_PENDING] = d.from(0, 3), numbers[TKF_SLOT_SETTLED] = d.from(0, 3);
    numbers[TKF_SLOT_FITTED] = d.from(0, 1);
    if (d.once(6)) d.mutate(numbers[d.below(TKF_NUM_SLOTS)]);
  }
  if (d.once(10)) {
    const tkf_buffer& learned = states.learned;
    if (learned.bytes > 0) d.mutate(as<double>(learned)[d.below(static_cast<int64_t>(learned.bytes / 8))]);
  }
  return states;
}

namespace {

void spoil_states(Draw& d, tkf_filter_states& s) {
  d.spoil(s.anchor_k, s.anchor_v, s.numbers, s.scores, s.learned, s.signs);
}

int32_t signs(Draw& d, tkf_context* context) {
  tkf_filter_spec spec;
  draw_spec(d, spec);
  tkf_buffer signs = d.bytes(int64_t{spec.projections} * spec.hidden_size * 4);
  spoil_spec(d, spec);
  d.spoil(signs);
  return tkf_filter_signs(context, d.maybe(&spec), d.said(sizeof spec), as<float>(signs), signs.bytes);
}

tkf_decisions draw_decisions(Draw& d, int32_t batch) {
  tkf_decisions decisions;
  decisions.keep = d.bytes(batch);
  for (int32_t b = 0; b < batch; b++) as<uint8_t>(decisions.keep)[b] &= 1;
  decisions.kept = d.ascending(batch, 0, 1);
  decisions.kept_count = d.zeros(8);
  if (!d.once(4)) as<int32_t>(decisions.kept_count)[0] = d.from(0, batch);
  decisions.columns = d.once(2) ? d.bytes(7 * int64_t{batch} * 8) : tkf_buffer{nullptr, 0};
  return decisions;
}

int32_t step(Draw& d, tkf_context* context) {
  tkf_filter_spec spec;
  draw_spec(d, spec);
  int32_t batch = d.from(0, 4);
  const int32_t dtype = d.float_dtype();
  const int64_t width = int64_t{spec.kv_heads} * spec.head_dim;
  tkf_filter_states states = draw_states(d, spec, batch);
  tkf_kv_cache cache = draw_cache(d, batch, spec.kv_heads, spec.head_dim, d.once(4) ? d.float_dtype() : dtype);
  tkf_step_rows rows;
  rows.filter_keys = d.values(dtype, batch * width);
  rows.keys = d.once(2) ? rows.filter_keys : d.values(dtype, batch * width);
  rows.values = d.values(dtype, batch * width);
  const int64_t hidden = int64_t{batch} * spec.hidden_size;
  rows.residual = d.floats(hidden), rows.normed = d.floats(hidden);
  rows.queries = d.floats(int64_t{batch} * spec.queries_size);
  rows.positions = d.ints(batch, -1, 40);
  rows.chunks = d.once(3) ? d.ints(batch, 0, 5) : tkf_buffer{nullptr, 0};
  rows.kv_dtype = dtype, rows.cache_skipped = d.from(0, 1);
  tkf_decisions decisions = draw_decisions(d, batch);
  if (d.once(2)) spoil_spec(d, spec);
  if (d.once(2)) spoil_states(d, states);
  if (d.once(2)) spoil_cache(d, cache);
  if (d.once(2)) {
    d.spoil(rows.filter_keys, rows.keys, rows.values, rows.residual, rows.normed, rows.queries, rows.positions,
            rows.chunks, rows.kv_dtype, rows.cache_skipped);
  }
  if (d.once(2)) d.spoil(decisions.keep, decisions.kept, decisions.kept_count, decisions.columns);
  return tkf_filter_step(context, d.once(8) ? nullptr : &spec, d.said(sizeof spec), d.maybe(&states),
                         d.said(sizeof states), d.maybe(&cache), d.said(sizeof cache), d.maybe(&rows),
                         d.said(sizeof rows), d.maybe(&decisions), d.said(sizeof decisions));
}

int32_t observe_batch(Draw& d, tkf_context* context) {
  tkf_filter_spec spec;
  draw_spec(d, spec);
  int32_t batch = d.from(0, 4);
  tkf_filter_states states = draw_states(d, spec, batch);
  tkf_decisions decisions = draw_decisions(d, batch);
  const int64_t hidden = int64_t{batch} * spec.hidden_size;
  tkf_buffer output = d.floats(hidden), residual = d.floats(hidden);
  if (d.once(2)) spoil_spec(d, spec);
  if (d.once(2)) spoil_states(d, states);
  d.spoil(batch, output, residual, decisions.keep, decisions.kept, decisions.kept_count);
  return tkf_filter_observe_batch(context, d.maybe(&spec), d.said(sizeof spec), d.maybe(&states), d.said(sizeof states),
                                  batch, d.maybe(&decisions), d.said(sizeof decisions), as<float>(output), output.bytes,
                                  as<float>(residual), residual.bytes);
}

int32_t scan_batch(Draw& d, tkf_context* context) {
  tkf_filter_spec spec;
  draw_spec(d, spec);
  const int32_t batch = d.from(0, 3), dtype = d.float_dtype();
  const int64_t num_rows = batch == 0 ? 0 : d.below(20), width = int64_t{spec.kv_heads} * spec.head_dim;
  tkf_filter_states states = draw_states(d, spec, batch);
  tkf_scan_rows rows;
  memset(&rows, 0, sizeof rows);
  rows.keys = d.values(dtype, num_rows * width), rows.values = d.values(dtype, num_rows * width);
  rows.residual = d.floats(num_rows * spec.hidden_size), rows.normed = d.floats(num_rows * spec.hidden_size);
  rows.queries = d.floats(num_rows * spec.queries_size);
  rows.starts = d.starts(batch, num_rows, &rows.longest);
  rows.chunks = d.once(3) ? d.ints(batch, 0, 5) : tkf_buffer{nullptr, 0};
  rows.keep = d.bytes(num_rows), rows.columns = d.bytes(7 * num_rows * 8), rows.taken = d.bytes(batch * 8);
  rows.num_rows = num_rows, rows.batch = batch, rows.kv_dtype = dtype, rows.tile = d.pick({0, 1, 7, 32, 128});
  if (d.once(2)) spoil_spec(d, spec);
  if (d.once(2)) spoil_states(d, states);
  d.spoil(rows.keys, rows.values, rows.residual, rows.normed, rows.queries, rows.starts, rows.chunks, rows.keep,
          rows.columns, rows.taken, rows.num_rows, rows.batch, rows.kv_dtype, rows.longest, rows.tile);
  return tkf_filter_scan_batch(context, d.maybe(&spec), d.said(sizeof spec), d.maybe(&states), d.said(sizeof states),
                               d.maybe(&rows), d.said(sizeof rows));
}

int32_t scan(Draw& d, tkf_context* context) {
  tkf_filter_spec spec;
  draw_spec(d, spec);
  const int32_t kept_dtype = d.float_dtype();
  int32_t dtype = kept_dtype;
  int64_t count = d.below(12);
  const int64_t width = int64_t{spec.kv_heads} * spec.head_dim;
  tkf_filter_states s = draw_states(d, spec, 1);
  tkf_buffer keys = d.values(dtype, count * width), values = d.values(dtype, count * width);
  tkf_buffer residual = d.floats(count * spec.hidden_size), normed = d.floats(count * spec.hidden_size);
  tkf_buffer queries = d.floats(count * spec.queries_size), keep = d.bytes(count), columns = d.bytes(7 * count * 8);
  tkf_buffer taken = d.bytes(8);
  if (d.once(2)) spoil_spec(d, spec);
  if (d.once(2)) spoil_states(d, s);
  d.spoil(dtype, count, keys, values, residual, normed, queries, keep, columns, taken);
  return tkf_filter_scan(context, d.maybe(&spec), d.said(sizeof spec), as<float>(s.anchor_k), s.anchor_k.bytes,
                         as<float>(s.anchor_v), s.anchor_v.bytes, as<double>(s.numbers), s.numbers.bytes,
                         as<double>(s.scores), s.scores.bytes, as<double>(s.learned), s.learned.bytes, dtype, keys.data,
                         keys.bytes, values.data, values.bytes, as<float>(residual), residual.bytes, as<float>(normed),
                         normed.bytes, as<float>(queries), queries.bytes, count, as<uint8_t>(keep), keep.bytes,
                         as<double>(columns), columns.bytes, as<int64_t>(taken), taken.bytes);
}

int32_t observe(Draw& d, tkf_context* context) {
  tkf_filter_spec spec;
  draw_spec(d, spec);
  tkf_filter_states s = draw_states(d, spec, 1);
  int64_t count = d.below(4);
  tkf_buffer y = d.doubles(count, 1);
  if (d.once(2)) spoil_spec(d, spec);
  if (d.once(2)) spoil_states(d, s);
  d.spoil(count, y);
  return tkf_filter_observe(context, d.maybe(&spec), d.said(sizeof spec), as<double>(s.numbers), s.numbers.bytes,
                            as<double>(s.scores), s.scores.bytes, as<double>(s.learned), s.learned.bytes, as<double>(y),
                            y.bytes, count);
}

}  // namespace

const Call kFilterCalls[] = {
    {"tkf_filter_signs", signs},
    {"tkf_filter_step", step},
    {"tkf_filter_observe_batch", observe_batch},
    {"tkf_filter_scan_batch", scan_batch},
    {"tkf_filter_scan", scan},
    {"tkf_filter_observe", observe},
};
const size_t kNumFilterCalls = sizeof kFilterCalls / sizeof *kFilterCalls;

}  // namespace fuzz
