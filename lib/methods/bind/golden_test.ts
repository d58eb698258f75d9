/** The recurrence against numbers of an independent numpy implementation; schema: experiments/tools/verify/make_golden.py. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { type Dataset, makeInputs } from "./golden_testing.ts";
import type { TokenFilterOptions } from "./options.ts";
import { TokenFilter } from "./token_filter.ts";

type Column = (number | null)[];

interface Case {
  name: string;
  dataset: string;
  moments: number;
  spec: Omit<TokenFilterOptions, "seed"> & {
    skipRatio?: number;
    seed?: string;
    layer?: number;
    chunk?: number;
  };
  keep: string;
  redundancy: Column;
  threshold: Column;
  wK: Column | number | null;
}

const golden: {
  datasets: Record<string, Dataset>;
  moments: Record<"muK" | "varK" | "muV" | "varV", Column>[];
  cases: Case[];
} = JSON.parse(await Deno.readTextFile(new URL("../../filter/testdata/golden.json", import.meta.url)));

function expectColumn(name: string, got: number[], want: Column, tau: number): void {
  assertEquals(got.length, want.length);
  want.forEach((w, t) => {
    if (w === null) assert(Number.isNaN(got[t]), `${name}[${t}] is ${got[t]}, expected none`);
    else assertAlmostEquals(got[t]!, w, 1e-9 * Math.max(1, Math.abs(w), tau), `${name}[${t}]`);
  });
}

/** Weights over T tokens: each its own, or one and the same for all, or none. */
function weightsOf(wK: Column | number | null, T: number): Column {
  return Array.isArray(wK) ? wK : Array.from({ length: T }, () => wK);
}

for (const { name, dataset, moments, spec, ...want } of golden.cases) {
  Deno.test(`scan() gives numpy's decisions for ${name}`, () => {
    const data = golden.datasets[dataset]!;
    const input = makeInputs(data);
    const { skipRatio = 0.5, seed = "0", layer = 0, chunk = 0, ...options } = spec;
    const shape = {
      numLayers: 40,
      numHeads: data.numHeads ?? data.H,
      numKvHeads: data.H,
      headDim: data.d,
      hiddenSize: data.hiddenSize ?? 1,
    };
    // A rho of 0 would leave the layer out of the plan: state it through a uniform schedule instead.
    const plan: TokenFilterOptions = skipRatio === 0
      ? { pruneRatio: 0, tail: 1 }
      : { skipRatios: Array.from({ length: 40 }, (_, l) => l === layer ? skipRatio : 0) };
    const filter = new TokenFilter(shape, { theta: 0.5, ...options, ...plan, seed: BigInt(seed) });
    const sequence = filter.start({ chunk });
    const extra = options.fusion === "learned" ? input : {};
    const keep: number[] = [];
    const columns: Record<string, number[]> = {};
    for (let start = 0; start < data.T;) {
      const { taken, keep: kept, ...rows } = sequence.scan(layer, input.keys, input.values, extra, start);
      keep.push(...kept);
      for (const [column, values] of Object.entries(rows)) (columns[column] ??= []).push(...values);
      if (options.fusion === "learned") {
        const rowsKept = [...kept.keys()].filter((i) => kept[i] === 1).map((i) => start + i);
        const norms = rowsKept.map((row) =>
          Math.hypot(...input.residual.subarray(row * shape.hiddenSize, (row + 1) * shape.hiddenSize))
        );
        const outputs = rowsKept.map((row) => input.output[row]!);
        sequence.observe(layer, Float64Array.from(outputs), Float64Array.from(norms));
      }
      start += taken;
    }
    assertEquals(keep.join(""), want.keep);
    const tau = options.tau ?? 1;
    for (const [column, values] of Object.entries(golden.moments[moments]!)) {
      expectColumn(column, columns[column]!, values, 1);
    }
    expectColumn("redundancy", columns.redundancy!, want.redundancy, tau);
    expectColumn("threshold", columns.threshold!, want.threshold, tau);
    expectColumn("wK", columns.wK!, weightsOf(want.wK, data.T), tau);
  });
}

Deno.test("golden.json has cases", () => assert(golden.cases.length >= 60));
