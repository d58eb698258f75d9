/** Those of the attention kernels. */
import type { Mutant } from "./mutant.ts";

const ATTENTION = {
  test: "filtered_attention/filtered_attention_test.ts",
  filter: "every order of threads",
};
const GAPS = { file: "filtered_attention/prefill.cuh", test: ATTENTION.test, filter: "keys end" };
const GAPS_OF_F32 = { file: GAPS.file, test: ATTENTION.test, filter: "/equals the reference on all cases/" };
const DECODE = { test: "filtered_attention/decode_cuda_test.ts", filter: "thread orders" };
const WGMMA = {
  file: "filtered_attention/prefill_wgmma.cu",
  test: "filtered_attention/prefill_cuda_test.ts",
  filter: "by wgmma",
};

/** Faults in attention. */
export const ATTENTION_MUTANTS: readonly Mutant[] = [
  {
    name: "prefill reads keys without the barrier that other threads' copies need",
    file: "filtered_attention/prefill_mma.cuh",
    from: "__syncthreads();  // the keys have come, and the last values are no longer read",
    to: "",
    ...ATTENTION,
  },
  {
    name: "prefill overwrites keys that other warps still read",
    file: "filtered_attention/prefill_mma.cuh",
    from: `      __syncthreads();  // the values have come, and these keys are no longer read
      now = tiles.after(now);
      copy_tile(keys, job.keys, now);`,
    to: `      now = tiles.after(now);
      copy_tile(keys, job.keys, now);
      __syncthreads();`,
    ...ATTENTION,
  },
  {
    name: "decode reads the stage whose copies it has not waited for",
    file: "filtered_attention/decode.cuh",
    from: "cp_async_wait<kDecodeStages - 1>();",
    to: "cp_async_wait<kDecodeStages>();",
    ...DECODE,
  },
  {
    name: "prefill hands weights to mma.sync in the wrong registers",
    file: "filtered_attention/fragments.cuh",
    from: "pack(weights[2 * k + i / 2][i % 2 * 2], weights[2 * k + i / 2][i % 2 * 2 + 1])",
    to: "pack(weights[2 * k + i % 2][i / 2 * 2], weights[2 * k + i % 2][i / 2 * 2 + 1])",
    ...ATTENTION,
  },
  {
    name: "prefill takes half of a piece of a query twice",
    file: "filtered_attention/fragments.cuh",
    from: "expand(raw[u][1], x + 4)",
    to: "expand(raw[u][0], x + 4)",
    ...ATTENTION,
  },
  {
    name: "prefill loads keys by the row of another lane",
    file: "filtered_attention/prefill_mma.cuh",
    from: "keys + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8;",
    to: "keys + (lane % 8 + lane / 8 % 2 * 8) * kStride + lane / 16 * 8;",
    ...ATTENTION,
  },
  {
    name: "decode hides a query's own key",
    file: "filtered_attention/device.cuh",
    from: "return j <= i && static_cast<unsigned>(i)",
    to: "return j < i && static_cast<unsigned>(i)",
    ...DECODE,
  },
  {
    name: "prefill forgets the recent keys",
    file: "filtered_attention/prefill.cuh",
    from: "const int all = num_kept + (tile.stretch[1].end - tile.stretch[1].begin + SIZE - 1) / SIZE;",
    to: "const int all = num_kept;",
    ...ATTENTION,
  },
  {
    name: "prefill of f32 shows a key to the query at its end",
    from: "row.position < ends[c]",
    to: "row.position <= ends[c]",
    ...GAPS_OF_F32,
  },
  {
    name: "prefill shows a key to the query at its end",
    ...GAPS,
    file: "filtered_attention/fragments.cuh",
    from: "lower.position >= end",
    to: "lower.position > end",
  },
  {
    name: "prefill of f32 shows local queries no sinks",
    from: "(c >= begin(row) || c < sinks)",
    to: "(c >= begin(row))",
    ...GAPS_OF_F32,
  },
  {
    name: "prefill shows local queries no sinks",
    ...GAPS,
    file: "filtered_attention/fragments.cuh",
    from: " | columns_below<8 * N>(keys.sinks))",
    to: ")",
  },
  {
    name: "prefill hides a query's own key",
    file: "filtered_attention/prefill.cuh",
    from: "s.full_end, s.end, position);",
    to: "s.full_end, s.end, position - 1);",
    ...ATTENTION,
  },
  {
    name: "prefill takes half of a pair of columns for both",
    file: "filtered_attention/fragments.cuh",
    from: "max(inside % 8 - own, 0)",
    to: "max((inside % 8 - own) / 2 * 2, 0)",
    ...ATTENTION,
  },
  {
    name: "prefill does not look whether its sums are finite",
    file: "filtered_attention/prefill_mma.cuh",
    from: "guarded = !guarded && __syncthreads_and(all_finite(sums)) == 0;",
    to: "guarded = false;",
    test: "filtered_attention/prefill_cuda_test.ts",
    filter: "shows NaN and infinity",
  },
  {
    name: "prefill hides infinity from the queries that see it",
    file: "filtered_attention/fragments.cuh",
    from: "seen[i / 2] && !(fabsf(value) < INFINITY)",
    to: "seen[i / 2] && value != value",
    test: "filtered_attention/prefill_cuda_test.ts",
    filter: "shows NaN and infinity",
  },
  {
    name: "a query's window is one token too long",
    ...GAPS,
    file: "filtered_attention/device.cuh",
    from: "int64_t{position} - window;",
    to: "int64_t{position} - window - 1;",
  },
  {
    name: "prefill sees all of a key tile although some of it ends",
    from: "*full &= __all_sync(kAllLanes, all) != 0;",
    to: "",
    ...GAPS,
  },
  {
    name: "prefill sees all of a key tile that ends at its last query",
    from: "all &= end > tile.highest;",
    to: "all &= end >= tile.highest;",
    ...GAPS,
  },
  {
    name: "prefill leaves out key tiles that only its first queries see",
    from: "some |= end > tile.lowest;",
    to: "some |= end > tile.highest;",
    ...GAPS,
  },
  {
    name: "prefill sees all of a key tile although some of its queries are local",
    from: "what == 2 ? least : most;",
    to: "least;",
    ...GAPS,
  },
  {
    name: "prefill leaves out sinks that lie before all windows",
    from: "return (tile.sinks + SIZE - 1) / SIZE;",
    to: "return 0;",
    ...GAPS,
  },
  {
    name: "decode's place in rows that lie in order moves on by a row too few",
    file: "filtered_attention/decode.cuh",
    from: "next_stage = kStride * row_width;",
    to: "next_stage = (kStride - 1) * row_width;",
    ...DECODE,
  },
  {
    name: "decode takes sinks for rows that lie in order with the window's",
    file: "filtered_attention/decode.cuh",
    from: "if (v0 >= rows.sinks && v0 + kStep <= order_end) {",
    to: "if (v0 + kStep <= order_end) {",
    test: ATTENTION.test,
    filter: "/equals the reference/",
  },
  {
    name: "decode shows a key to the query at its end",
    file: "filtered_attention/decode.cuh",
    from: "rows.position < job.key_ends[row] ? row",
    to: "rows.position <= job.key_ends[row] ? row",
    ...ATTENTION,
  },
  {
    name: "decode looks for sinks beside the window",
    file: "filtered_attention/decode.cuh",
    from: "v < rows.sinks ? v : rows.first + v",
    to: "rows.first + v",
    ...ATTENTION,
  },
  {
    name: "decode takes one sink too few",
    file: "filtered_attention/decode.cuh",
    from: "int64_t{job.sinks} - 1)",
    to: "int64_t{job.sinks} - 2)",
    ...ATTENTION,
  },
  {
    name: "decode's recent band is one token too short",
    file: "filtered_attention/decode.cuh",
    from: "return j >= 0 && sees(rows.position, j, job.reach[1]);",
    to: "return j >= 0 && sees(rows.position, j, job.reach[1] - 1);",
    ...DECODE,
  },
  {
    name: "decode leaves out the last row of the recent ring",
    file: "filtered_attention/decode.cuh",
    from: "__device__ int total() const { return cached + recent; }",
    to: "__device__ int total() const { return cached + max(recent - 1, 0); }",
    ...DECODE,
  },
  {
    name: "the splits of decode are put together without the last",
    file: "filtered_attention/device.cuh",
    from: "for (int s = 0; s < splits; s++) {\n      const float* part",
    to: "for (int s = 0; s < splits - 1; s++) {\n      const float* part",
    ...DECODE,
  },
  {
    name: "a split of prefill takes the last tile of keys of the one before it too",
    file: "filtered_attention/prefill.cuh",
    from: "begin = min(split * each, all);",
    to: "begin = min(split * each - (split > 0), all);",
    test: "filtered_attention/prefill_cuda_test.ts",
    filter: "long past",
  },
  {
    name: "decode's warps are added before all have written",
    file: "filtered_attention/decode.cuh",
    from: "  __syncthreads();\n\n  const bool alone",
    to: "\n  const bool alone",
    ...DECODE,
  },
  {
    name: "the search in positions takes rows past the end for keys",
    file: "filtered_attention/device.cuh",
    from: "__ballot_sync(kAllLanes, row >= end || at(static_cast<int>(row)) > value)",
    to: "__ballot_sync(kAllLanes, row < end && at(static_cast<int>(row)) > value)",
    ...ATTENTION,
  },
  {
    name: "prefill by wgmma loads keys and values over those still in use",
    from: "barrier_wait(&empty[which][stage], parity ^ 1);",
    to: "",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma gives keys back before the product that reads them",
    from: `        wgmma_wait(scores);
        if (lane == 0) barrier_arrive(&empty[0][stage]);`,
    to: `        if (lane == 0) barrier_arrive(&empty[0][stage]);
        wgmma_wait(scores);`,
    ...WGMMA,
  },
  {
    name: "prefill by wgmma waits for keys of the turn before",
    from: "barrier_wait(&full[0][stage], parity);",
    to: "barrier_wait(&full[0][stage], parity ^ 1);",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma waits for scores that it has not committed",
    from: "wgmma_commit();\n        wgmma_wait(scores);",
    to: "wgmma_wait(scores);",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma goes on before its sums are there",
    from: "wgmma_commit();\n        wgmma_wait(sums[0]);",
    to: "wgmma_commit();",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma goes through values in half steps",
    from: "static_cast<uint64_t>(k * 16 * 128 >> 4)",
    to: "static_cast<uint64_t>(k / 2 * 16 * 128 >> 4)",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma lays queries out by the next row's swizzle",
    from: "return shared + c / 64 * kBlock + swizzled(r, c % 64);",
    to: "return shared + c / 64 * kBlock + (swizzled(r, c % 64) ^ 16);",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma does not show its barriers to TMA",
    from: "    fence_async();\n  }\n  find_tile",
    to: "  }\n  find_tile",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma does not share its queries",
    from: "fence_async();\n    meet();",
    to: "meet();",
    ...WGMMA,
  },
  {
    name: "prefill by wgmma clears NaN from values unseen by the product",
    from: "                fence_async();\n                meet();",
    to: "                meet();",
    ...WGMMA,
  },
];
