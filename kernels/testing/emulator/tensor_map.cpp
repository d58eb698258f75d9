// Tensor maps: the rules of cuTensorMapEncodeTiled, from its documentation in <cuda.h>.
#include "tensor_map.h"

#include "machine.h"

namespace tkf::simt {
namespace {

constexpr uint64_t kSignature = 0x70616d726f736e65u;

unsigned element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64: return 8;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ:
    case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32:
    case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ: return 4;
  }
  die("cuTensorMapEncodeTiled: found data type %d, expected one of whole bytes: no other is modelled", type);
}

bool is_float(CUtensorMapDataType type) {
  return type >= CU_TENSOR_MAP_DATA_TYPE_FLOAT16;  // all from here on
}

}  // namespace

TensorMap read_map(const char* name, const CUtensorMap* map) {
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0) {
    die("%s: found a tensor map at %p, expected 64-byte alignment", name, static_cast<const void*>(map));
  }
  TensorMap found;
  memcpy(&found, map->opaque, sizeof found);
  if (found.signature != kSignature) die("%s: found no tensor map, expected one of cuTensorMapEncodeTiled", name);
  return found;
}

}  // namespace tkf::simt

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  using namespace tkf::simt;
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE) {
    die("cuTensorMapEncodeTiled: found interleave %d, expected none: no other is modelled", interleave);
  }
  if (swizzle < CU_TENSOR_MAP_SWIZZLE_NONE || swizzle > CU_TENSOR_MAP_SWIZZLE_128B) {
    die("cuTensorMapEncodeTiled: found swizzle %d, expected chunks of 16 bytes: no other is modelled", swizzle);
  }
  const auto aligned = [](const void* pointer, uintptr_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
  };
  if (map == nullptr || !aligned(map, 64) || !aligned(address, 16)) return CUDA_ERROR_INVALID_VALUE;
  if (rank < 1 || rank > 5) return CUDA_ERROR_INVALID_VALUE;
  if (promotion < CU_TENSOR_MAP_L2_PROMOTION_NONE || promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) {
    if (!is_float(type)) return CUDA_ERROR_INVALID_VALUE;
    die("cuTensorMapEncodeTiled: found fill %d, expected zeros: no other is modelled", fill);
  }
  TensorMap made = {};
  made.signature = kSignature;
  made.address = static_cast<const unsigned char*>(address);
  made.rank = static_cast<uint8_t>(rank);
  made.element_bytes = static_cast<uint8_t>(element_bytes(type));
  made.swizzle = static_cast<uint8_t>(swizzle);
  unsigned __int128 least = made.element_bytes;  // stride of this dimension without padding
  for (unsigned i = 0; i < rank; i++) {
    if (sizes[i] == 0 || sizes[i] > uint64_t{1} << 32) return CUDA_ERROR_INVALID_VALUE;
    if (box[i] == 0 || box[i] > 256) return CUDA_ERROR_INVALID_VALUE;
    if (steps[i] == 0 || steps[i] > 8) return CUDA_ERROR_INVALID_VALUE;
    made.sizes[i] = sizes[i];
    made.box[i] = static_cast<uint16_t>(box[i]);
    made.stepped |= i > 0 && steps[i] != 1;  // the first is ignored
    if (i + 1 == rank) break;
    least *= sizes[i];
    if (strides[i] % 16 != 0 || strides[i] >> 40 != 0 || strides[i] < least) return CUDA_ERROR_INVALID_VALUE;
    made.strides[i] = least = strides[i];
  }
  const unsigned inner = box[0] * made.element_bytes;
  if (inner % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
  if (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && inner > 16u << swizzle) return CUDA_ERROR_INVALID_VALUE;
  memset(map->opaque, 0, sizeof map->opaque);
  memcpy(map->opaque, &made, sizeof made);
  return CUDA_SUCCESS;
}
