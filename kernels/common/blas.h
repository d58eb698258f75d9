// A BLAS for products of many rows, loaded at run time.
#pragma once
#include "check.h"

namespace tkf {

// Loads the shared library at `path` and takes its sgemm; each call of it must stay on the calling thread, since the
// pool calls it from all threads at once.
int32_t load_blas(tkf_context* context, const char* path, Check& check);

}  // namespace tkf
