// out = x W' for few rows of x (memory-bound): each weight is read once, dequantized in a register and used for all rows.
// Four warps share a few rows of weights along k; their sums are added in shared memory. From 5 rows on by tensor cores
// (few_rows_mma.cuh), for 16-bit weights and quantised ones; of many rows where there is no cuBLASLt.
#include <algorithm>

#include "../common/cuda/launch.h"
#include "../common/cuda/reduce.cuh"
#include "../common/cuda/weights.cuh"
#include "few_rows.cuh"
#include "few_rows_mma.cuh"
#include "linear.h"

namespace tkf {

constexpr int kFewRowsWarps = 4, kFewRowsThreads = 32 * kFewRowsWarps;

// Rows of weights that a block takes, so that a load of x serves all of them.
template <class Weight>
constexpr int kWeightRows = Weight::RUNS * Weight::RUN > 16 ? 2 : 4;

// From sm_100 on the same code takes more of them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr bool kMoreRegisters = true;
#else
constexpr bool kMoreRegisters = false;
#endif

// Blocks that a multiprocessor is to hold, which bounds a thread's registers: as many as do without spilling.
template <class Weight, int M>
constexpr int kFewRowsBlocks = kWeightRows<Weight> == 2 ? (M <= 2 ? 3 : 2)
                               : kMoreRegisters && M >= 2 && Weight::VALUES >= 32 ? 2
                               : M == 2 && Weight::ALIGN != 2                     ? 4  // odd addresses take more
                                                                                  : 3;

// The sums over a warp's lanes of C values a lane, for less than C sums of one: each step halves the values, and lanes
// part on which half they go on with. Lane l gets the sum of value l / (32 / C).
template <int C, int LANES = 16>
__device__ __forceinline__ float warp_sums(float* values) {
  if constexpr (C > 1) {
    const bool upper = (lane_index() & LANES) != 0;
#pragma unroll
    for (int i = 0; i < C / 2; i++) {
      const float sent = upper ? values[i] : values[C / 2 + i], own = upper ? values[C / 2 + i] : values[i];
      values[i] = own + __shfl_xor_sync(kAllLanes, sent, LANES);
    }
    return warp_sums<C / 2, LANES / 2>(values);
  } else {
#pragma unroll
    for (int lanes = LANES; lanes > 0; lanes /= 2) values[0] += __shfl_xor_sync(kAllLanes, values[0], lanes);
    return values[0];
  }
}

// Four values of x.
__device__ __forceinline__ void load_run(const float* at, float (&x)[4]) {
  const float4 v = *reinterpret_cast<const float4*>(at);
  x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}

// M rows of x at most, R rows of weights. A block's job: one tile of R weight rows and one group of M rows of x; the
// groups of a tile are neighbours, so that its weights come from memory once and then from the cache.
template <class Weight, int M>
__global__ void __launch_bounds__(kFewRowsThreads, kFewRowsBlocks<Weight, M>)
    few_rows_kernel(const float* x, ProductSet products, RowList list, int64_t k, int* fault) {
  wait_for_earlier_kernels();
  constexpr int R = kWeightRows<Weight>, C = R * M, VALUES = Weight::RUNS * Weight::RUN;
  static_assert(C <= 32, "a lane must not hold more sums than a warp has lanes");
  TKF_SHARED(float[kFewRowsWarps][32], partial);
  const int32_t count = list.count();
  const int64_t groups = (list.rows + M - 1) / M, jobs = products.tiles * groups;
  const int64_t row_bytes = k / Weight::VALUES * Weight::BYTES;
  // A thread has the same part of every block that it takes.
  static_assert(kFewRowsThreads % Weight::LANES == 0);
  constexpr int STEP = kFewRowsThreads / Weight::LANES;  // from one block to the next
  const int part = static_cast<int>(threadIdx.x) % Weight::LANES, start = static_cast<int>(threadIdx.x) / Weight::LANES;
  const int64_t blocks = k / Weight::VALUES;

  for (int64_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const int64_t tile = job / groups;
    const int32_t first = static_cast<int32_t>(job - tile * groups) * M;
    if (first >= count) continue;  // the same for all threads of the block
    const int valid = min(M, count - first);
    const float* rows[M];
    const uint8_t* weights[R];
#pragma unroll
    for (int m = 0; m < M; m++) {
      // A row that is not there: any other, to no effect.
      const int64_t row = list.row(first + min(m, valid - 1), fault);
      rows[m] = x + max(row, static_cast<int64_t>(0)) * k + start * Weight::VALUES + Weight::offset(part, 0);
    }
    {
      const WeightTile of = tile_of<R>(products, tile);
#pragma unroll
      for (int r = 0; r < R; r++) weights[r] = of.template row<R>(r, row_bytes) + start * Weight::BYTES;
    }

    float sums[C] = {};
#pragma unroll(VALUES > 8 ? 1 : 2)
    for (int64_t block = start; block < blocks; block += STEP) {
      float w[R][VALUES];
#pragma unroll
      for (int r = 0; r < R; r++) {
        Weight::decode(weights[r], part, w[r]);
        weights[r] += STEP * Weight::BYTES;
      }
#pragma unroll
      for (int m = 0; m < M; m++) {
        if (M == 1 || m < valid) {
#pragma unroll
          for (int run = 0; run < Weight::RUNS; run++) {
            float v[Weight::RUN];
            load_run(rows[m] + Weight::offset(0, run), v);
#pragma unroll
            for (int r = 0; r < R; r++) {
#pragma unroll
              for (int j = 0; j < Weight::RUN; j++) {
                sums[m * R + r] = fmaf(w[r][run * Weight::RUN + j], v[j], sums[m * R + r]);
              }
            }
          }
        }
        rows[m] += STEP * Weight::VALUES;
      }
    }

    const float sum = warp_sums<C>(sums);
    const int lane = lane_index(), each = 32 / C;
    if (lane % each == 0) partial[warp_index()][lane / each] = sum;
    __syncthreads();
    write_sums<kFewRowsWarps, M, R>(partial[0], 32, products, tile, list, first, count, nullptr, fault);
    __syncthreads();
  }
}

namespace {

template <class Weight, int M>
void launch(tkf_context* context, const float* x, const ProductSet& products, const RowList& list, int64_t k) {
  const ProductSet tiles = products.in_tiles(kWeightRows<Weight>);
  const int64_t jobs = tiles.tiles * ((list.rows + M - 1) / M);
  TKF_LAUNCH(cuda_stream(context), (few_rows_kernel<Weight, M>), grid_of(jobs, 1), kFewRowsThreads, 0, x, tiles,
             list, k, cuda_fault(context));
}

// Rows of x whose parts are made at a time.
constexpr int32_t kMostRowsInParts = 4096;

// By tensor cores; k > 0. What the last product split serves again.
template <class Weight>
int32_t launch_mma(tkf_context* context, const float* x, const ProductSet& products, const RowList& list, int64_t k) {
  constexpr int num_parts = kPartsOfX<Weight>;
  GroupSums groups = {nullptr, Quants<Weight>::LEAST ? kStepValues / Quants<Weight>::GROUPS : 0};
  const int64_t padded_k = (k + kStepValues - 1) / kStepValues * kStepValues, stride = list.rows * padded_k;
  const int64_t num_groups = groups.size > 0 ? stride / groups.size : 0;
  const size_t bytes =
      static_cast<size_t>(Pieces::bytes_of(2 * num_parts * stride) + Pieces::bytes_of(4 * int64_t{list.rows}) +
                          Pieces::bytes_of(4 * num_groups));
  const SplitRows known = cuda_split_rows(context);
  void* const memory = cuda_workspace(context, bytes);
  if (memory == nullptr) return cuda_short(context, bytes);
  Pieces pieces(memory);
  uint16_t* const parts = pieces.take<uint16_t>(num_parts * stride);
  float* const scales = num_parts == 3 ? nullptr : pieces.take<float>(list.rows);
  if (num_groups > 0) groups.sums = pieces.take<float>(num_groups);
  const SplitRows own = {x, parts, list.first, list.rows, k, num_parts, groups.size, cuda_capture(context)};
  if (list.kept != nullptr || !(known == own)) {
    split_rows(context, x, list, k, padded_k, num_parts, parts, scales, groups);
  }
  const ProductSet tiles = products.in_tiles(kMmaRows);
  const unsigned jobs = grid_of(tiles.tiles * ((list.rows + kMmaRowsOfX - 1) / kMmaRowsOfX), 1);
  TKF_LAUNCH(cuda_stream(context), (few_rows_mma_kernel<Weight>), jobs, kMmaThreads, 0, parts, stride, scales,
             groups.sums, tiles, list, k, cuda_fault(context));
  const int32_t status = cuda_launched(context, "linear");
  if (status == TKF_STATUS_OK && list.kept == nullptr) cuda_split_rows(context) = own;
  return status;
}

}  // namespace

int32_t linear_few_rows(tkf_context* context, const float* x, int dtype, const ProductSet& products,
                        const RowList& list, int64_t k) {
  int32_t status = TKF_STATUS_OK;
  bool done = false;
  with_weight(dtype, [&](auto format) {
    using Weight = decltype(format);
    if constexpr (Weight::VALUES >= 8) {
      if (k > 0 && list.rows > 4) {
        RowList some = list;
        for (; some.first < list.rows && status == TKF_STATUS_OK; some.first += kMostRowsInParts) {
          some.rows = static_cast<int32_t>(std::min<int64_t>(list.rows - some.first, kMostRowsInParts));
          status = launch_mma<Weight>(context, x, products, some, k);
        }
        done = true;
        return;
      }
    }
    with_size<1, 2, 4>(list.rows < 4 ? list.rows : 4, [&](auto rows) {
      launch<Weight, decltype(rows)::value>(context, x, products, list, k);
    });
  });
  return done ? status : cuda_launched(context, "linear");
}

}  // namespace tkf
