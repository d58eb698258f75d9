// Everything that is compiled once, for the lowest level: contexts, threads, and the entry points of all ops.
#include "blas.cpp"
#include "context.cpp"
#include "pool.cpp"

#include "../embedding/embedding.cpp"
#include "../filtered_attention/filtered_attention.cpp"
#include "../kv_filter_scan/kv_filter_scan.cpp"
#include "../linear/linear.cpp"
#include "../nll/nll.cpp"
#include "../rms_norm/rms_norm.cpp"
#include "../rope/rope.cpp"
#include "../rows/rows.cpp"
#include "../swiglu/swiglu.cpp"
