// Filtered attention over a cache of f16.
#include "tasks.h"

namespace tkf::TKF_NAMESPACE::attention {

TKF_ATTENTION_TASKS(F16)

}  // namespace tkf::TKF_NAMESPACE::attention
