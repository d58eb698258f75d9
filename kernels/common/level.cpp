// The table of a level's bodies, compiled once for each instruction-set level.
#include "bodies.h"

namespace tkf {
namespace TKF_NAMESPACE {

// A TKF_ONCE is found in `tkf`: it has one body for all levels.
static constexpr Kernels kTable = {
#define TKF_OP(name, ...) name,
#define TKF_BODY(name, Job) name,
#include "../ops.def"
};

}  // namespace TKF_NAMESPACE

#if TKF_LEVEL == TKF_LEVEL_AVX512
extern const Kernels kKernelsAvx512 = TKF_NAMESPACE::kTable;
#elif TKF_LEVEL == TKF_LEVEL_AVX2
extern const Kernels kKernelsAvx2 = TKF_NAMESPACE::kTable;
#else
extern const Kernels kKernelsBase = TKF_NAMESPACE::kTable;
#endif

}  // namespace tkf
