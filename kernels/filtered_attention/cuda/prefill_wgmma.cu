// Prefill on the tensor cores of sm_90a: wgmma, with keys and values loaded by TMA. The same job as prefill_mma.cuh,
// which stands in for it on other devices.
//
// Two warpgroups take 64 rows each; one warp loads key tiles ahead, two stages deep. They meet at barriers in shared
// memory: `full` when a tile has come, `empty` when all 8 warps are done with it.
#include "../../common/cuda/hopper.h"
#include "fragments.cuh"
#include "launchers.h"

namespace tkf::attention {

constexpr int kWgmmaRows = 128, kWgmmaKeys = 128, kWgmmaStages = 2;
constexpr int kWgmmaConsumers = 256, kWgmmaThreads = kWgmmaConsumers + 32;

// Queries, then keys and values of each stage: [D / 64, 128 rows, 128 bytes] each, at a multiple of 1024.
template <int D>
constexpr int kWgmmaMatrix = 128 * D * 2;
template <int D>
constexpr size_t kWgmmaShared = size_t{1 + 2 * kWgmmaStages} * kWgmmaMatrix<D> + 1024;

// Keys and values, kept and recent, as tensors [rows, kv_heads, head_dim] that TMA reads in boxes [128, 1, 64].
struct PrefillMaps {
  CUtensorMap keys[2], values[2];
};

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TKF_HAS_WGMMA 1
#endif

template <class T, int D>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    prefill_wgmma_kernel(const PrefillJob job, const __grid_constant__ PrefillMaps maps) {
  wait_for_earlier_kernels();
#if defined(TKF_HAS_WGMMA)
  using namespace hopper;
  constexpr int kMatrix = kWgmmaMatrix<D>, kBlock = 128 * 128;  // bytes of a matrix; of 64 columns of it
  TKF_DYNAMIC_SHARED(unsigned char, dynamic);
  unsigned char* const shared = dynamic + (1024 - shared_address(dynamic) % 1024) % 1024;
  TKF_SHARED(Tile, tile);
  TKF_SHARED(uint64_t[2][kWgmmaStages], full);  // keys, values
  TKF_SHARED(uint64_t[2][kWgmmaStages], empty);

  const int kv_head = static_cast<int>(blockIdx.y);
  const BlockShare share(job, kWgmmaRows);
  if (kv_head == 0) check_positions(job);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kWgmmaStages; s++) {
      for (int which = 0; which < 2; which++) {
        barrier_start(&full[which][s], 1);
        barrier_start(&empty[which][s], kWgmmaConsumers / 32);
      }
    }
    fence_async();
  }
  find_tile<kWgmmaRows>(job, share.first_row, &tile);
  if (tile.num_rows <= 0) return;
  const KeyTiles<kWgmmaKeys> tiles(job, tile, share.split);
  const auto matrix = [&](int which, int stage) { return shared + (1 + stage * 2 + which) * kMatrix; };

  const int warp = warp_index(), lane = lane_index(), first = warp * 16;  // row of this warp's 16
  const bool loads = warp == kWgmmaConsumers / 32;
  const auto meet = [] { sync_named<1, kWgmmaConsumers>(); };
  if (!loads) {
    load_queries<T, D, kWgmmaRows, kWgmmaConsumers>(job, tile, kv_head, [&](int r, int c) {
      return shared + c / 64 * kBlock + swizzled(r, c % 64);
    });
    fence_async();
    meet();
  }
  Softmax16 softmax;
  float sums[1][D / 8][4];
  const uint64_t query_matrix = describe(shared + warp / 4 * 64 * 128);

  int t = 0;
  bool guarded = false;
  do {
    softmax.start(sums[0]);
    if (loads) {
      for (int now = tiles.first(); now >= 0; now = tiles.after(now), t++) {
        if (lane != 0) continue;
        const int stage = t % kWgmmaStages;
        const uint32_t parity = static_cast<uint32_t>(t / kWgmmaStages) & 1;
        const KeyTile at = tiles.at(now);
        for (int which = 0; which < 2; which++) {
          const CUtensorMap* map = which == 0 ? &maps.keys[at.which] : &maps.values[at.which];
          barrier_wait(&empty[which][stage], parity ^ 1);  // the first round finds all empty
          barrier_expect(&full[which][stage], kMatrix);
          for (int c = 0; c < D / 64; c++) {
            load_box(matrix(which, stage) + c * kBlock, map, c * 64, kv_head, at.begin, &full[which][stage]);
          }
        }
      }
    } else {
      for (int now = tiles.first(); now >= 0; now = tiles.after(now), t++) {
        const KeyTile at = tiles.at(now);
        const int stage = t % kWgmmaStages;
        const uint32_t parity = static_cast<uint32_t>(t / kWgmmaStages) & 1;
        float scores[kWgmmaKeys / 8][4];
        barrier_wait(&full[0][stage], parity);
        const uint64_t key_matrix = describe(matrix(0, stage));
        wgmma_fence(scores);
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          const uint64_t step = static_cast<uint64_t>((k / 4 * kBlock + k % 4 * 32) >> 4);
          Wgmma<T>::scores(scores, query_matrix + step, key_matrix + step, k > 0);
        }
        wgmma_commit();
        wgmma_wait(scores);
        if (lane == 0) barrier_arrive(&empty[0][stage]);

        if (!at.full) mask_scores(scores, tiles.sight(at), tile.rows + first);
        softmax.update(scores, job.factor, sums[0]);
        uint32_t weights[kWgmmaKeys / 16][4];
#pragma unroll
        for (int k = 0; k < kWgmmaKeys / 16; k++) {
          pack_weights<T>(scores, k, weights[k]);
        }

        barrier_wait(&full[1][stage], parity);
        unsigned char* const values = matrix(1, stage);
        if (guarded && !at.full) {
          const auto pairs = [&](int r, int c) {
            return reinterpret_cast<uint32_t*>(values + c / 64 * kBlock + swizzled(r, c % 64));
          };
          guard_values<T, D, kWgmmaKeys, kWgmmaConsumers>(
              pairs,
              [&] {
                fence_async();
                meet();
              },
              tiles.sight(at), at.count, tile.rows + first, sums);
        }
        const uint64_t value_matrix = describe(values, kBlock);
        wgmma_fence(sums[0]);
#pragma unroll
        for (int k = 0; k < kWgmmaKeys / 16; k++) {
          Wgmma<T>::values(sums[0], weights[k], value_matrix + static_cast<uint64_t>(k * 16 * 128 >> 4));
        }
        wgmma_commit();
        wgmma_wait(sums[0]);
        wgmma_keep(weights);
        if (lane == 0) barrier_arrive(&empty[1][stage]);
      }
    }
    guarded = !guarded && __syncthreads_and(loads || all_finite(sums)) == 0;
  } while (guarded);
  if (loads) return;
  store_sums<D>(job, tile, kv_head, share.split, first, softmax, sums[0]);
#else
  __trap();  // never launched: has_wgmma
#endif
}

#undef TKF_HAS_WGMMA

namespace {

constexpr int64_t kFewestRows = kWgmmaRows;  // fewer leave half of a tile empty

hopper::EncodeFunction encode_function() {
  static const hopper::EncodeFunction found = hopper::find_encode();
  return found;
}

// [rows, kv_heads, head_dim] as TMA sees it. A tensor without rows is never read; its map shows one row of another.
bool make_map(hopper::EncodeFunction encode, CUtensorMap* map, const PrefillJob& job, int dtype, const void* data,
              int rows) {
  const cuuint64_t head_dim = static_cast<cuuint64_t>(job.head_dim), kv_heads = static_cast<cuuint64_t>(job.kv_heads);
  const cuuint64_t sizes[3] = {head_dim, kv_heads, static_cast<cuuint64_t>(rows < 1 ? 1 : rows)};
  const cuuint64_t strides[2] = {head_dim * 2, head_dim * kv_heads * 2};  // bytes, of all but the first
  const cuuint32_t box[3] = {64, 1, kWgmmaKeys}, steps[3] = {1, 1, 1};
  const CUtensorMapDataType type =
      dtype == TKF_DTYPE_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return encode(map, type, 3, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <class T>
void launch(const Stream& stream, const PrefillJob& job, const PrefillMaps& maps) {
  with_size<64, 128>(job.head_dim, [&](auto size) {
    constexpr int D = decltype(size)::value;
    if (TKF_ALLOW_SHARED((prefill_wgmma_kernel<T, D>), kWgmmaShared<D>) != cudaSuccess) return;
    TKF_LAUNCH(stream, (prefill_wgmma_kernel<T, D>), prefill_grid(job, kWgmmaRows), dim3(kWgmmaThreads),
               kWgmmaShared<D>, job, maps);
  });
}

}  // namespace

bool has_wgmma(const tkf_context* context) {
  if (cuda_arch(context) != 90 || encode_function() == nullptr) return false;
  cudaFuncAttributes found = {};
  const cudaError_t error = cudaFuncGetAttributes(&found, prefill_wgmma_kernel<__nv_bfloat16, 128>);
  if (error != cudaSuccess) cudaGetLastError();  // the result reports it
  return error == cudaSuccess && found.ptxVersion >= 90;
}

bool launch_wgmma(tkf_context* context, PrefillJob& job, int dtype) {
  if (!cuda_wgmma(context) || job.head_dim > 128) return false;
  if (int64_t{job.num_queries} * job.group < kFewestRows || job.num_rows[0] == 0) return false;
  const hopper::EncodeFunction encode = encode_function();
  PrefillMaps maps;
  for (int which = 0; which < 2; which++) {
    const int from = job.num_rows[which] > 0 ? which : 0;
    if (!make_map(encode, &maps.keys[which], job, dtype, job.keys[from], job.num_rows[which]) ||
        !make_map(encode, &maps.values[which], job, dtype, job.values[from], job.num_rows[which])) {
      return false;
    }
  }
  if (!plan_splits(context, job, kWgmmaRows, 1)) return true;  // reported by the caller
  const Stream stream = cuda_stream(context);
  dtype == TKF_DTYPE_F16 ? launch<__half>(stream, job, maps) : launch<__nv_bfloat16>(stream, job, maps);
  return true;
}

}  // namespace tkf::attention
