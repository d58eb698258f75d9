// Flash decoding for calls of tkf_attention_filtered with few queries (decode.cu).
#pragma once
#include "../common/kernels.h"

namespace tkf {
namespace attention {

// Every query reads all that it sees; the rows are split among blocks.
int32_t decode_few(tkf_context* context, const tkf_attention_filtered_args& a);

}  // namespace attention
}  // namespace tkf
