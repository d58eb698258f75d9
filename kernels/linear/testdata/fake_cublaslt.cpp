// A cuBLASLt for tests: takes the functions that the library calls, with their arguments checked as the real one
// documents them, computes plainly on the CPU, and counts. Column-major, as cuBLASLt.
#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct Desc {
  int compute_type, scale_type, transpose_a, transpose_b;
};
struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t stride;
};
struct Preference {
  uint64_t workspace;
  uint32_t alignments[4];
};
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

constexpr int kOk = 0, kInvalid = 7, kFailed = 13, kNotSupported = 15, kF32 = 0, kF16 = 2, kBf16 = 14, kCompute32F = 68;
constexpr uint64_t kMagic = 0x6c74;

int64_t counts[4];  // heuristics, products, products that add, objects alive
int mode;           // 0: works, 1: has no algorithm, 2: fails, 3: has none and says so by its status, 4: fails before

float value_at(int type, const void* data, int64_t i) {
  if (type == kF32) return static_cast<const float*>(data)[i];
  const uint32_t bits = static_cast<const uint16_t*>(data)[i];
  float value;
  if (type == kBf16) {
    const uint32_t wide = bits << 16;
    memcpy(&value, &wide, 4);
    return value;
  }
  const uint32_t rest = bits & 0x7fff;
  if (rest >= 0x7c00) {
    const uint32_t wide = (bits & 0x8000) << 16 | 0x7f800000 | (rest & 0x3ff) << 13;
    memcpy(&value, &wide, 4);
    return value;
  }
  const uint32_t wide = rest << 13;
  memcpy(&value, &wide, 4);
  value *= 0x1p112f;
  return bits & 0x8000 ? -value : value;
}

// Writes to the memory of the interpreter by its driver, so that it knows what is written.
int write(float* to, const std::vector<float>& values) {
  using Copy = int (*)(uint64_t, const void*, size_t, void*);
  static const Copy copy =
      reinterpret_cast<Copy>(dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), "cuMemcpyHtoDAsync_v2"));
  return copy(reinterpret_cast<uint64_t>(to), values.data(), values.size() * sizeof(float), nullptr);
}

// A matrix's values, column by column.
std::vector<float> values_of(const Layout& layout, const void* data) {
  std::vector<float> values;
  values.reserve(layout.rows * layout.cols);
  for (uint64_t column = 0; column < layout.cols; column++) {
    for (uint64_t row = 0; row < layout.rows; row++) {
      values.push_back(value_at(layout.type, data, static_cast<int64_t>(column) * layout.stride + row));
    }
  }
  return values;
}

template <class T>
int make(void** out, T object) {
  counts[3]++;
  *out = new T(object);
  return kOk;
}
template <class T>
int destroy(void* object) {
  counts[3]--;
  delete static_cast<T*>(object);
  return kOk;
}

bool aligned(const void* address, uint32_t alignment) { return reinterpret_cast<uintptr_t>(address) % alignment == 0; }

}  // namespace

extern "C" {

void fake_mode(int wanted) { mode = wanted; }
void fake_counts(int64_t* out) { memcpy(out, counts, sizeof counts); }

const char* cublasLtGetStatusName(int status) {
  return status == kFailed    ? "CUBLAS_STATUS_EXECUTION_FAILED"
         : status == kInvalid ? "CUBLAS_STATUS_INVALID_VALUE"
                              : "?";
}
size_t cublasLtGetVersion(void) { return 130002; }
int cublasLtCreate(void** handle) { return make(handle, 42); }
int cublasLtDestroy(void* handle) { return destroy<int>(handle); }
int cublasLtMatmulDescCreate(void** desc, int compute_type, int scale_type) {
  return make(desc, Desc{compute_type, scale_type, 0, 0});
}
int cublasLtMatmulDescDestroy(void* desc) { return destroy<Desc>(desc); }
int cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  if (bytes != 4 || (attribute != 3 && attribute != 4)) return kInvalid;
  memcpy(attribute == 3 ? &static_cast<Desc*>(desc)->transpose_a : &static_cast<Desc*>(desc)->transpose_b, value, 4);
  return kOk;
}
int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t stride) {
  if ((type != kF32 && type != kF16 && type != kBf16) || stride < static_cast<int64_t>(rows)) return kInvalid;
  return make(layout, Layout{type, rows, cols, stride});
}
int cublasLtMatrixLayoutDestroy(void* layout) { return destroy<Layout>(layout); }
int cublasLtMatmulPreferenceCreate(void** preference) { return make(preference, Preference{0, {256, 256, 256, 256}}); }
int cublasLtMatmulPreferenceDestroy(void* preference) { return destroy<Preference>(preference); }
int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
  Preference* const p = static_cast<Preference*>(preference);
  if (attribute == 1 && bytes == 8) {
    memcpy(&p->workspace, value, 8);
  } else if (attribute >= 5 && attribute <= 8 && bytes == 4) {
    memcpy(&p->alignments[attribute - 5], value, 4);
  } else {
    return kInvalid;
  }
  return kOk;
}

int cublasLtMatmulAlgoGetHeuristic(void* handle, void* desc, void* a, void* b, void* c, void* d, void* preference,
                                   int requested, Heuristic* results, int* found) {
  counts[0]++;
  const Layout *la = static_cast<Layout*>(a), *lb = static_cast<Layout*>(b), *lc = static_cast<Layout*>(c);
  const Desc* const k = static_cast<Desc*>(desc);
  const Preference* const p = static_cast<Preference*>(preference);
  *found = 0;
  if (*static_cast<int*>(handle) != 42 || requested != 1 || c != d || k->compute_type != kCompute32F ||
      k->scale_type != kF32 || k->transpose_a != 1 || k->transpose_b != 0 || la->type != lb->type ||
      lc->type != kF32 || la->rows != lb->rows || la->cols != lc->rows || lb->cols != lc->cols ||
      p->workspace != 32 << 20) {
    return kInvalid;
  }
  if (mode == 1) return kOk;
  if (mode == 3) return kNotSupported;
  if (mode == 4) return kInvalid;
  memset(results, 0, sizeof *results);
  // Remembers what was promised of the addresses.
  results->algorithm = {{kMagic, p->alignments[0], p->alignments[1], p->alignments[2], p->alignments[3]}};
  *found = 1;
  return kOk;
}

int cublasLtMatmul(void* handle, void* desc, const void* alpha, const void* a, void* a_layout, const void* b,
                   void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
                   const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
  const Layout *la = static_cast<Layout*>(a_layout), *lb = static_cast<Layout*>(b_layout);
  const Layout *ld = static_cast<Layout*>(d_layout);
  const auto promised = [&](int i) { return static_cast<uint32_t>(algorithm->data[i]); };
  if (*static_cast<int*>(handle) != 42 || static_cast<Desc*>(desc)->transpose_a != 1 || c != d ||
      c_layout != d_layout || algorithm->data[0] != kMagic || !aligned(a, promised(1)) || !aligned(b, promised(2)) ||
      !aligned(c, promised(3)) || !aligned(d, promised(4)) || workspace_bytes != 32 << 20 || stream == nullptr) {
    return kInvalid;
  }
  if (mode == 2) return kFailed;
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  counts[1]++;
  if (keep != 0) counts[2]++;
  memset(workspace, 0xff, 1024);  // a product may write to it
  const std::vector<float> as = values_of(*la, a), bs = values_of(*lb, b);
  std::vector<float> values(ld->rows);
  for (uint64_t column = 0; column < ld->cols; column++) {
    float* const out = static_cast<float*>(d) + static_cast<int64_t>(column) * ld->stride;
    for (uint64_t row = 0; row < ld->rows; row++) {
      const float *x = as.data() + row * la->rows, *y = bs.data() + column * la->rows;
      double sum = 0;
      for (uint64_t i = 0; i < la->rows; i++) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
      values[row] = scale * static_cast<float>(sum) + (keep != 0 ? keep * out[row] : 0);
    }
    if (write(out, values) != 0) return kFailed;
  }
  return kOk;
}

}  // extern "C"
