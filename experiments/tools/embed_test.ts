/** The filter in other engines: the C header and the examples of ffi/embed decide as the filter itself does. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { findCompiler, run } from "../../ffi/build/command.ts";
import { buildCpu } from "../../ffi/build/mod.ts";
import { copyForEngines } from "../../ffi/build/engines.ts";
import { specArgs } from "../../ffi/filter.ts";
import { openCpuLibrary, text } from "../../ffi/library.ts";
import { stateSizes } from "../../lib/filter/layer.ts";
import { TokenFilter, type TokenFilterOptions } from "../../lib/methods/mod.ts";
import { readModelFile, writeSafetensors } from "../../lib/model/mod.ts";
import { hostTensor } from "../../lib/tensor.ts";
import { IN_SLOW_TIER, testSlow, unless } from "../../lib/testing.ts";
import { Draw } from "../../kernels/testing/fuzz/draw.ts";
import { runTask, withFolder } from "../commands/testing.ts";
import { lackOfPython, PACKAGES_OF_TINY, runPython, unpackTiny } from "./testing_python.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../../${path}`, import.meta.url));
const header = await read("ffi/embed/tokenfilter_filter.h"),
  whole = await read("kernels/include/tokenfilter.h");

/** Builds a C program in a folder that {@linkcode copyForEngines} has filled, without a warning. */
async function compile(folder: string, source: string): Promise<string> {
  const { command } = await findCompiler(), out = `${folder}/program`;
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

/** Calls a test with a folder that holds the library, the header and the examples. */
const withKit = (test: (folder: string) => Promise<void>) =>
  withFolder(async (folder) => {
    await copyForEngines((await buildCpu()).path, folder);
    await test(folder);
  });

Deno.test("tokenfilter_filter.h has numbers and functions of tokenfilter.h, and versions of one kind everywhere", async () => {
  const numbers = (source: string) =>
    new Map(
      Array.from(source.matchAll(/^#define (TKF_[A-Z_0-9]+) (\d+)/gm), ([, name, value]) => [name!, value!]),
    );
  const own = numbers(header), all = numbers(whole);
  assert(own.size > 30);
  assertEquals([...own].filter(([name, value]) => all.get(name) !== value), []);
  const declared = (source: string) =>
    new Set(
      Array.from(source.matchAll(/^(?:TKF_API )?((?:const char\*|int32_t) tkf_\w+\(.*\));$/gm), ([, line]) =>
        line),
    );
  const ops = [...declared(header)].filter((line) => !/tkf_(filter_scan|attention_filtered)\(/.test(line!));
  assertEquals(ops.length, 4);
  assertEquals(ops.filter((line) => !declared(whole).has(line)), []);

  const python = await read("ffi/embed/filter.py");
  const [, layout] = python.match(/^LAYOUT = """\\\n(.*?)"""/ms)!;
  const described = text((await openCpuLibrary()).symbols.tkf_abi_describe()).split("\n");
  const lines = layout!.replaceAll("\\\n", "").split("\n");
  assertEquals([lines.length, lines.filter((line) => !described.includes(line))], [4, []]);
  assertEquals(
    python.match(/^VERSION = (".*?")/m)![1],
    header.match(/#define TKF_FILTER_VERSION (".*?")/)![1],
  );
});

Deno.test("tokenfilter_filter.h has the filter's defaults and sizes, and knows whether a library fits", () =>
  withKit(async (folder) => {
    const shape = { numLayers: 5, numHeads: 3, numKvHeads: 3, headDim: 4, hiddenSize: 12 };
    const cases: TokenFilterOptions[] = [
      {},
      { threshold: "window", window: 9 },
      { threshold: "robbins-monro", warmup: 7 },
      { threshold: "robbins-monro", warmup: 0 },
      { threshold: "fixed" },
    ];
    const specs = cases.map((options) =>
      new TokenFilter(shape, { ...options, pruneRatio: 0.5, tail: 1 }).specs[2]!
    );
    const fields = Object.entries(specArgs(specs[0]!, 0)).filter(([name]) => name !== "hidden_size");
    const thresholds = ["BUDGET", "WINDOW", "ROBBINS_MONRO", "ROBBINS_MONRO", "FIXED"];
    const sizes = specs.map(({ window, warmup }, i) =>
      `s.threshold = TKF_THRESHOLD_${thresholds[i]}; s.window = ${window}; s.warmup = ${warmup};
       printf(",%d", tkf_filter_scores(&s));`
    );
    await Deno.writeTextFile(
      `${folder}/main.c`,
      `#include "tokenfilter_filter.h"
#include <stdio.h>
int main(void) {
  tkf_filter_spec s = tkf_filter_defaults(2, 3, 4);
  printf("%d", tkf_filter_compatible());
  ${fields.map(([name]) => `printf(",%.17g", (double)s.${name});`).join("\n  ")}
  ${sizes.join("\n  ")}
  return 0;
}`,
    );
    const { code, stdout } = await run(await compile(folder, `${folder}/main.c`), []);
    const expected = [
      1,
      ...fields.map(([, value]) => Number(value)),
      ...specs.map((spec) => stateSizes(spec).scores),
    ];
    assertEquals([code, stdout.split(",").map(Number)], [0, expected]);
    const other = header.replace("features, queries_size;", "features, query_size;");
    await Deno.writeTextFile(`${folder}/tokenfilter_filter.h`, other);
    await Deno.writeTextFile(`${folder}/cases`, "");
    const program = await compile(folder, `${folder}/filter.c`);
    const refused = await run(program, [`${folder}/cases`, `${folder}/out`]);
    assertEquals([refused.code, refused.stderr], [
      2,
      "Cannot use this library: its structs are not those of version 1.0.0\n",
    ]);
  }));

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
        tokens = d.from(1, 60);
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

/** Compares the examples with `deno task filter` on random layers, 20 groups of this size. */
const compareExamples = (layers: number) =>
  withKit(async (folder) => {
    const groups = drawGroups(20, layers), cases: Uint8Array<ArrayBuffer>[] = [];
    for (const group of groups) {
      group.layers.forEach((own, layer) => cases.push(...writeCase(group, own, layer)));
    }
    await Deno.writeFile(`${folder}/cases`, new Uint8Array(await new Blob(cases).arrayBuffer()));
    const done = await run(await compile(folder, `${folder}/filter.c`), [
      `${folder}/cases`,
      `${folder}/c.out`,
    ]);
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
        assertEquals(scores.map((x) => Number.isNaN(x) ? null : x), redundancy, where);
        const out = new Float32Array(take(tokens * heads * headDim * 4));
        const want = attend(own, ownKeep, group.options.recent!);
        out.forEach((x, i) => assertLess(Math.abs(x - want[i]!), 2e-6, where));
        skipped += keep.filter((kept) => kept === 0).length;
      });
    }
    assertEquals(at, found.byteLength);
    assert(skipped > 100 * layers, `${skipped} tokens skipped`);
    if (lackOfPython(["numpy"]) !== undefined) return;
    await runPython(`${folder}/filter.py`, `${folder}/cases`, `${folder}/python.out`);
    assertEquals(await Deno.readFile(`${folder}/python.out`), new Uint8Array(found));
  });

const AGREE = "random cases as deno task filter does, and attend to the kept tokens";
Deno.test(`filter.c and filter.py decide 100 ${AGREE}`, () => compareExamples(5));
testSlow(`filter.c and filter.py decide 1,000 ${AGREE}`, () => compareExamples(50));

Deno.test({
  ...unless(
    IN_SLOW_TIER || lackOfPython(["numpy", ...PACKAGES_OF_TINY]),
    "transformers_filter.py gives the losses of score, of 8 chunks and each side",
  ),
  fn: () =>
    withKit(async (folder) => {
      const model = `${folder}/model`;
      await unpackTiny(model);
      const { tokenizer, config } = await readModelFile("tiny");
      const ids = tokenizer.encode(await read("docs/explain/architecture.md"), { bos: true });
      const chunks = Array.from({ length: 8 }, (_, i) => [...ids.slice(160 * i, 160 * (i + 1))]);
      const ratios = Array.from({ length: config.numLayers }, (_, layer) => layer === 0 ? 0 : 0.5);
      await Deno.writeTextFile(`${folder}/ids.json`, JSON.stringify(chunks));
      await Deno.writeTextFile(`${folder}/ratios.json`, JSON.stringify(ratios));
      const at = (name: string) => `${folder}/${name}`;
      for (const side of ["both", "query", "key"]) {
        const fusion = side === "key" ? "key" : "variance";
        const options = { skip_ratios: ratios, side, fusion, recent: 8, warmup: 24 };
        await Deno.writeTextFile(at("options.json"), JSON.stringify(options));
        const paths = [at("ids.json"), at("options.json"), at("losses.json")];
        await runPython(at("transformers_filter.py"), model, ...paths);
        const losses: number[][] = JSON.parse(await Deno.readTextFile(at("losses.json")));
        const flags = [
          "--schedule=explicit",
          `--skip-ratios=${at("ratios.json")}`,
          "--recent=8",
          "--warmup=24",
        ];
        flags.push(`--side=${side}`, `--method=${fusion}`, "--json", "--quiet");
        for (const [i, chunk] of chunks.entries()) {
          await Deno.writeTextFile(at("chunk.json"), JSON.stringify(chunk));
          const { code, stdout, stderr } = await runTask("score", "--ids", at("chunk.json"), ...flags);
          assertEquals([code, stderr], [0, ""]);
          const { nll }: { nll: number[] } = JSON.parse(stdout);
          assertEquals(losses[i]!.length, nll.length);
          losses[i]!.forEach((loss, t) =>
            assertLess(Math.abs(loss - nll[t]!), 1e-4, `${side}, chunk ${i}, token ${t}`)
          );
        }
      }
    }),
});
