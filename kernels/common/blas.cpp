#include "cpu_context.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>

namespace tkf {
namespace {

template <class F>
F symbol(void* library, const char* prefix, const char* name) {
  char full[64];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  F function = nullptr;
  void* found = dlsym(library, full);
  memcpy(&function, &found, sizeof function);
  return function;
}

// x [2, 3] times the transpose of w [2, 3]: finds out a library with other integers before it spoils a result.
bool computes(SgemmFunction sgemm) {
  const float x[6] = {1, 2, 3, 4, 5, 6}, w[6] = {1, 0, 2, -1, 3, 1};
  float out[4] = {9, 9, 9, 9};
  sgemm(101, 111, 112, 2, 2, 3, 1, x, 3, w, 3, 0, out, 2);
  return out[0] == 7 && out[1] == 8 && out[2] == 16 && out[3] == 17;
}

}  // namespace

int32_t load_blas(tkf_context* context, const char* path, Check& check) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return check.fail(TKF_STATUS_UNSUPPORTED, "%s", dlerror());
  for (const char* prefix : {"scipy_", ""}) {
    const auto sgemm = symbol<SgemmFunction>(library, prefix, "cblas_sgemm");
    const auto set_threads = symbol<void (*)(int)>(library, prefix, "openblas_set_num_threads");
    if (sgemm == nullptr || set_threads == nullptr) continue;
    set_threads(1);
    if (!computes(sgemm)) return check.fail(TKF_STATUS_UNSUPPORTED, "found a wrong product from %s", path);
    cpu(context)->sgemm = sgemm;
    const auto config = symbol<char* (*)()>(library, prefix, "openblas_get_config");
    const auto core = symbol<char* (*)()>(library, prefix, "openblas_get_corename");
    char version[24] = "OpenBLAS";
    if (config != nullptr) snprintf(version, sizeof version, "%s", config());  // "OpenBLAS 0.3.34 ..."
    char* space = strchr(version, ' ');
    space = space == nullptr ? nullptr : strchr(space + 1, ' ');
    if (space != nullptr) *space = '\0';
    CpuContext* own = cpu(context);
    snprintf(own->blas_name, sizeof own->blas_name, "%s %.24s", version, core == nullptr ? "" : core());
    return TKF_STATUS_OK;
  }
  dlclose(library);
  return check.fail(TKF_STATUS_UNSUPPORTED, "found no cblas_sgemm and openblas_set_num_threads in %s", path);
}

}  // namespace tkf
