// Filtered attention over a cache of bf16.
#include "tasks.h"

namespace tkf::TKF_NAMESPACE::attention {

TKF_ATTENTION_TASKS(Bf16)

}  // namespace tkf::TKF_NAMESPACE::attention
