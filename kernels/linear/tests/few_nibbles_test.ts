import { assertEquals } from "@std/assert";
import { cpuLevels } from "../../../ffi/mod.ts";
import { numbers, randomTensor, randomWeight } from "../../testing/inputs.ts";
import { rowsOf } from "../../../lib/tensor.ts";
import { cpuWays, testOnCpu } from "../../testing/ways.ts";

testOnCpu(
  "linear() by AVX-512 gives a row the same bits in products of 1 to 7 rows with nibbles",
  async () => {
    const ways = (await cpuWays()).filter(({ name }) => name.includes("avx512"));
    for (const [i, dtype] of (["q4_0", "q4_1", "iq4_nl"] as const).entries()) {
      // A last group that is not whole, of blocks and of rows of weights.
      const next = numbers(i),
        x = randomTensor([7, 672], next),
        weight = randomWeight(dtype, [71, 672], next);
      for (const { name, backend, empty, values } of ways) {
        const all = empty(7, 71);
        backend.linear(x, weight, all);
        for (const rows of [1, 2, 3, 4, 5, 6]) {
          const out = empty(rows, 71);
          backend.linear(rowsOf(x, 0, rows), weight, out);
          assertEquals(values(out), values(all).subarray(0, rows * 71), `${name}, ${rows} ${dtype}`);
        }
      }
    }
  },
  !(await cpuLevels()).includes("avx512") && "no AVX-512 here",
);
