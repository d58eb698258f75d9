// Checks of tkf_rows_copy, tkf_rows_scatter_add and tkf_rows_norm.
#include "../common/check.h"

namespace tkf {

// Rows that move within a tensor come to lie at or before their own places, in order: none is overwritten before it is
// read, where one after the other is.
static void check_moves(Check& check, const tkf_rows_copy_args& a) {
  if (a.rows == 0) return;
  const bool moves = a.x.data == a.out.data, moves2 = a.x2.data == a.out2.data;
  check.require(a.out2.data == nullptr || moves == moves2, TKF_STATUS_VALUE,
                "found \"x\" as \"out\" or \"x2\" as \"out2\" alone, expected both or neither");
  if (!moves) return;
  check.require(!check.on_device(), TKF_STATUS_UNSUPPORTED, "found \"x\" as \"out\", expected two tensors on a device");
  check.require(a.dtype == a.out_dtype, TKF_STATUS_DTYPE, "found \"x\" as \"out\", expected one element type");
  const int32_t* const indices = as<int32_t>(a.indices);
  int64_t before = a.at - 1;  // rows that ascend from there on are none behind their own places
  for (int64_t i = 0; check.ok() && i < a.rows; i++) {
    const int64_t row = indices == nullptr ? i : indices[i];
    if (row <= before) {
      check.fail(TKF_STATUS_VALUE, "found row %" PRId64 " of \"x\" moved to %" PRId64 " of itself, expected rows in "
                 "order, none to a place behind its own", row, a.at + i);
    }
    before = row;
  }
}

bool check_args(Check& check, const tkf_rows_copy_args& a) {
  check.dtype("x", a.dtype);
  check.dtype("out", a.out_dtype);
  if (check.ok() && a.dtype != TKF_DTYPE_F32) check.dtype("out", a.out_dtype, {TKF_DTYPE_F32, a.dtype});
  check.size("x_rows", a.x_rows);
  check.size("cols", a.cols);
  check.size("rows", a.rows, 0, a.indices.data == nullptr ? a.x_rows : INT64_MAX);
  check.size("at", a.at, 0, INT64_MAX - (a.rows > 0 ? a.rows : 0));
  const int64_t end = check.ok() ? a.at + a.rows : 0;
  check.values("x", a.x, a.dtype, {a.x_rows, a.cols});
  check.values("out", a.out, a.out_dtype, {end, a.cols});
  if (a.out2.data != nullptr) {
    check.values("x2", a.x2, a.dtype, {a.x_rows, a.cols});
    check.values("out2", a.out2, a.out_dtype, {end, a.cols});
  }
  if (a.indices.data != nullptr) {
    check.array<int32_t>("indices", a.indices, {a.rows});
    check.indices("indices", a.indices, a.rows, a.x_rows);
  }
  check_moves(check, a);
  return a.rows > 0 && a.cols > 0;
}

bool check_args(Check& check, const tkf_rows_scatter_add_args& a) {
  check.size("x_rows", a.x_rows);
  check.size("cols", a.cols);
  check.size("rows", a.rows);
  check.array<float>("x", a.x, {a.x_rows, a.cols});
  check.array<int32_t>("indices", a.indices, {a.rows});
  check.array<float>("delta", a.delta, {a.rows, a.cols});
  check.indices("indices", a.indices, a.rows, a.x_rows);
  return a.rows > 0 && a.cols > 0;
}

bool check_args(Check& check, const tkf_rows_norm_args& a) {
  check.size("rows", a.rows);
  check.size("cols", a.cols);
  check.array<float>("x", a.x, {a.rows, a.cols});
  check.array<double>("out", a.out, {a.rows});
  return a.rows > 0;
}

}  // namespace tkf
