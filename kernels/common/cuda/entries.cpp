// The entry points of the CUDA library; those that are about its contexts alone: context.cu.
#define TKF_ON_CUDA
#define TKF_BODY_OF(name) tkf::on_cuda::name
#include "../entry.h"
