/** The examples of ffi/embed on random layers, against `deno task filter`, for tests. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { type Compiler, findCompiler, run } from "../build/command.ts";
import { copyForEngines } from "../build/engines.ts";
import { buildCpu } from "../build/mod.ts";
import { specArgs } from "../filter.ts";
import { Draw } from "../../kernels/testing/fuzz/draw.ts";
import { TokenFilter, type TokenFilterOptions } from "../../lib/methods/mod.ts";
import { writeSafetensors } from "../../lib/model/mod.ts";
import { hostTensor } from "../../lib/tensor.ts";
import { withFolder } from "../../lib/testing.ts";
import { runTask } from "../../experiments/commands/testing.ts";
import { lackOfPython, runPython } from "../../experiments/tools/testing_python.ts";

/** End of the names of tests that call {@linkcode compareExamples}. */
export const AGREE = "random cases as deno task filter does, and attend to the kept tokens";

/** Builds a C program in a folder that {@linkcode copyForEngines} has filled, without a warning. */
export async function compile(folder: string, source: string, compiler?: Compiler): Promise<string> {
  const { command, args: own } = compiler ?? { ...await findCompiler(), args: [] };
  const out = `${folder}/program`;
  const flags = [
    "-std=c99",
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O1",
    "-I",
    folder,
    `-Wl,-rpath,${folder}`,
  ];
  const args = [
    ...own,
    "-x",
    "c",
    ...flags,
    source,
    "-x",
    "none",
    "-L",
    folder,
    "-ltokenfilter_cpu",
    "-lm",
    "-o",
    out,
  ];
  assertEquals(await run(command, args), { success: true, code: 0, stdout: "", stderr: "" });
  return out;
}

/** Calls a test with a folder that holds a library, the header and the examples. */
export const withKit = (test: (folder: string) => Promise<void>, library?: Uint8Array<ArrayBuffer>) =>
  withFolder(async (folder) => {
    await copyForEngines(library ?? (await buildCpu()).path, folder);
    await test(folder);
  });

/** Layers of one dump that are decided with the same options. */
interface Group {
  readonly options: TokenFilterOptions;
  readonly skipRatio: number;
  readonly layers: readonly Layer[];
}
interface Layer {
  readonly [name: string]: Float32Array<ArrayBuffer> | number;
  readonly tokens: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly keys: Float32Array<ArrayBuffer>;
  readonly values: Float32Array<ArrayBuffer>;
  readonly queries: Float32Array<ArrayBuffer>;
}

const FUSIONS = ["variance", "mean", "static", "key", "value", "min", "max", "product", "random"] as const;
const THRESHOLDS = ["budget", "window", "robbins-monro", "fixed", "topk"] as const;

function drawGroups(groups: number, layers: number): Group[] {
  const d = new Draw(20261130);
  const rows = (count: number) => Float32Array.from({ length: count }, () => d.from(-1000, 1000) / 500);
  return Array.from({ length: groups }, (_, i) => ({
    options: {
      ...{
        fusion: FUSIONS[i % FUSIONS.length]!,
        threshold: THRESHOLDS[i % THRESHOLDS.length]!,
        invert: d.once(4),
      },
      ...{ anchor: d.pick(["ema", "mean"]), absorb: d.pick(["all", "kept"]), gamma: d.from(0, 9) / 10 },
      ...{ warmup: d.from(0, 12), window: d.from(1, 40), theta: d.from(-5, 5) / 20, eta: d.from(1, 9) / 10 },
      ...{ recent: d.from(0, 12), seed: BigInt(d.from(0, 1000)) },
    } as TokenFilterOptions,
    skipRatio: d.from(0, 10) / 10,
    layers: Array.from({ length: layers }, () => {
      const kvHeads = d.from(1, 3),
        heads = kvHeads * d.from(1, 2),
        headDim = 2 * d.from(1, 5),
        tokens = d.from(14, 60); // more than any warm-up: `filter` refuses a dump that it would not decide
      const own = tokens * kvHeads * headDim;
      return {
        ...{ tokens, heads, kvHeads, headDim, keys: rows(own), values: rows(own) },
        queries: rows(tokens * heads * headDim),
      };
    }),
  }));
}

/** What `deno task filter` decides of a group's layers, and where its rows lie. */
async function decideGroup({ options, skipRatio, layers }: Group, folder: string) {
  const tensors = layers.flatMap(({ tokens, kvHeads, headDim, keys, values }, i) => {
    const shape = [tokens, kvHeads, headDim];
    return [[`keys.${i}`, hostTensor("f32", shape, keys)], [
      `values.${i}`,
      hostTensor("f32", shape, values),
    ]] as const;
  });
  await Deno.writeFile(`${folder}/dump.safetensors`, writeSafetensors(new Map(tensors)));
  const { fusion, threshold, invert, anchor, absorb, gamma, warmup, window, theta, eta, recent, seed } =
    options;
  const own: Record<string, unknown> = {
    ...{ method: fusion, threshold, warmup, recent, "skip-ratio": skipRatio },
    ...(invert && { invert }),
    ...(fusion === "random" ? { seed } : { anchor, absorb, ...(anchor === "ema" && { gamma }) }),
    ...(["budget", "window"].includes(threshold!) && { "threshold-window": window }),
    ...(threshold === "fixed" && { theta }),
    ...(threshold === "robbins-monro" && { eta }),
  };
  const flags = Object.entries(own).flatMap(([name, value]) =>
    value === true ? [`--${name}`] : [`--${name}=${value}`]
  );
  const path = `${folder}/dump.safetensors`;
  const { code, stdout, stderr } = await runTask("filter", "--kv", path, "--json", "--quiet", ...flags);
  assertEquals([code, stderr], [0, ""], flags.join(" "));
  return JSON.parse(stdout).layers as { keep: number[]; redundancy: (number | null)[] }[];
}

/** A case as the examples read it. */
function writeCase({ options, skipRatio }: Group, own: Layer, layer: number): Uint8Array<ArrayBuffer>[] {
  const { tokens, heads, kvHeads, headDim, keys, values, queries } = own;
  const shape = {
    numLayers: layer + 1,
    numHeads: kvHeads,
    numKvHeads: kvHeads,
    headDim,
    hiddenSize: kvHeads * headDim,
  };
  const all = {
    ...options,
    schedule: "explicit",
    skipRatios: Array(layer + 1).fill(1),
  } as TokenFilterOptions;
  const args = Object.entries(specArgs({ ...new TokenFilter(shape, all).specs[layer]!, skipRatio }, 0));
  const spec = new DataView(new ArrayBuffer(176)),
    isReal = (name: string) => name === "skip_ratio" || name in REALS;
  let at = 0;
  for (const [name, value] of args.filter(([name]) => !isReal(name) && name !== "seed")) {
    assertEquals(typeof value, "number", name);
    spec.setInt32(at, value as number, true);
    at += 4;
  }
  for (const [, value] of args.filter(([name]) => isReal(name))) {
    spec.setFloat64(at, value as number, true), at += 8;
  }
  spec.setBigUint64(at, options.seed as bigint, true);
  spec.setBigInt64(at + 8, BigInt(tokens), true);
  spec.setBigInt64(at + 16, BigInt(heads), true);
  assertEquals(at, 152);
  return [
    new Uint8Array(spec.buffer),
    ...[keys, values, queries].map(({ buffer }) => new Uint8Array(buffer)),
  ];
}
const REALS = { tau: 0, lambda: 0, eps: 0, alpha: 0, gamma: 0, theta: 0, eta: 0, ridge: 0 };

/** Filtered attention of every token in float64; 0 for those that are skipped. */
function attend(
  { tokens, heads, kvHeads, headDim, keys, values, queries }: Layer,
  keep: Uint8Array,
  recent: number,
) {
  const out = new Float64Array(tokens * heads * headDim), group = heads / kvHeads;
  for (let i = 0; i < tokens; i++) {
    for (let head = 0; keep[i] === 1 && head < heads; head++) {
      const kv = Math.floor(head / group), to = (i * heads + head) * headDim;
      const seen = Array.from({ length: i + 1 }, (_, j) => j).filter((j) => keep[j] === 1 || i - j <= recent);
      const weights = seen.map((j) => {
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += queries[to + c]! * keys[(j * kvHeads + kv) * headDim + c]!;
        return Math.exp(dot / Math.sqrt(headDim));
      });
      const sum = weights.reduce((a, b) => a + b, 0);
      seen.forEach((j, k) => {
        for (let c = 0; c < headDim; c++) {
          out[to + c]! += weights[k]! / sum * values[(j * kvHeads + kv) * headDim + c]!;
        }
      });
    }
  }
  return out;
}

/** A library that another compiler has built, the compiler of C for it, and the command that runs its programs. */
export interface Foreign {
  readonly library: Uint8Array<ArrayBuffer>;
  readonly compiler: Compiler;
  readonly emulator: readonly string[];
}

/** Compares the examples with `deno task filter` on random layers, 20 groups of this size. */
export const compareExamples = (layers: number, foreign?: Foreign) =>
  withKit(async (folder) => {
    const groups = drawGroups(20, layers), cases: Uint8Array<ArrayBuffer>[] = [];
    for (const group of groups) {
      group.layers.forEach((own, layer) => cases.push(...writeCase(group, own, layer)));
    }
    await Deno.writeFile(`${folder}/cases`, new Uint8Array(await new Blob(cases).arrayBuffer()));
    const program = await compile(folder, `${folder}/filter.c`, foreign?.compiler);
    const [command, ...args] = [...foreign?.emulator ?? [], program, `${folder}/cases`, `${folder}/c.out`];
    const done = await run(command!, args);
    assertEquals(done, { success: true, code: 0, stdout: "", stderr: "" });
    const found = (await Deno.readFile(`${folder}/c.out`)).buffer;
    let at = 0, skipped = 0;
    const take = (bytes: number) => found.slice(at, at += bytes);
    for (const group of groups) {
      const decided = await decideGroup(group, folder);
      group.layers.forEach((own, layer) => {
        const { tokens, heads, headDim } = own, { keep, redundancy } = decided[layer]!;
        const where = JSON.stringify(
          { ...group.options, layer },
          (_, x) => typeof x === "bigint" ? Number(x) : x,
        );
        const ownKeep = new Uint8Array(take(tokens)), scores = Array.from(new Float64Array(take(tokens * 8)));
        assertEquals([...ownKeep], keep, where);
        const judged = scores.map((x) => Number.isNaN(x) ? null : x);
        if (foreign === undefined || foreign.emulator.length === 0) assertEquals(judged, redundancy, where);
        // On another processor the last digit of a score may differ.
        else judged.forEach((x, i) => assert(Math.abs(x! - redundancy[i]!) <= Number.EPSILON, where));
        const out = new Float32Array(take(tokens * heads * headDim * 4));
        const want = attend(own, ownKeep, group.options.recent!);
        out.forEach((x, i) => assertLess(Math.abs(x - want[i]!), 2e-6, where));
        skipped += keep.filter((kept) => kept === 0).length;
      });
    }
    assertEquals(at, found.byteLength);
    assert(skipped > 100 * layers, `${skipped} tokens skipped`);
    if (foreign !== undefined || lackOfPython(["numpy"]) !== undefined) return;
    await runPython(`${folder}/filter.py`, `${folder}/cases`, `${folder}/python.out`);
    assertEquals(await Deno.readFile(`${folder}/python.out`), new Uint8Array(found));
  }, foreign?.library);
