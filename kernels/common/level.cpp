// Everything that is compiled once per instruction-set level: the bodies of all ops, and the table of them.
#include "simd.h"

#define TKF_BODIES
#include "../ops.def"

namespace tkf {
namespace TKF_NAMESPACE {

// A name that this level does not have is found in `tkf`: what an op does once for all levels.
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
