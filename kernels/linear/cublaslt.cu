// Matrix products by cuBLASLt. Names and numbers below are those of its header, cublasLt.h, which builds do not need.
#include "cublaslt.h"

#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <tuple>

#include "../include/tokenfilter.h"

namespace tkf {
namespace {

// Enumerations of cublasLt.h, cublas_api.h and library_types.h.
enum { kCudaR32F = 0, kCudaR16F = 2, kCudaR16BF = 14 };                       // cudaDataType
enum { kCompute32F = 68 };                                                    // cublasComputeType_t: no TF32
enum { kOpT = 1 };                                                            // cublasOperation_t
enum { kDescTransA = 3 };                                                     // cublasLtMatmulDescAttributes_t
enum { kPrefMaxWorkspace = 1, kPrefMinAlignmentA = 5 };                       // cublasLtMatmulPreferenceAttributes_t
enum { kOk = 0, kNotSupported = 15 };                                         // cublasStatus_t

struct Algorithm {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct Heuristic {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Heuristic) == 96, "as in cublasLt.h");

using Opaque = void*;

// Functions of the library: result, name, parameters.
#define TKF_CUBLASLT(F)                                                                                            \
  F(size_t, GetVersion, ())                                                                                        \
  F(int, Create, (Opaque* handle))                                                                                 \
  F(int, Destroy, (Opaque handle))                                                                                 \
  F(int, MatmulDescCreate, (Opaque* desc, int compute_type, int scale_type))                                       \
  F(int, MatmulDescDestroy, (Opaque desc))                                                                         \
  F(int, MatmulDescSetAttribute, (Opaque desc, int attribute, const void* value, size_t bytes))                    \
  F(int, MatrixLayoutCreate, (Opaque* layout, int type, uint64_t rows, uint64_t cols, int64_t stride))             \
  F(int, MatrixLayoutDestroy, (Opaque layout))                                                                     \
  F(int, MatmulPreferenceCreate, (Opaque* preference))                                                             \
  F(int, MatmulPreferenceDestroy, (Opaque preference))                                                             \
  F(int, MatmulPreferenceSetAttribute, (Opaque preference, int attribute, const void* value, size_t bytes))        \
  F(int, MatmulAlgoGetHeuristic,                                                                                   \
    (Opaque handle, Opaque desc, Opaque a, Opaque b, Opaque c, Opaque d, Opaque preference, int requested,         \
     Heuristic* results, int* found))                                                                              \
  F(int, Matmul,                                                                                                   \
    (Opaque handle, Opaque desc, const void* alpha, const void* a, Opaque a_layout, const void* b,                 \
     Opaque b_layout, const void* beta, const void* c, Opaque c_layout, void* d, Opaque d_layout,                  \
     const Algorithm* algorithm, void* workspace, size_t workspace_bytes, cudaStream_t stream))
struct Functions {
#define TKF_FUNCTION(result, name, parameters) result(*name) parameters;
  TKF_CUBLASLT(TKF_FUNCTION)
#undef TKF_FUNCTION
  const char* (*GetStatusName)(int status);
};

template <class Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

// The largest power of two up to 256 that divides an address.
uint32_t alignment_of_address(const void* address) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(address) | 256;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// What decides the algorithm: type, sizes, stride, alignment of x, weight and out.
using Shape = std::tuple<int, int64_t, int64_t, int64_t, int64_t, uint32_t, uint32_t, uint32_t>;

// The descriptors of a product of one shape, and the algorithm that cuBLASLt proposes for it.
struct Plan {
  Opaque desc = nullptr, x = nullptr, weight = nullptr, out = nullptr;
  Algorithm algorithm = {};
  bool possible = false;
  int status = kOk;  // of the call that failed, where it is not for want of an algorithm
};

// Shapes kept: a model has some ten, times the lengths of its prefills.
constexpr size_t kMostPlans = 1024;

class Loaded final : public CublasLt {
 public:
  ~Loaded() override {
    forget();
    if (handle_ != nullptr) functions_.Destroy(handle_);
  }

  bool open(const char* path, char* why, size_t why_bytes) {
    // Never closed again: what it started may outlive us.
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      snprintf(why, why_bytes, "%s", dlerror());
      return false;
    }
    Functions& f = functions_;
    find(library, "cublasLtGetStatusName", &f.GetStatusName);  // where there is none, numbers must do
#define TKF_FIND(result, name, parameters) &&find(library, "cublasLt" #name, &f.name)
    if (!(true TKF_CUBLASLT(TKF_FIND))) {
      snprintf(why, why_bytes, "found no cuBLASLt in %s", path);
      return false;
    }
    last_ = f.Create(&handle_);
    if (last_ != kOk) {
      handle_ = nullptr;
      snprintf(why, why_bytes, "found status %d%s%s when starting cuBLASLt", last_, separator(), status_name());
      return false;
    }
    // 130002 is 13.0.2, and 120803 12.8.3.
    const unsigned long version = static_cast<unsigned long>(f.GetVersion());
    snprintf(name_, sizeof name_, "cuBLASLt %lu.%lu.%lu", version / 10000, version / 100 % 100, version % 100);
    return true;
  }

  const char* name() const override { return name_; }

  void failure(char* words, size_t words_bytes) const override {
    snprintf(words, words_bytes, "found a failure of %s: status %d%s%s", name_, last_, separator(), status_name());
  }

  bool multiply(const LtProduct& p, void* workspace, cudaStream_t stream, int32_t* status) override try {
    *status = TKF_STATUS_OK;
    const Shape shape(p.type, p.rows, p.n, p.k, p.out_stride, alignment_of_address(p.x), alignment_of_address(p.weight),
                      alignment_of_address(p.out));
    auto found = plans_.find(shape);
    if (found == plans_.end()) {
      if (plans_.size() >= kMostPlans) forget();
      found = plans_.emplace(shape, make_plan(shape)).first;
    }
    const Plan& plan = found->second;
    if (plan.status != kOk) return fail(plan.status, status);
    if (!plan.possible) return false;
    // In column-major order, which cuBLASLt counts in: out' [n, rows] = weight (transposed) times x' [k, rows].
    const float alpha = 1, beta = p.add ? 1 : 0;
    const int result = functions_.Matmul(handle_, plan.desc, &alpha, p.weight, plan.weight, p.x, plan.x, &beta, p.out,
                                         plan.out, p.out, plan.out, &plan.algorithm, workspace, kCublasLtWorkspace,
                                         stream);
    return result == kOk || fail(result, status);
  } catch (...) {
    *status = TKF_STATUS_MEMORY;
    return false;
  }

 private:
  // Of the last product that failed: "" or the name of its status.
  const char* status_name() const {
    const char* const name = functions_.GetStatusName == nullptr ? nullptr : functions_.GetStatusName(last_);
    return name == nullptr ? "" : name;
  }
  const char* separator() const { return *status_name() == 0 ? "" : ", "; }

  bool fail(int result, int32_t* status) {
    last_ = result;
    *status = TKF_STATUS_UNSUPPORTED;
    return false;
  }

  Plan make_plan(const Shape& shape) {
    const auto [dtype, rows, n, k, out_stride, x_alignment, weight_alignment, out_alignment] = shape;
    const int type = dtype == TKF_DTYPE_F32 ? kCudaR32F : dtype == TKF_DTYPE_F16 ? kCudaR16F : kCudaR16BF;
    const int transposed = kOpT;
    const Functions& f = functions_;
    Plan plan;
    Opaque preference = nullptr;
    // Goes on while nothing has failed.
    const auto done = [&](int status) { return (plan.status = status) == kOk; };
    bool ok = done(f.MatmulDescCreate(&plan.desc, kCompute32F, kCudaR32F)) &&
              done(f.MatmulDescSetAttribute(plan.desc, kDescTransA, &transposed, sizeof transposed)) &&
              done(f.MatrixLayoutCreate(&plan.weight, type, static_cast<uint64_t>(k), static_cast<uint64_t>(n), k)) &&
              done(f.MatrixLayoutCreate(&plan.x, type, static_cast<uint64_t>(k), static_cast<uint64_t>(rows), k)) &&
              done(f.MatrixLayoutCreate(&plan.out, kCudaR32F, static_cast<uint64_t>(n), static_cast<uint64_t>(rows),
                                        out_stride)) &&
              done(f.MatmulPreferenceCreate(&preference));
    const uint64_t most = kCublasLtWorkspace;
    ok = ok && done(f.MatmulPreferenceSetAttribute(preference, kPrefMaxWorkspace, &most, sizeof most));
    // Of A, B, C and D, whose attributes follow one another.
    const uint32_t alignments[4] = {weight_alignment, x_alignment, out_alignment, out_alignment};
    for (int i = 0; i < 4; i++) {
      ok = ok && done(f.MatmulPreferenceSetAttribute(preference, kPrefMinAlignmentA + i, &alignments[i], 4));
    }
    Heuristic best = {};
    int count = 0;
    ok = ok && done(f.MatmulAlgoGetHeuristic(handle_, plan.desc, plan.weight, plan.x, plan.out, plan.out, preference, 1,
                                             &best, &count));
    if (preference != nullptr) f.MatmulPreferenceDestroy(preference);
    if (plan.status == kNotSupported) plan.status = kOk;  // it has no algorithm: not a failure
    plan.possible = ok && count > 0 && best.state == kOk;
    plan.algorithm = best.algorithm;
    return plan;
  }

  void forget() {
    for (auto& [shape, plan] : plans_) {
      if (plan.desc != nullptr) functions_.MatmulDescDestroy(plan.desc);
      for (Opaque layout : {plan.x, plan.weight, plan.out}) {
        if (layout != nullptr) functions_.MatrixLayoutDestroy(layout);
      }
    }
    plans_.clear();
  }

  Functions functions_ = {};
  Opaque handle_ = nullptr;
  std::map<Shape, Plan> plans_;
  char name_[48] = "";
  int last_ = kOk;
};

}  // namespace

std::unique_ptr<CublasLt> cublaslt_load(const char* path, char* why, size_t why_bytes) {
  try {
    auto lt = std::make_unique<Loaded>();
    if (lt->open(path, why, why_bytes)) return lt;
  } catch (...) {
    snprintf(why, why_bytes, "found too little memory for cuBLASLt");
  }
  return nullptr;
}

}  // namespace tkf
