/**
 * Kernels broken on purpose: each is a change of the sources that a test of the emulated library must notice. A fault
 * that is not noticed here would not be noticed in a kernel that is broken by mistake. None writes outside its buffers:
 * that can end the process before a test reports it.
 */
import { ATTENTION_MUTANTS } from "./attention_cases.ts";
import type { Mutant } from "./mutant.ts";

const SCAN = {
  test: "kv_filter_scan/kv_filter_scan_cuda_test.ts",
  filter: "/as the reference does|every thread order/",
};
const STEP = { test: "kv_filter_step/kv_filter_step_cuda_test.ts", filter: "" };
const KEYS = {
  file: "kv_key_step/kv_key_step.cu",
  test: "kv_key_step/kv_key_step_test.ts",
  filter: "every thread order",
};
const LINEAR = {
  test: "linear/tests/linear_test.ts",
  filter: "/kept slots alone|every order of threads/",
};

const SAME = { test: LINEAR.test, filter: "of the same x" };
const CUBLASLT = { test: "linear/tests/cublaslt_test.ts" };
const TOGETHER = { test: "linear/tests/products_test.ts", filter: "on all cases" };
const PRODUCTS = { test: LINEAR.test, filter: "equals the reference on all cases" };

/** All of them. */
export const MUTANTS: readonly Mutant[] = [
  ...ATTENTION_MUTANTS,
  {
    name: "argmax takes the last of equal values of a row's parts",
    file: "nll/nll.cu",
    from: "<< 32 | (0xffffffffu - static_cast<uint32_t>(index));",
    to: "<< 32 | (0xffffffffu - static_cast<uint32_t>(index ^ 8192));",
    test: "nll/nll_test.ts",
    filter: "lowest index of ties",
  },
  {
    name: "looked-up rows are not scaled",
    file: "embedding/embedding.cu",
    from: "out[at + i] = scale * w[run",
    to: "out[at + i] = w[run",
    test: "embedding/embedding_test.ts",
    filter: "equal the reference on all cases",
  },
  {
    name: "a norm leaves out a row's second half",
    file: "rms_norm/rms_norm.cu",
    from: "for (int e = 0; e < EACH; e++) squares +=",
    to: "for (int e = 0; e < (EACH + 1) / 2; e++) squares +=",
    test: "rms_norm/rms_norm_test.ts",
    filter: "equals the reference",
  },
  {
    name: "a sum over a block begins before the last one was read",
    file: "common/reduce.cuh",
    from: "  __syncthreads();\n  return total;",
    to: "  return total;",
    ...SCAN,
    filter: "windows of any length",
  },
  {
    name: "a sum over a block reads what other warps have not written",
    file: "common/reduce.cuh",
    from: "shared[warp_index()] = value;\n  __syncthreads();",
    to: "shared[warp_index()] = value;",
    ...SCAN,
  },
  {
    name: "a step of the filter leaves out slot 0 of the ring",
    file: "kv_filter_step/kv_filter_step.cu",
    from: "b * cache.recent + position % cache.recent;",
    to: "b * cache.recent + max(position % cache.recent, min(cache.recent - 1, 1));",
    ...STEP,
  },
  {
    name: "a token's values get the cosine of its keys",
    file: "kv_filter_scan/decide.cuh",
    from: "if (lane_index() == 2) cosines[H + head] = cosine;",
    to: "if (lane_index() == 0) cosines[H + head] = cosine;",
    ...STEP,
  },
  {
    name: "the moments of values are taken over keys",
    file: "kv_filter_scan/decide.cuh",
    from: "cosines + (lane_index() < 16 ? 0 : count)",
    to: "cosines",
    ...STEP,
  },
  {
    name: "a step takes the instance of another policy",
    file: "kv_filter_scan/decide.cuh",
    from: "case TKF_THRESHOLD_FIXED: body(rule",
    to: "case TKF_THRESHOLD_WINDOW: body(rule",
    ...STEP,
  },
  {
    name: "a key that goes ends a block too late",
    from: "end = from + block_length(a.spec, from);",
    to: "end = from + block_length(a.spec, from) + a.spec.block;",
    ...KEYS,
  },
  {
    name: "nothing leaves the cache where the warm-up ends",
    from: "if (position == spec.warmup) return 0;",
    to: "if (position == spec.warmup) return -1;",
    ...KEYS,
  },
  {
    name: "keys older than the recent window are not looked at again",
    from: "recent_rows = position - before + a.recent + 1;",
    to: "recent_rows = position - before + 1;",
    ...KEYS,
  },
  {
    name: "a query sees the keys that end at it",
    from: "stays = r < count && end > position;",
    to: "stays = r < count && end >= position;",
    ...KEYS,
  },
  {
    name: "the newest key is looked at before its end is there",
    from: "__syncthreads();  // the newest row has its end",
    to: "",
    ...KEYS,
  },
  {
    name: "rows move before the list of them is there",
    from: "__syncthreads();  // the list is there; it is read until all are at the next rank",
    to: "",
    ...KEYS,
  },
  {
    name: "rows stay behind whose group begins where it belongs",
    from: "if (from[i + here - 1] == to + i + here - 1) continue;",
    to: "if (from[i] == to + i) continue;",
    ...KEYS,
  },
  {
    name: "keys move up and values do not",
    from: "p < 2 * pieces; p += kThreads",
    to: "p < pieces; p += kThreads",
    ...KEYS,
  },
  {
    name: "few rows of a product are added before all warps have written",
    file: "linear/few_rows.cu",
    from: "if (lane % each == 0) partial[warp_index()][lane / each] = sum;\n    __syncthreads();",
    to: "if (lane % each == 0) partial[warp_index()][lane / each] = sum;",
    ...LINEAR,
  },
  {
    name: "few rows of a product go on in the block before the next",
    file: "linear/few_rows.cu",
    from: "weights[r] += STEP * Weight::BYTES;",
    to: "weights[r] += (STEP - 1) * Weight::BYTES;",
    ...PRODUCTS,
  },
  {
    name: "a product takes the parts of another x",
    file: "common/cuda_context.h",
    from: "return x == o.x && parts == o.parts",
    to: "return parts == o.parts",
    ...SAME,
  },
  {
    name: "parts of x are taken for there after another op had the workspace",
    file: "common/cuda_context.cu",
    from: "  own->split = {};\n",
    to: "",
    ...SAME,
  },
  {
    name: "a graph takes parts of x that were made before it",
    file: "common/cuda_context.h",
    from: "           capture == o.capture;",
    to: "           true;",
    ...SAME,
  },
  {
    name: "few rows on tensor cores leave out a product of parts",
    file: "linear/few_rows_mma.cuh",
    from: "for (int p = kPartsOfX<Weight> - 1; p >= 0;",
    to: "for (int p = 0; p >= 0;",
    ...PRODUCTS,
  },
  {
    name: "few rows on tensor cores take another row's sums of x",
    file: "linear/few_rows_mma.cuh",
    from: "min(top + 8 * n + 2 * t + j, count - 1)",
    to: "min(top + 8 * n + 2 * t, count - 1)",
    ...PRODUCTS,
  },
  {
    name: "few rows on tensor cores forget what their weights were less",
    file: "linear/quants.cuh",
    from: "*m = fmaf(ZERO, *d, least);",
    to: "*m = least;",
    ...PRODUCTS,
  },
  {
    name: "few rows by weights of 16 bits take a column twice",
    file: "linear/few_rows_mma.cuh",
    from: "a[2 * g + 1][r] = v.z",
    to: "a[2 * g + 1][r] = v.x",
    ...PRODUCTS,
  },
  {
    name: "a row's factor is that of the first",
    file: "linear/few_rows.cuh",
    from: "scales[number]",
    to: "scales[0]",
    ...PRODUCTS,
  },
  {
    name: "a row of products by cuBLASLt takes the factor of the first",
    file: "linear/products.cuh",
    from: "row_scales[at]",
    to: "row_scales[0]",
    ...CUBLASLT,
    filter: "on all cases of many rows",
  },
  {
    name: "kept rows take the products of every piece",
    file: "linear/products.cuh",
    from: "at = row - first;",
    to: "at = row % rows;",
    ...CUBLASLT,
    filter: "in pieces where they are many",
  },
  {
    name: "factors of products in bf16 are rounded to f16",
    file: "linear/linear.cu",
    from: "copy.out_dtype = TKF_DTYPE_BF16",
    to: "copy.out_dtype = TKF_DTYPE_F16",
    ...CUBLASLT,
    filter: "in bf16",
  },
  {
    name: "the first tile of a third product is taken for one of the second",
    file: "linear/linear.h",
    from: "is1 = tile < p.third",
    to: "is1 = tile <= p.third",
    ...TOGETHER,
  },
  {
    name: "a gate is multiplied by itself",
    file: "linear/few_rows.cuh",
    from: "total(at + ROWS / 2)",
    to: "total(at)",
    ...TOGETHER,
  },
  {
    name: "what skipped rows have is added as well",
    file: "rms_norm/rms_norm.cu",
    from: "(keep == nullptr || keep[row] != 0)",
    to: "(keep == nullptr || row >= 0)",
    test: "rms_norm/rms_norm_test.ts",
    filter: "of all rows or of those kept",
  },
  {
    name: "weights at odd addresses are taken from the word that they begin in",
    file: "common/words.cuh",
    from: ">> (8 * odd))",
    to: ">> (4 * odd))",
    ...PRODUCTS,
  },
];
