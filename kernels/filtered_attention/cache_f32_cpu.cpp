// Filtered attention over a cache of f32.
#include "tasks.h"

namespace tkf::TKF_NAMESPACE::attention {

TKF_ATTENTION_TASKS(F32)

}  // namespace tkf::TKF_NAMESPACE::attention
