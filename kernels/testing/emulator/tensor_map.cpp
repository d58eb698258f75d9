// Tensor maps: the rules of cuTensorMapEncodeTiled, from its documentation in <cuda.h>.
#include "tensor_map.h"

#include "machine.h"

namespace tkf::simt {
namespace {

constexpr uint64_t kMapSignature = 0x70616d726f736e65u;

}  // namespace

TensorMap read_map(const char* name, const CUtensorMap* map) {
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0) {
    die("%s: found a tensor map at %p, expected 64-byte alignment", name, static_cast<const void*>(map));
  }
  TensorMap found;
  memcpy(&found, map->opaque, sizeof found);
  if (found.signature != kMapSignature) die("%s: found no tensor map, expected one of cuTensorMapEncodeTiled", name);
  return found;
}

}  // namespace tkf::simt

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  using namespace tkf::simt;
  const bool is_float16 = type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  bool modelled = rank == 3 && is_float16 && swizzle == CU_TENSOR_MAP_SWIZZLE_128B &&
                  interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE &&
                  promotion == CU_TENSOR_MAP_L2_PROMOTION_L2_256B && box[0] == 64;
  for (unsigned i = 1; i < rank; i++) modelled &= steps[i] == 1;
  if (!modelled) die("cuTensorMapEncodeTiled: found a tensor that is not modelled");
  const auto aligned = [](const void* pointer, uintptr_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
  };
  if (map == nullptr || !aligned(map, 64) || !aligned(address, 16)) return CUDA_ERROR_INVALID_VALUE;
  TensorMap made = {kMapSignature, static_cast<const unsigned char*>(address), {}, {}, {}};
  unsigned __int128 least = 2;  // stride of this dimension without padding
  for (unsigned i = 0; i < rank; i++) {
    if (sizes[i] == 0 || sizes[i] > uint64_t{1} << 32) return CUDA_ERROR_INVALID_VALUE;
    if (box[i] == 0 || box[i] > 256) return CUDA_ERROR_INVALID_VALUE;
    made.sizes[i] = sizes[i];
    made.box[i] = static_cast<uint16_t>(box[i]);
    if (i + 1 == rank) break;
    least *= sizes[i];
    if (strides[i] % 16 != 0 || strides[i] >> 40 != 0 || strides[i] < least) return CUDA_ERROR_INVALID_VALUE;
    made.strides[i] = least = strides[i];
  }
  memset(map->opaque, 0, sizeof map->opaque);
  memcpy(map->opaque, &made, sizeof made);
  return CUDA_SUCCESS;
}
