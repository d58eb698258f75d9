// Checks of tkf_rows_copy, tkf_rows_scatter_add and tkf_rows_norm.
#include "../common/check.h"

namespace tkf {

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
