// The functions of the ABI that are about the library and its contexts.
#include "cpu_context.h"

#if !defined(__wasm__)
#include <dlfcn.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif
#endif

#include "check.h"
#include "kernels.h"

namespace tkf {
namespace {

#if defined(__wasm__)
constexpr int kMostThreads = 64;
#else
constexpr int kMostThreads = 1024;
#endif
const char* const kLevelNames[TKF_NUM_LEVELS] = {
#if defined(__x86_64__)
    "x86-64-v2", "avx2", "avx512"
#elif defined(__wasm__)
    "simd128", "", ""
#else
    "base", "avx2", "avx512"
#endif
};

// The highest level whose instructions the processor has and whose registers the system saves.
int best_level() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return TKF_LEVEL_BASE;
  constexpr unsigned fma = 1u << 12, xsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
  constexpr unsigned wanted = fma | xsave | avx | f16c;
  if ((ecx & wanted) != wanted) return TKF_LEVEL_BASE;
  unsigned saved = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return TKF_LEVEL_BASE;
  constexpr unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
  if ((saved & 0x06u) != 0x06u || (ebx & avx2) == 0) return TKF_LEVEL_BASE;
  return (saved & 0xE6u) == 0xE6u && (ebx & avx512) == avx512 ? TKF_LEVEL_AVX512 : TKF_LEVEL_AVX2;
#else
  return TKF_LEVEL_BASE;
#endif
}

// Whether AMD made the processor.
bool is_amd() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(0, &eax, &ebx, &ecx, &edx) != 0 && ebx == signature_AMD_ebx && ecx == signature_AMD_ecx;
#else
  return false;
#endif
}

// Whether the processor has AVX512_BF16.
bool has_bf16() {
#if TKF_AMX
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1u << 5) != 0;
#else
  return false;
#endif
}

// Whether the processor has AMX_TILE, AMX_BF16 and what goes with them, and the system lets this process use them: it
// must be asked.
bool has_amx() {
#if TKF_AMX && defined(__linux__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned wanted = 1u << 22 | 1u << 24;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & wanted) != wanted) return false;
  if (!has_bf16()) return false;
  constexpr int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return false;
#endif
}

// Whether the processor has dot products of bytes for a level: AVX512_VNNI, AVX_VNNI, arm64's.
bool has_int8_dots([[maybe_unused]] int level) {
#if TKF_AMX
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (level == TKF_LEVEL_AVX512) return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ecx & 1u << 11) != 0;
  return level == TKF_LEVEL_AVX2 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1u << 4) != 0;
#elif defined(__aarch64__) && defined(__linux__)
  return (getauxval(AT_HWCAP) & 1u << 20) != 0;  // HWCAP_ASIMDDP
#else
  return false;
#endif
}

// The bodies of a level; NULL where it was not built in: TKF_LEVELS is a sum of 1 << TKF_LEVEL_….
const Kernels* kernels_of(int level) {
#if TKF_LEVELS & 1 << TKF_LEVEL_AVX512
  if (level == TKF_LEVEL_AVX512) return &kKernelsAvx512;
#endif
#if TKF_LEVELS & 1 << TKF_LEVEL_AVX2
  if (level == TKF_LEVEL_AVX2) return &kKernelsAvx2;
#endif
#if TKF_LEVELS & 1 << TKF_LEVEL_BASE
  if (level == TKF_LEVEL_BASE) return &kKernelsBase;
#endif
  return nullptr;
}

// The highest level that is built in and that this machine runs; -1: none.
int usable_level() {
  int level = best_level();
  while (level >= 0 && kernels_of(level) == nullptr) level--;
  return level;
}

// Keeps this library mapped for good: threads of a pool, and clean-up at the end of a program, may outlive the handle
// that it was opened by.
void stay_loaded() {
#if !defined(__wasm__)
  Dl_info found;
  if (dladdr(reinterpret_cast<const void*>(&tkf_abi_version), &found) != 0) {
    dlopen(found.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  }
#endif
}

}  // namespace

Scratch::~Scratch() { free(data_); }

bool Scratch::reserve(size_t bytes) {
  if (bytes <= capacity_) return true;
  if (bytes > SIZE_MAX - 4096) return false;
  const size_t rounded = (bytes + 4095) / 4096 * 4096;
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, rounded) != 0) return false;
  free(data_);
  data_ = static_cast<char*>(memory);
  capacity_ = rounded;
  return true;
}

int context_threads(const tkf_context* context) { return cpu(context)->threads(); }

void context_run(tkf_context* context, int64_t tasks, TaskFunction function, void* argument) {
  cpu(context)->pool.run(tasks, function, argument);
}

bool context_reserve(tkf_context* context, size_t bytes_per_thread, size_t shared_bytes) {
  CpuContext* own = cpu(context);
  for (int thread = 0; thread < own->threads(); thread++) {
    if (!own->thread_scratch[thread].reserve(bytes_per_thread)) return false;
  }
  return own->shared_scratch.reserve(shared_bytes);
}

void* context_scratch(const tkf_context* context, int thread) { return cpu(context)->thread_scratch[thread].data(); }

void* context_shared(const tkf_context* context) { return cpu(context)->shared_scratch.data(); }

bool context_angles(tkf_context* context, const int32_t* positions, int64_t rows, const double* turns, int64_t pairs,
                    Angles* out) {
  try {
    *out = cpu(context)->angles.get(positions, rows, turns, pairs);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

bool context_asks_in_order(const tkf_context*) {
  static const bool amd = is_amd();
  return amd;
}

SgemmFunction context_sgemm(const tkf_context* context) { return cpu(context)->sgemm; }

Products context_products(const tkf_context* context) { return cpu(context)->products; }

}  // namespace tkf

int32_t tkf_context_best_level(void) { return tkf::best_level(); }
int32_t tkf_context_levels(void) { return TKF_LEVELS; }

int32_t tkf_context_create(int32_t threads, int32_t level, tkf_context** out) {
  if (out == nullptr) return TKF_STATUS_NULL;
  *out = nullptr;
  if (threads < 1 || threads > tkf::kMostThreads || level < -1 || level >= TKF_NUM_LEVELS) return TKF_STATUS_VALUE;
  const int chosen = level == -1 ? tkf::usable_level() : level;
  if (chosen > tkf::best_level() || tkf::kernels_of(chosen) == nullptr) return TKF_STATUS_UNSUPPORTED;
  tkf::stay_loaded();
  try {
    tkf::CpuContext* context = new tkf::CpuContext(threads);
    context->level = chosen;
    context->kernels = tkf::kernels_of(chosen);
    *out = context;
    return TKF_STATUS_OK;
  } catch (...) {
    return TKF_STATUS_MEMORY;  // of threads, or of bytes
  }
}

const char* tkf_context_description(tkf_context* context) {
  if (context == nullptr) return "";
  const tkf::CpuContext* own = tkf::cpu(context);
  static const char* const products[] = {"", ", products of many rows in bf16 by AVX512-BF16",
                                         ", products of many rows in bf16 by AMX", ", products in int8",
                                         ", products in int8 by dot products"};
  snprintf(context->description, sizeof context->description, "%s, %d thread%s, %s%s", tkf::kLevelNames[own->level],
           own->threads(), own->threads() == 1 ? "" : "s", own->blas_name, products[own->products]);
  return context->description;
}

int32_t tkf_products_use(tkf_context* context, int32_t products) {
  tkf::Check check(context);
  check.require(products >= TKF_PRODUCTS_EXACT && products <= TKF_PRODUCTS_INT8, TKF_STATUS_VALUE,
                "found other products than exact ones (0), those in bf16 (1) and those in int8 (2)");
  if (!check.ok()) return check.status();
  tkf::CpuContext* own = tkf::cpu(context);
  tkf::Products used = tkf::kExact;
  if (products == TKF_PRODUCTS_BF16) {
    check.require(own->level == TKF_LEVEL_AVX512, TKF_STATUS_UNSUPPORTED, "expected level avx512");
    if (!check.ok()) return check.status();
    used = tkf::has_amx() ? tkf::kBf16Tiles : tkf::kBf16Dots;
    check.require(used == tkf::kBf16Tiles || tkf::has_bf16(), TKF_STATUS_UNSUPPORTED,
                  "found neither AMX nor AVX512-BF16");
    if (!check.ok()) return check.status();
  }
  if (products == TKF_PRODUCTS_INT8) used = tkf::has_int8_dots(own->level) ? tkf::kInt8Dots : tkf::kInt8;
  own->products = used;
  return TKF_STATUS_OK;
}

int32_t tkf_blas_load(tkf_context* context, const char* path) {
  tkf::Check check(context);
  check.require(path != nullptr, TKF_STATUS_NULL, "found NULL for \"path\", expected the path of a shared library");
  if (!check.ok()) return check.status();
  return tkf::load_blas(context, path, check);
}
