// Checks of tkf_tensor_dequantize and tkf_embedding_gather.
#include "../common/check.h"

namespace tkf {

bool check_args(Check& check, const tkf_tensor_dequantize_args& a) {
  check.size("count", a.count);
  check.blocks("values", a.dtype, a.count);
  check.values("values", a.values, a.dtype, {a.count});
  check.array<float>("out", a.out, {a.count});
  return a.count > 0;
}

bool check_args(Check& check, const tkf_embedding_gather_args& a) {
  check.size("vocab", a.vocab);
  check.size("cols", a.cols);
  check.size("rows", a.rows);
  check.blocks("table", a.dtype, a.cols);
  check.values("table", a.table, a.dtype, {a.vocab, a.cols});
  check.array<int32_t>("ids", a.ids, {a.rows});
  check.array<float>("out", a.out, {a.rows, a.cols});
  check.indices("ids", a.ids, a.rows, a.vocab);
  check.scale(a.scale);
  return a.rows > 0 && a.cols > 0;
}

}  // namespace tkf
