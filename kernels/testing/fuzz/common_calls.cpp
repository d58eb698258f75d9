// Random calls of tokenfilter.h, filter and attention aside, and of the few that stand beside them.
#include "draw.h"

namespace fuzz {
namespace {

using F = float;

// Columns in whole blocks of an element type, mostly.
int64_t draw_cols(Draw& d, int32_t dtype) {
  const int64_t block = Draw::block_values(dtype);
  return block == 1 ? d.below(70) : block * d.below(4) + (d.once(20) ? 1 : 0);
}

int32_t dequantize(Draw& d, tkf_context* context) {
  int32_t dtype = d.any_dtype();
  int64_t count = draw_cols(d, dtype);
  tkf_buffer values = d.values(dtype, count), out = d.bytes(count * 4);
  d.spoil(dtype, count, values, out);
  return tkf_tensor_dequantize(context, dtype, values.data, values.bytes, count, as<F>(out), out.bytes);
}

int32_t embedding(Draw& d, tkf_context* context) {
  int32_t dtype = d.any_dtype();
  int64_t cols = draw_cols(d, dtype), vocab = d.below(6), rows = d.below(6);
  tkf_buffer table = d.bytes(vocab * (cols / Draw::block_values(dtype)) * Draw::block_bytes(dtype));
  tkf_buffer ids = d.ints(rows, 0, static_cast<int32_t>(vocab) - 1), out = d.bytes(rows * cols * 4);
  d.spoil(dtype, cols, vocab, rows, table, ids, out);
  return tkf_embedding_gather(context, dtype, table.data, table.bytes, vocab, cols, as<int32_t>(ids), ids.bytes, rows,
                              as<F>(out), out.bytes);
}

int32_t rms_norm(Draw& d, tkf_context* context) {
  int64_t rows = d.below(4), cols = d.below(100);
  double eps = 1e-5;
  tkf_buffer x = d.floats(rows * cols), weight = d.floats(cols), out = d.bytes(rows * cols * 4);
  d.spoil(rows, cols, eps, x, weight, out);
  return tkf_rms_norm_apply(context, as<F>(x), x.bytes, as<F>(weight), weight.bytes, eps, rows, cols, as<F>(out),
                            out.bytes);
}

int32_t linear(Draw& d, tkf_context* context) {
  int32_t dtype = d.any_dtype();
  int64_t k = draw_cols(d, dtype), n = d.below(20), rows = d.below(d.once(4) ? 30 : 4);
  tkf_buffer x = d.floats(rows * k), out = d.bytes(rows * n * 4);
  tkf_buffer weight = d.bytes(n * (k / Draw::block_values(dtype)) * Draw::block_bytes(dtype));
  d.spoil(dtype, k, n, rows, x, weight, out);
  return tkf_linear_apply(context, as<F>(x), x.bytes, dtype, weight.data, weight.bytes, rows, n, k, as<F>(out),
                          out.bytes);
}

int32_t rope(Draw& d, tkf_context* context) {
  int64_t rows = d.below(4), heads = d.below(4), head_dim = d.below(20) * 2;
  double theta = 10000;
  tkf_buffer x = d.floats(rows * heads * head_dim), positions = d.ints(rows, 0, 5000);
  d.spoil(rows, heads, head_dim, theta, x, positions);
  return tkf_rope_apply(context, as<F>(x), x.bytes, as<int32_t>(positions), positions.bytes, theta, rows, heads,
                        head_dim);
}

int32_t swiglu(Draw& d, tkf_context* context) {
  int64_t count = d.below(300);
  tkf_buffer gate = d.floats(count), up = d.floats(count), out = d.once(4) ? gate : d.bytes(count * 4);
  d.spoil(count, gate, up, out);
  return tkf_swiglu_apply(context, as<F>(gate), gate.bytes, as<F>(up), up.bytes, count, as<F>(out), out.bytes);
}

int32_t rows_gather(Draw& d, tkf_context* context) {
  int32_t dtype = d.float_dtype(), out_dtype = d.once(2) ? dtype : TKF_DTYPE_F32;
  int64_t x_rows = d.below(6), cols = d.below(40), rows = d.below(6);
  tkf_buffer x = d.values(dtype, x_rows * cols), indices = d.ints(rows, 0, static_cast<int32_t>(x_rows) - 1);
  tkf_buffer out = d.bytes(rows * cols * Draw::block_bytes(out_dtype));
  d.spoil(dtype, out_dtype, x_rows, cols, rows, x, indices, out);
  return tkf_rows_gather(context, dtype, x.data, x.bytes, x_rows, cols, as<int32_t>(indices), indices.bytes, rows,
                         out_dtype, out.data, out.bytes);
}

int32_t rows_scatter_add(Draw& d, tkf_context* context) {
  int64_t x_rows = d.below(6), cols = d.below(40), rows = d.below(6);
  tkf_buffer x = d.floats(x_rows * cols), delta = d.floats(rows * cols), indices = d.ascending(rows, 0, 1);
  d.spoil(x_rows, cols, rows, x, delta, indices);
  return tkf_rows_scatter_add(context, as<F>(x), x.bytes, x_rows, cols, as<int32_t>(indices), indices.bytes, rows,
                              as<F>(delta), delta.bytes);
}

int32_t rows_store(Draw& d, tkf_context* context) {
  int32_t out_dtype = d.float_dtype();
  int64_t rows = d.below(5), cols = d.below(40), at = d.below(4);
  tkf_buffer x = d.floats(rows * cols), out = d.bytes((at + rows + d.below(2)) * cols * Draw::block_bytes(out_dtype));
  d.spoil(out_dtype, rows, cols, at, x, out);
  return tkf_rows_store(context, as<F>(x), x.bytes, rows, cols, out_dtype, out.data, out.bytes, at);
}

int32_t rows_norm(Draw& d, tkf_context* context) {
  int64_t rows = d.below(5), cols = d.below(100);
  tkf_buffer x = d.floats(rows * cols), out = d.bytes(rows * 8);
  d.spoil(rows, cols, x, out);
  return tkf_rows_norm(context, as<F>(x), x.bytes, rows, cols, as<double>(out), out.bytes);
}

int32_t nll(Draw& d, tkf_context* context) {
  int64_t rows = d.below(4), vocab = d.below(300);
  tkf_buffer logits = d.floats(rows * vocab), targets = d.ints(rows, 0, static_cast<int32_t>(vocab) - 1);
  tkf_buffer out = d.bytes(rows * 8);
  d.spoil(rows, vocab, logits, targets, out);
  return tkf_nll_compute(context, as<F>(logits), logits.bytes, as<int32_t>(targets), targets.bytes, rows, vocab,
                         as<double>(out), out.bytes);
}

int32_t logits_compare(Draw& d, tkf_context* context) {
  int64_t rows = d.below(4), vocab = d.below(300);
  tkf_buffer base = d.floats(rows * vocab), other = d.floats(rows * vocab);
  tkf_buffer targets = d.ints(rows, 0, static_cast<int32_t>(vocab) - 1), agree = d.bytes(rows);
  tkf_buffer nll = d.bytes(rows * 8), base_nll = d.bytes(rows * 8), kl = d.bytes(rows * 8);
  d.spoil(rows, vocab, base, other, targets, nll, base_nll, kl, agree);
  return tkf_logits_compare(context, as<F>(base), base.bytes, as<F>(other), other.bytes, as<int32_t>(targets),
                            targets.bytes, rows, vocab, as<double>(nll), nll.bytes, as<double>(base_nll),
                            base_nll.bytes, as<double>(kl), kl.bytes, as<uint8_t>(agree), agree.bytes);
}

// Slots of a batch in ascending order, and how many; seldom none are given.
void draw_kept(Draw& d, int32_t batch, tkf_buffer& kept, tkf_buffer& count) {
  kept = d.ascending(batch, 0, 1);
  count = d.ints(2, 0, batch);
  if (d.once(4)) kept = count = {nullptr, 0};
}

int32_t linear_rows(Draw& d, tkf_context* context) {
  int32_t dtype = d.any_dtype(), batch = d.from(0, 9);
  int64_t k = draw_cols(d, dtype), n = d.below(20);
  tkf_buffer x = d.floats(batch * k), out = d.bytes(batch * n * 4), kept, count;
  tkf_buffer weight = d.bytes(n * (k / Draw::block_values(dtype)) * Draw::block_bytes(dtype));
  draw_kept(d, batch, kept, count);
  d.spoil(dtype, batch, k, n, x, weight, kept, count, out);
  return tkf_linear_rows(context, as<F>(x), x.bytes, dtype, weight.data, weight.bytes, batch, n, k, as<int32_t>(kept),
                         kept.bytes, as<int32_t>(count), count.bytes, as<F>(out), out.bytes);
}

int32_t rows_add_kept(Draw& d, tkf_context* context) {
  int32_t batch = d.from(0, 6);
  int64_t cols = d.below(60);
  tkf_buffer x = d.floats(batch * cols), delta = d.floats(batch * cols), kept, count;
  draw_kept(d, batch, kept, count);
  d.spoil(batch, cols, x, delta, kept, count);
  return tkf_rows_add_kept(context, as<F>(x), x.bytes, as<F>(delta), delta.bytes, batch, cols, as<int32_t>(kept),
                           kept.bytes, as<int32_t>(count), count.bytes);
}

int32_t rope_kept(Draw& d, tkf_context* context) {
  int32_t batch = d.from(0, 6);
  int64_t heads = d.below(4), head_dim = d.below(20) * 2;
  double theta = 10000;
  tkf_buffer x = d.floats(batch * heads * head_dim), positions = d.ints(batch, -1, 5000), kept, count;
  draw_kept(d, batch, kept, count);
  d.spoil(batch, heads, head_dim, theta, x, positions, kept, count);
  return tkf_rope_kept(context, as<F>(x), x.bytes, as<int32_t>(positions), positions.bytes, theta, batch, heads,
                       head_dim, as<int32_t>(kept), kept.bytes, as<int32_t>(count), count.bytes);
}

int32_t positions_advance(Draw& d, tkf_context* context) {
  int32_t batch = d.from(0, 40);
  tkf_buffer positions = d.ints(batch, -1, 100);
  d.spoil(batch, positions);
  return tkf_positions_advance(context, as<int32_t>(positions), positions.bytes, batch);
}

int32_t logits_argmax(Draw& d, tkf_context* context) {
  int64_t rows = d.below(4), vocab = d.below(300);
  tkf_buffer logits = d.floats(rows * vocab), ids = d.bytes(rows * 4);
  d.spoil(rows, vocab, logits, ids);
  return tkf_logits_argmax(context, as<F>(logits), logits.bytes, rows, vocab, as<int32_t>(ids), ids.bytes);
}

// Calls that make or change contexts, with what cannot work.
int32_t contexts(Draw& d, tkf_context* context) {
  tkf_context* out = nullptr;
  switch (d.below(7)) {
    case 0: return tkf_context_create(d.from(-1, 4), d.from(-2, 4), d.once(2) ? &out : nullptr);
    case 1: return tkf_cuda_context_create(nullptr, nullptr);
    case 2: {
      const int32_t status = tkf_cuda_context_create(nullptr, &out);
      if (status == TKF_STATUS_OK) tkf_context_destroy(out);
      return status;
    }
    case 3: return tkf_blas_load(context, d.once(2) ? nullptr : "/nonexistent/libcublasLt.so");
    case 4: {
      const tkf_buffer out = d.bytes(d.below(16));
      return tkf_machine_measure(context, as<double>(out), out.bytes);
    }
    case 5: return tkf_cuda_wgmma_use(context, d.from(-1, 2));
    default: {
      tkf_cuda_workspace_wanted(context);
      return tkf_cuda_workspace_reserve(context, d.once(3) ? UINT64_MAX - static_cast<uint64_t>(d.below(9000))
                                                           : static_cast<uint64_t>(d.below(100000)));
    }
  }
}

// The emulator's own functions.
int32_t emulator(Draw& d, tkf_context*) {
  switch (d.below(4)) {
    case 0: return tkf_emulator_order(d.from(-2, 6), d.bits());
    case 1: return tkf_emulator_capture_end(nullptr);
    case 2: return tkf_emulator_graph_launch(nullptr);
    default: {
      tkf_emulator_graph* graph = nullptr;
      return tkf_emulator_capture_end(&graph);
    }
  }
}

}  // namespace

const Call kCommonCalls[] = {
    {"tkf_tensor_dequantize", dequantize},
    {"tkf_embedding_gather", embedding},
    {"tkf_rms_norm_apply", rms_norm},
    {"tkf_linear_apply", linear},
    {"tkf_rope_apply", rope},
    {"tkf_swiglu_apply", swiglu},
    {"tkf_rows_gather", rows_gather},
    {"tkf_rows_scatter_add", rows_scatter_add},
    {"tkf_rows_store", rows_store},
    {"tkf_rows_norm", rows_norm},
    {"tkf_nll_compute", nll},
    {"tkf_logits_compare", logits_compare},
    {"tkf_linear_rows", linear_rows},
    {"tkf_rows_add_kept", rows_add_kept},
    {"tkf_rope_kept", rope_kept},
    {"tkf_positions_advance", positions_advance},
    {"tkf_logits_argmax", logits_argmax},
    {"contexts", contexts},
    {"emulator", emulator},
};
const size_t kNumCommonCalls = sizeof kCommonCalls / sizeof *kCommonCalls;

}  // namespace fuzz
