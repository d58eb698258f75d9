// What kernels use of tensor maps in the driver's <cuda.h>: cuTensorMapEncodeTiled for tensors of three dimensions in
// 16-bit floats with swizzled rows of 128 bytes, and of its documented checks those that such a tensor can fail.
#pragma once
#include <cstdint>

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };

struct alignas(64) CUtensorMap {
  uint64_t opaque[16];
};

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

namespace tkf::simt {

// What a CUtensorMap holds.
struct TensorMap {
  uint64_t signature;
  const unsigned char* address;
  uint64_t sizes[3], strides[2];
  uint16_t box[3];
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

// Aborts where cuTensorMapEncodeTiled has not made it.
TensorMap read_map(const char* name, const CUtensorMap* map);

}  // namespace tkf::simt
