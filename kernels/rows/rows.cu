// Rows in and out of tensors: copied, by index and with rounding, scattered back with an addition, measured; and
// what a decode step does with the slots of its batch.
#include <type_traits>

#include "../common/cuda/launch.h"
#include "../common/cuda/reduce.cuh"
#include "../common/cuda/weights.cuh"

namespace tkf {

// What a copied value becomes: itself, 16 bits (f16 or bf16) as a float, or a float in 16 bits.
template <class From, class To, bool F16>
__device__ __forceinline__ To convert(From value) {
  if constexpr (std::is_same<From, To>::value) return value;
  else if constexpr (sizeof(From) == 2) return F16 ? half_bits_to_float(value) : bfloat16_bits_to_float(value);
  else return F16 ? float_to_half_bits(value) : float_to_bfloat16_bits(value);
}

// One matrix to be copied from, and the first row of where to.
template <class From, class To>
struct CopiedRows {
  const From* x;
  To* out;
};

// A block of threads a row of `cols` values (or of pieces of 16 bytes), of each of gridDim.y matrices. A row of an index
// outside x becomes 0.
template <class From, class To, bool F16>
__global__ void __launch_bounds__(256) copy_kernel(CopiedRows<From, To> first, CopiedRows<From, To> second,
                                                   int64_t x_rows, int64_t cols, const int32_t* indices, int64_t rows,
                                                   int* fault) {
  wait_for_earlier_kernels();
  const CopiedRows<From, To> own = blockIdx.y == 0 ? first : second;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t index = indices == nullptr ? row : indices[row];
    const bool found = index >= 0 && index < x_rows;
    if (!found && threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
      own.out[row * cols + i] = found ? convert<From, To, F16>(own.x[index * cols + i]) : To{};
    }
  }
}

__global__ void __launch_bounds__(256) scatter_add_kernel(float* x, int64_t x_rows, int64_t cols,
                                                          const int32_t* indices, int64_t rows, const float* delta,
                                                          int* fault) {
  wait_for_earlier_kernels();
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t index = indices[row];
    if (index < 0 || index >= x_rows) {
      if (threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
      continue;
    }
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) x[index * cols + i] += delta[row * cols + i];
  }
}

// x [batch, cols] += delta at the slots kept [kept_count]; both NULL: everywhere.
__global__ void __launch_bounds__(256) add_kept_kernel(float* x, const float* delta, int64_t batch, int64_t cols,
                                                       const int32_t* kept, const int32_t* kept_count, int* fault) {
  wait_for_earlier_kernels();
  const int64_t count = kept_count == nullptr ? batch : min(static_cast<int64_t>(*kept_count), batch);
  for (int64_t number = blockIdx.y; number < count; number += gridDim.y) {
    const int64_t slot = kept == nullptr ? number : kept[number];
    if (slot < 0 || slot >= batch) {
      if (threadIdx.x == 0) tkf_fault(fault, kFaultIndex);
      continue;
    }
    const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < cols; i += stride) {
      x[slot * cols + i] += delta[slot * cols + i];
    }
  }
}

// A block of threads a row; in double: rows of huge or tiny values neither overflow nor vanish.
__global__ void __launch_bounds__(256) row_norms_kernel(const float* x, int64_t rows, int64_t cols, double* out) {
  wait_for_earlier_kernels();
  TKF_SHARED(double[8], sums);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    double squares = 0;
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
      const double value = static_cast<double>(x[row * cols + i]);
      squares += value * value;
    }
    const double total = block_sum(squares, sums);
    if (threadIdx.x == 0) out[row] = sqrt(total);
  }
}

__global__ void __launch_bounds__(256) advance_kernel(int32_t* positions, int64_t batch) {
  wait_for_earlier_kernels();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= batch) return;
  const int32_t position = positions[i];
  if (position >= 0 && position < INT32_MAX) positions[i] = position + 1;
}

namespace {

// `pieces` of a row, each of them a From and, copied, a To.
template <class From, class To, bool F16 = false>
void launch_copy(tkf_context* context, const tkf_rows_copy_args& a, int64_t pieces) {
  const CopiedRows<From, To> first = {as<From>(a.x), as<To>(a.out) + a.at * pieces};
  const CopiedRows<From, To> second = {as<From>(a.x2), a.out2.data == nullptr ? nullptr : as<To>(a.out2) + a.at * pieces};
  const dim3 grid(grid_of(a.rows, 1), a.out2.data == nullptr ? 1 : 2);
  TKF_LAUNCH(cuda_stream(context), (copy_kernel<From, To, F16>), grid, row_threads(4 * pieces, 256), 0, first, second,
             a.x_rows, pieces, as<int32_t>(a.indices), a.rows, cuda_fault(context));
}

}  // namespace

bool cuda_kernels_wait() {
  cudaFuncAttributes found = {};
  const cudaError_t error = cudaFuncGetAttributes(&found, advance_kernel);
  if (error != cudaSuccess) cudaGetLastError();  // the result reports it
  return error == cudaSuccess && found.ptxVersion >= 90;
}

int32_t on_cuda::rows_copy(tkf_context* context, const tkf_rows_copy_args& a) {
  const int64_t bytes = a.cols * (a.dtype == TKF_DTYPE_F32 ? 4 : 2);
  const bool alone = a.out2.data == nullptr;
  const auto aligned = [](const tkf_buffer& x) { return is_aligned(x.data, 16); };
  if (a.dtype == TKF_DTYPE_F32 && a.out_dtype != TKF_DTYPE_F32) {
    a.out_dtype == TKF_DTYPE_F16 ? launch_copy<float, uint16_t, true>(context, a, a.cols)
                                 : launch_copy<float, uint16_t>(context, a, a.cols);
  } else if (a.dtype != a.out_dtype) {
    a.dtype == TKF_DTYPE_F16 ? launch_copy<uint16_t, float, true>(context, a, a.cols)
                             : launch_copy<uint16_t, float>(context, a, a.cols);
  } else if (bytes % 16 == 0 && aligned(a.x) && aligned(a.out) && (alone || (aligned(a.x2) && aligned(a.out2)))) {
    launch_copy<uint4, uint4>(context, a, bytes / 16);
  } else if (a.dtype == TKF_DTYPE_F32) {
    launch_copy<uint32_t, uint32_t>(context, a, a.cols);
  } else {
    launch_copy<uint16_t, uint16_t>(context, a, a.cols);
  }
  return cuda_launched(context, "rows_copy");
}

int32_t on_cuda::rows_scatter_add(tkf_context* context, const tkf_rows_scatter_add_args& a) {
  TKF_LAUNCH(cuda_stream(context), (scatter_add_kernel), grid_of(a.rows, 1), row_threads(a.cols, 256), 0,
             as<float>(a.x), a.x_rows, a.cols, as<int32_t>(a.indices), a.rows, as<float>(a.delta), cuda_fault(context));
  return cuda_launched(context, "rows_scatter_add");
}

int32_t on_cuda::rows_norm(tkf_context* context, const tkf_rows_norm_args& a) {
  TKF_LAUNCH(cuda_stream(context), (row_norms_kernel), grid_of(a.rows, 1), row_threads(a.cols, 256), 0, as<float>(a.x),
             a.rows, a.cols, as<double>(a.out));
  return cuda_launched(context, "rows_norm");
}

bool check_args(Check& check, const tkf_rows_add_kept_args& a) {
  check.size("rows", a.rows, 0, INT32_MAX);
  check.size("cols", a.cols);
  check.array<float>("x", a.x, {a.rows, a.cols});
  check.array<float>("delta", a.delta, {a.rows, a.cols});
  check.kept(a.kept, a.kept_count, a.rows);
  return a.rows > 0 && a.cols > 0;
}
int32_t on_cuda::rows_add_kept(tkf_context* context, const tkf_rows_add_kept_args& a) {
  const dim3 grid(grid_of(a.cols, 1024), static_cast<unsigned>(a.rows < 65535 ? a.rows : 65535));
  TKF_LAUNCH(cuda_stream(context), (add_kept_kernel), grid, 256, 0, as<float>(a.x), as<float>(a.delta), a.rows, a.cols,
             as<int32_t>(a.kept), as<int32_t>(a.kept_count), cuda_fault(context));
  return cuda_launched(context, "rows_add_kept");
}

bool check_args(Check& check, const tkf_positions_advance_args& a) {
  check.size("batch", a.batch, 0, INT32_MAX);
  check.array<int32_t>("positions", a.positions, {a.batch});
  return a.batch > 0;
}
int32_t on_cuda::positions_advance(tkf_context* context, const tkf_positions_advance_args& a) {
  TKF_LAUNCH(cuda_stream(context), (advance_kernel), grid_of(a.batch, 256), 256, 0, as<int32_t>(a.positions), a.batch);
  return cuda_launched(context, "positions_advance");
}

}  // namespace tkf
