// The entry points that the CUDA library shares with the CPU library: they check arguments and call the table.
#include "../embedding/embedding.cpp"
#include "../filtered_attention/filtered_attention.cpp"
#include "../linear/linear.cpp"
#include "../nll/nll.cpp"
#include "../rms_norm/rms_norm.cpp"
#include "../rope/rope.cpp"
#include "../rows/rows.cpp"
#include "../swiglu/swiglu.cpp"
