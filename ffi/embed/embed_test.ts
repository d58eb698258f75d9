/** The filter in other engines: the C header and the examples of ffi/embed decide as the filter itself does. */
import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import { run } from "../build/command.ts";
import { specArgs } from "../filter.ts";
import { openCpuLibrary, text } from "../library/library.ts";
import { stateSizes } from "../../lib/filter/layer.ts";
import { TokenFilter, type TokenFilterOptions } from "../../lib/methods/mod.ts";
import { readModelFile } from "../../lib/model/mod.ts";
import { IN_SLOW_TIER, testSlow, unless } from "../../lib/testing.ts";
import { runTask } from "../../experiments/commands/testing.ts";
import { AGREE, compareExamples, compile, withKit } from "./embed_testing.ts";
import {
  lackOfPython,
  PACKAGES_OF_TINY,
  runPython,
  unpackTiny,
} from "../../experiments/tools/testing_python.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../../${path}`, import.meta.url));
const header = await read("ffi/embed/tokenfilter_filter.h"),
  whole = await read("kernels/include/tokenfilter.h");

/** Eight threads with one context of four: counts calls that decide, decide otherwise, are refused, and fail. */
const SHARED_CONTEXT = `
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include "tokenfilter_filter.h"
enum { COUNT = 512, HEADS = 4, SIZE = 64, THREADS = 8, ROUNDS = 300 };
static float keys[COUNT * HEADS * SIZE], values[COUNT * HEADS * SIZE];
static uint8_t expected[COUNT];
static tkf_context* shared;
static int counts[THREADS][4];

static int decide(tkf_context* context, uint8_t* keep) {
  float anchor_k[HEADS * SIZE] = {0}, anchor_v[HEADS * SIZE] = {0};
  double numbers[TKF_NUM_SLOTS] = {0}, scores[256] = {0}, columns[7 * COUNT];
  int64_t taken = 0;
  tkf_filter_scan_args args = {
      .spec = tkf_filter_defaults(0, HEADS, SIZE),
      .states = {.anchor_k = {anchor_k, sizeof anchor_k}, .anchor_v = {anchor_v, sizeof anchor_v},
                 .numbers = {numbers, sizeof numbers}, .scores = {scores, sizeof scores}},
      .keys = {keys, sizeof keys}, .values = {values, sizeof values},
      .keep = {keep, COUNT}, .columns = {columns, sizeof columns}, .taken = {&taken, sizeof taken},
      .count = COUNT, .kv_dtype = TKF_DTYPE_F32};
  return tkf_filter_scan(context, &args, sizeof args);
}

static void* work(void* own) {
  int* count = own;
  for (int round = 0; round < ROUNDS; round++) {
    uint8_t keep[COUNT];
    int status = decide(shared, keep);
    int is_wrong = status == TKF_STATUS_OK && memcmp(keep, expected, COUNT) != 0;
    count[status == TKF_STATUS_OK ? is_wrong : status == TKF_STATUS_STATE ? 2 : 3]++;
  }
  return NULL;
}

int main(void) {
  alarm(60);
  unsigned state = 1;
  for (int i = 0; i < COUNT * HEADS * SIZE; i++) {
    keys[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1.0f;
    values[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1.0f;
  }
  tkf_context* alone;
  if (tkf_context_create(1, -1, &alone) != 0 || tkf_context_create(4, -1, &shared) != 0) return 1;
  if (decide(alone, expected) != TKF_STATUS_OK) return 1;
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) if (pthread_create(&threads[i], NULL, work, counts[i]) != 0) return 1;
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  int sums[4] = {0};
  for (int i = 0; i < THREADS; i++) for (int k = 0; k < 4; k++) sums[k] += counts[i][k];
  printf("%d %d %d %d", sums[0], sums[1], sums[2], sums[3]);
  return tkf_context_destroy(shared) + tkf_context_destroy(alone);
}
`;

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
      "Cannot use this library: its structs are not those of version 3.0.0\n",
    ]);
  }));

Deno.test("a context that a thread uses is refused to others, and each call that succeeds decides as it would alone", () =>
  withKit(async (folder) => {
    await Deno.writeTextFile(`${folder}/main.c`, SHARED_CONTEXT);
    const { code, stdout } = await run(await compile(folder, `${folder}/main.c`), []);
    const [decided, wrong, refused, other] = stdout.split(" ").map(Number);
    assertEquals([code, wrong, other], [0, 0, 0], stdout);
    assert(decided! > 0 && refused! > 0, stdout);
  }));

Deno.test({
  ...unless(
    lackOfPython(["numpy"]),
    "filter.py decides alike for every float type and memory order, and refuses the rest",
  ),
  fn: () =>
    withKit(async (folder) => {
      await runPython(
        "-c",
        `import sys
sys.path.insert(0, ${JSON.stringify(folder)})
import numpy as np
from filter import Layer, Library, make_spec
library = Library()
draw = np.random.default_rng(0)
keys, values, queries = draw.normal(size=(3, 96, 3, 8)).astype(np.float32)
layer = lambda: Layer(library, make_spec(3, 8, layer=1, skip_ratio=0.5))
keep, columns, out = layer().feed(keys, values, queries)
assert 0 < keep.sum() < len(keep)
wide = [x.astype(np.float64) for x in (keys, values, queries)]
strided = [x.transpose(1, 0, 2).copy().transpose(1, 0, 2) for x in (keys, values, queries)]
assert not strided[0].flags.c_contiguous
for given in (wide, strided):
    assert (layer().decide(*given[:2])[0] == keep).all()
    found = layer().feed(*given)
    assert (found[0] == keep).all() and (found[2] == out).all()
def refused(call, expected):
    try:
        call()
    except ValueError as error:
        assert str(error) == expected, str(error)
    else:
        assert False, "no error for: " + expected
refused(lambda: layer().decide(keys[:, :2], values), 'Cannot use "keys": found shape [96, 2, 8], expected [n, 3, 8]')
refused(lambda: layer().decide(keys, values[:5]), 'Cannot use "values": found shape [5, 3, 8], expected [96, 3, 8]')
refused(lambda: layer().decide(keys.astype(int), values), 'Cannot use "keys": found numbers of type int64, expected floats')
refused(lambda: layer().feed(keys, values, queries[:5]), 'Cannot use "queries": found shape [5, 3, 8], expected [96, n, 8]')
names = "variance, mean, static, key, value, min, max, product, random"
refused(lambda: make_spec(3, 8, fusion="varianec"), f'Cannot use fusion "varianec": expected one of {names}')
try:
    make_spec(3, 8, skipratio=0.5)
except ValueError as error:
    assert str(error).startswith('Cannot use option "skipratio": expected one of layer, heads, '), str(error)
else:
    assert False, "no error for an unknown option"
library.close()
`,
      );
    }),
});

Deno.test({
  ...unless(
    lackOfPython(["numpy", "pip", "setuptools"]),
    "a wheel of the folder is for this platform alone, and decides where nothing else lies",
  ),
  fn: () =>
    withKit(async (folder) => {
      const pip = ["-m", "pip", "--disable-pip-version-check", "--no-input"],
        local = ["--no-deps", "--no-index"];
      await runPython(...pip, "wheel", "--no-build-isolation", ...local, "-w", `${folder}/wheels`, folder);
      const wheels = Array.from(Deno.readDirSync(`${folder}/wheels`), ({ name }) => name);
      const [, version] = header.match(/#define TKF_FILTER_VERSION "(.*?)"/)!;
      assertEquals(wheels.length, 1);
      assertMatch(wheels[0]!, new RegExp(`^tokenfilter-${version}-py3-none-(linux|macosx|win)\\w+\\.whl$`));
      const target = `${folder}/installed`;
      await runPython(...pip, "install", ...local, "--target", target, `${folder}/wheels/${wheels[0]}`);
      await runPython(
        "-c",
        `import sys
sys.path.insert(0, ${JSON.stringify(target)})
import numpy as np
from tokenfilter.filter import Layer, Library, find_library, make_spec
assert find_library().startswith(${JSON.stringify(target)}), find_library()
library = Library()
keys, values = np.random.default_rng(0).normal(size=(2, 96, 3, 8))
keep, _ = Layer(library, make_spec(3, 8, layer=1, skip_ratio=0.5)).decide(keys, values)
assert 0 < keep.sum() < len(keep)
library.close()
`,
      );
    }),
});

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
