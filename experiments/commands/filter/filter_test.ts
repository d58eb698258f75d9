import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { toBf16, toF16 } from "../../../lib/math/half.ts";
import { writeSafetensors } from "../../../lib/model/mod.ts";
import { hostTensor } from "../../../lib/tensor.ts";
import { command } from "../filter.ts";
import { runTask, withFolder } from "../testing.ts";

const T = 120, H = 2, D = 8;
/** A slowly turning direction a head, with noise: scores vary and drift. */
function makeRows(phase: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: T * H * D }, (_, i) => {
    const t = Math.floor(i / (H * D)), j = i % (H * D);
    return Math.cos(j + phase + t / 40) + 0.8 * Math.sin(i * i * 0.37 + phase);
  });
}

function writeDump(folder: string, dtype: "f32" | "f16" | "bf16"): string {
  const convert = dtype === "f16" ? toF16 : toBf16;
  const data = (phase: number) =>
    dtype === "f32" ? makeRows(phase) : Uint16Array.from(makeRows(phase), convert);
  const path = `${folder}/${dtype}.safetensors`;
  const tensors = ["keys", "values"].map((name, i) => [name, hostTensor(dtype, [T, H, D], data(i))] as const);
  Deno.writeFileSync(path, writeSafetensors(new Map(tensors)));
  return path;
}

type Rows = Record<string, (number | null)[]>;

async function filter(...args: string[]): Promise<Rows> {
  const { code, stdout, stderr } = await runTask("filter", ...args, "--json", "--quiet");
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout);
}

Deno.test("filter --json has one entry a token and null where nothing is defined", () =>
  withFolder(async (folder) => {
    const rows = await filter("--kv", writeDump(folder, "f32"), "--skip-ratio", "0.4", "--warmup", "16");
    assertEquals(Object.keys(rows), ["redundancy", "threshold", "keep", "muK", "varK", "muV", "varV", "wK"]);
    for (const column of Object.values(rows)) assertEquals(column.length, T);
    for (const name of ["redundancy", "muK", "varK", "muV", "varV"]) {
      assertEquals(rows[name]!.map((x) => x === null), Array.from({ length: T }, (_, t) => t === 0), name);
    }
    assertEquals(rows.keep!.slice(0, 16), Array(16).fill(1));
    const skipped = rows.keep!.filter((keep) => keep === 0).length;
    assert(Math.abs(skipped - 0.4 * (T - 16)) <= 8, `${skipped}`);
    rows.keep!.forEach((keep, t) => {
      if (t < 16 || rows.threshold![t] === null) return;
      assertEquals(keep, rows.redundancy![t]! > rows.threshold![t]! ? 0 : 1, `token ${t}`);
    });
  }));

Deno.test("filter --side key says whose key and value go, and when", () =>
  withFolder(async (folder) => {
    const path = writeDump(folder, "f32"), sizes = ["--warmup", "16", "--recent", "5", "--block", "8"];
    const rows = await filter(
      "--kv",
      path,
      "--side",
      "key",
      "--skip-ratio",
      "0.4",
      "--method",
      "mean",
      ...sizes,
    );
    assertEquals(Object.keys(rows), [
      ...["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK", "kvKeep", "decidedAt"],
    ]);
    const queries = await filter("--kv", path, "--skip-ratio", "0.4", "--method", "mean", ...sizes);
    const starts = Array.from({ length: T }, (_, t) => t).map((t) =>
      [16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112].find((start) => t < start - 5) ?? null
    );
    assertEquals(rows.decidedAt, starts);
    assertEquals(rows.kvKeep, queries.keep!.map((keep, t) => starts[t] === null ? 1 : keep));
    assertEquals(rows.threshold, queries.threshold!.map((theta, t) => starts[t] === null ? null : theta));
    assertEquals([rows.redundancy, rows.wK], [queries.redundancy, queries.wK]);
    const { stdout } = await runTask("filter", "--kv", path, "--side", "key", "--kv-ratio", "0.25", ...sizes);
    const [, dropped, decided] = stdout.match(
      /^Evicted keys and values of (\d+) of (\d+) decided tokens.*for 0\.25$/m,
    )!;
    assertEquals([Number(decided), Math.round(Number(dropped) / 91 * 4)], [91, 1]); // 16 to 106
    assertMatch(stdout, /^skipped: tokens whose key and value are evicted$/m);
  }));

Deno.test("filter --decisions: rows of the file are those reported, of each layer and KV head", () =>
  withFolder(async (folder) => {
    const path = `${folder}/two.safetensors`, shape = [T, H, D];
    const tensors = [3, 7].flatMap((layer) =>
      ["keys", "values"].map((name, i) =>
        [`${name}.${layer}`, hostTensor("f32", shape, makeRows(layer + i))] as const
      )
    );
    Deno.writeFileSync(path, writeSafetensors(new Map(tensors)));
    const sizes = ["--warmup", "16", "--recent", "5", "--block", "8", "--method", "mean"];
    for (const side of ["query", "key"]) {
      const file = `${folder}/rows.json`;
      const own = await filter("--kv", path, "--side", side, ...sizes, "--decisions", file);
      const { columns, numKvHeads, cacheDType } = JSON.parse(Deno.readTextFileSync(file));
      assertEquals([numKvHeads, cacheDType, columns.layer.length], [H, "f32", 2 * H * T]);
      const layers = own.layers as unknown as (Rows & { readonly layer: number })[];
      const expected = layers.flatMap((rows) => [rows, rows]); // a layer's heads decide as one
      const columnOf = (name: string) => expected.flatMap((rows) => rows[name]!);
      assertEquals(columns.layer, expected.flatMap(({ layer }) => Array(T).fill(layer)));
      if (side === "query") {
        assertEquals(columns.skipped, columnOf("keep").map((keep) => keep === 0));
        continue;
      }
      const gone = columnOf("kvKeep").map((keep) => keep === 0), at = columnOf("decidedAt");
      assertEquals(columns.evictedAt, gone.map((is, i) => is ? at[i] : null));
      assertEquals(columns.decidedAt, at.map((start, i) => i % T < 16 ? null : start));
      // The bytes of what is left, from the file alone, are those of what the command reports.
      const left = columns.evictedAt.filter((end: number | null) => end === null).length * 2 * D * 4;
      const { stdout } = await runTask("filter", "--kv", path, "--side", side, ...sizes, "--quiet");
      const [, evicted] = stdout.match(/^Evicted keys and values of (\d+) of/m)!;
      assertEquals(left, (2 * T - Number(evicted)) * H * 2 * D * 4);
    }
  }));

Deno.test("filter refuses a side that a dump does not tell, or both at once", () =>
  withFolder(async (folder) => {
    const path = writeDump(folder, "f32");
    const refuse = (message: string, ...args: string[]) =>
      assertRejects(() => command.main(["--kv", path, "--quiet", ...args]), UsageError, message);
    await refuse('Cannot use --side "both": expected one of query, key', "--side", "both");
    await refuse("expected one of variance, mean, static,", "--method", "keydif");
    await refuse(", keydiff, cur, knorm", "--side", "key", "--method", "keydif");
    await refuse('--method: found "keydiff", expected one that skips queries', "--method", "keydiff");
    const asKeys = ["--kv", path, "--side", "key"];
    assertEquals(
      await filter(...asKeys, "--method", "keydiff"),
      await filter(...asKeys, "--kv-method", "keydiff"),
    );
    await refuse("Cannot decide both sides of a dump: expected --side key, or no", "--kv-method", "key");
    await refuse("Cannot run --kv-method received on a dump", "--side", "key", "--kv-method", "received");
  }));

/** Keys and values as in other dumps, and four query heads, with their weights where these are given. */
function writeQueries(
  folder: string,
  weights?: readonly number[],
): { readonly path: string; readonly rows: Float32Array[] } {
  const rows = [
    makeRows(0),
    makeRows(1),
    Float32Array.from({ length: T * 4 * D }, (_, i) => Math.sin(i * i)),
  ];
  const tensors = ["keys", "values", "queries"].map((name, i) =>
    [name, hostTensor("f32", [T, i === 2 ? 4 : H, D], rows[i]!)] as const
  );
  const own = weights &&
    ["headWeights", hostTensor("f32", [weights.length], Float32Array.from(weights))] as const;
  const path = `${folder}/queries.safetensors`;
  Deno.writeFileSync(path, writeSafetensors(new Map([...tensors, ...own ? [own] : []])));
  return { path, rows };
}

const BLOCKS = ["--warmup", "16", "--recent", "5", "--block", "8", "--threshold", "fixed"];

/**
 * Rules of signals by their definition: block by block, with every query over the keys that are left.
 *
 * @param nearest How far behind a token its first query stands.
 * @param give What a query of a head gives to each key t, by its weights and its output.
 * @param score By the mean over queries of the sum over heads.
 */
function decideByDefinition(
  [k, v, q]: readonly Float32Array[],
  { theta, nearest, give, score: scoreOf }: {
    readonly theta: number;
    readonly nearest: number;
    readonly give: (head: number, weight: number, apart: number) => number;
    readonly score: (mean: number) => number;
  },
) {
  const starts = [0, ...Array.from({ length: 13 }, (_, i) => 16 + 8 * i)], given: number[][] = [];
  const ends = Array<number>(T).fill(Infinity), score = Array<number | null>(T).fill(null);
  for (let p = 0; p < T; p++) {
    if (starts.includes(p)) {
      const due = score.findIndex((one) => one === null);
      for (let t = due; t < p - 5; t++) {
        score[t] = scoreOf(given[t]!.reduce((a, b) => a + b, 0) / given[t]!.length);
        if (t >= 16 && score[t]! > theta) ends[t] = p;
      }
    }
    given.push([]);
    const sums = Array<number>(p + 1).fill(0);
    for (let head = 0; head < 4; head++) {
      const at = (t: number, c: number) => (t * H + Math.floor(head / 2)) * D + c;
      const exps = sums.map((_, t) => {
        if (ends[t]! <= p) return 0;
        let dot = 0;
        for (let c = 0; c < D; c++) dot += q![(p * 4 + head) * D + c]! * k![at(t, c)]!;
        return Math.exp(dot / Math.sqrt(D));
      });
      const total = exps.reduce((a, b) => a + b, 0), weights = exps.map((x) => x / total);
      const out = Array.from(
        { length: D },
        (_, c) => weights.reduce((sum, w, t) => sum + w * v![at(t, c)]!, 0),
      );
      weights.forEach((weight, t) => {
        const apart = out.reduce((sum, o, c) => sum + (v![at(t, c)]! - o) ** 2, 0);
        sums[t]! += give(head, weight, apart);
      });
    }
    for (let t = 0; t <= p - nearest; t++) given[t]!.push(sums[t]!);
  }
  return { ends, score };
}

Deno.test("filter --side key decides by the attention received, or by changes, where a dump has queries", () =>
  withFolder(async (folder) => {
    const weights = [1, 0.5, 2, 0.25], { path, rows } = writeQueries(folder, weights);
    const received = decideByDefinition(rows, {
      theta: -0.012,
      nearest: 1,
      give: (_, weight) => weight / 4,
      score: (mean) => -mean,
    });
    // Those of at least 5 / 2 tokens behind.
    const without = decideByDefinition(rows, {
      theta: -0.065,
      nearest: 3,
      give: (head, weight, apart) => weights[head]! * apart * (weight / Math.max(1 - weight, 0.02)) ** 2,
      score: (mean) => -Math.sqrt(mean),
    });
    const rules = [
      [received, ["--side", "key", "--kv-method", "received", "--theta", "-0.012"]],
      [without, ["--preset", "retrieval", "--theta", "-0.065"]],
    ] as const;
    for (const [{ ends, score }, flags] of rules) {
      for (const backend of ["reference", "cpu"]) {
        const found = await filter("--kv", path, ...BLOCKS, ...flags, "--backend", backend);
        assertEquals(found.kvKeep, ends.map((end) => end < T ? 0 : 1), `${flags} on ${backend}`);
        found.redundancy!.forEach((x, t) => {
          assert(x === null ? score[t] === null : Math.abs(x - score[t]!) < 1e-5, `token ${t} on ${backend}`);
        });
        assertEquals(found.decidedAt!.map((at, t) => found.kvKeep![t] === 0 ? at : Infinity), ends);
      }
      const theta = Number(flags.at(-1));
      const [evicted, stay] = [
        ends.filter((end) => end < T),
        score.slice(16).filter((x) => x !== null && x < theta),
      ];
      assert(evicted.length > 20 && stay.length > 20, `${flags}: ${evicted.length} and ${stay.length}`);
    }
  }));

Deno.test("filter --side key evicts by ranks: scores, ends, budgets, KV heads apart, and the file of decisions", () =>
  withFolder(async (folder) => {
    const { path } = writeQueries(folder), sizes = ["--warmup", "16", "--recent", "5", "--block", "8"];
    // Block starts up to 112; before the last one 91 tokens beyond the warm-up are ranked, and half of them go.
    const budget = (at: number) => Math.floor((at - 5 - 16) / 2 + 0.5);
    for (const method of ["streaming", "snapkv", "adakv"]) {
      const file = `${folder}/${method}.json`, out = `${folder}/${method}`;
      const flags = ["--kv", path, "--side", "key", "--method", method, "--skip-ratio", "0.5", ...sizes];
      const rows = await filter(...flags, "--decisions", file, "--out", out);
      assertEquals(Object.keys(rows), ["score", "kvKeep", "decidedAt", "evictedAt"]);
      const { columns } = JSON.parse(Deno.readTextFileSync(file)), units = method === "adakv" ? H : 1;
      const heads = [0, 1].map((head) =>
        columns.evictedAt.slice(head * T, (head + 1) * T) as (number | null)[]
      );
      if (units === 1) assertEquals(heads, [rows.evictedAt, rows.evictedAt]);
      else assert(heads[0]!.join() !== heads[1]!.join());
      for (let at = 32; at <= 112; at += 8) {
        const gone = heads.slice(0, units).flat().filter((end) => end !== null && end <= at).length;
        assertEquals(gone, units * budget(at), `${method} at ${at}`);
      }
      assertEquals(
        rows.kvKeep,
        heads[0]!.map((_, t) => heads.filter((ends) => ends[t] === null).length / heads.length),
      );
      assertEquals(rows.decidedAt!.map((at) => at === null), heads[0]!.map((_, t) => t < 16 || t >= 107));
      const page = Deno.readTextFileSync(`${out}/filter.html`);
      assertStringIncludes(page, "Last score of each token");
      const { stdout } = await runTask("filter", ...flags, "--quiet");
      assertStringIncludes(
        stdout,
        "Evicted keys and values of 46 of 91 decided tokens after the warm-up; asked for 0.5",
      );
      if (method !== "streaming") continue;
      assertEquals(
        rows.evictedAt!.map((end) => end !== null),
        heads[0]!.map((_, t) => t >= 16 && t < 16 + 46),
      );
      assertEquals(rows.score!.slice(16, 107), Array.from({ length: 91 }, (_, i) => 16 + i));
    }
    const none = await filter("--kv", path, "--side", "key", "--method", "h2o", "--skip-ratio", "0");
    assertEquals([none.kvKeep, none.evictedAt], [Array(T).fill(1), Array(T).fill(null)]);
  }));

Deno.test("filter says what a rule lacks in a dump, and what is wrong with its queries", () =>
  withFolder(async (folder) => {
    const refuse = (message: string, path: string, fusion: string) =>
      assertRejects(
        () => command.main(["--kv", path, "--quiet", "--side", "key", "--kv-method", fusion]),
        UsageError,
        message,
      );
    await refuse("received on a dump: it needs queries too", writeDump(folder, "f32"), "received");
    const { path, rows } = writeQueries(folder);
    await refuse("leave-one-out on a dump: it needs head weights too", path, "leave-one-out");
    await refuse("snapkv on a dump: it needs queries too", writeDump(folder, "f32"), "snapkv");
    for (const method of ["duo-attention", "leverage"]) {
      await refuse(`${method} on a dump: it needs more than keys, values and queries`, path, method);
    }
    await refuse(
      "leave-one-out on a dump: it needs queries and head weights",
      writeDump(folder, "f32"),
      "leave-one-out",
    );
    await refuse(
      "found headWeights f32 [3] next to 4 query heads, expected f32 [4]",
      writeQueries(folder, [1, 1, 1]).path,
      "leave-one-out",
    );
    const [keys, values] = rows.map((data) => hostTensor("f32", [T, H, D], data.slice(0, T * H * D)));
    const queries = hostTensor("f32", [T, 3, D], new Float32Array(T * 3 * D));
    const wrong = `${folder}/wrong.safetensors`;
    Deno.writeFileSync(wrong, writeSafetensors(new Map(Object.entries({ keys, values, queries }) as never)));
    await refuse(
      `found queries of shape [120,3,8] next to keys of [120,2,8], expected [120, a multiple of 2, 8]`,
      wrong,
      "missed",
    );
  }));

Deno.test("filter records a rule's constant weight for every token, the first one too", () =>
  withFolder(async (folder) => {
    const path = writeDump(folder, "f32");
    const weights = { static: 0.3, value: 0, random: null };
    for (const [fusion, weight] of Object.entries(weights)) {
      for (const backend of ["cpu", "reference"]) {
        const flags = ["--kv", path, "--method", fusion, "--alpha", "0.3", "--backend", backend];
        assertEquals((await filter(...flags)).wK, Array(T).fill(weight), `${fusion} on ${backend}`);
      }
    }
    const { wK } = await filter("--kv", path, "--method", "variance");
    assertEquals(wK!.map((x) => x === null), Array.from({ length: T }, (_, t) => t === 0));
  }));

Deno.test("filter decides alike on both backends, for every kind of number and policy", () =>
  withFolder(async (folder) => {
    for (
      const [dtype, flags] of [
        ["f32", ["--method", "variance", "--tau", "4"]],
        ["f16", ["--method", "static", "--alpha", "0.2", "--threshold", "window"]],
        ["bf16", ["--method", "product", "--threshold", "robbins-monro", "--anchor", "mean"]],
        ["f32", ["--method", "random", "--layer", "7", "--seed", "3", "--threshold", "topk"]],
        ["f32", [
          "--method",
          "min",
          "--threshold",
          "fixed",
          "--theta",
          "-0.9",
          "--absorb",
          "kept",
          "--invert",
        ]],
      ] as const
    ) {
      const path = writeDump(folder, dtype);
      const native = await filter("--kv", path, ...flags, "--backend", "cpu");
      const plain = await filter("--kv", path, ...flags, "--backend", "reference");
      assertEquals(native.keep, plain.keep, flags.join(" "));
      assert(plain.keep!.includes(0), flags.join(" "));
      for (const name of Object.keys(plain)) {
        native[name]!.forEach((x, t) => {
          const y = plain[name]![t]!;
          assert(
            x === y || (x !== null && y !== null && Math.abs(x! - y) < 2e-5 * 4),
            `${name} of token ${t}: ${x} and ${y}`,
          );
        });
      }
    }
  }));

Deno.test("filter --skip-ratio 0 keeps all, and --prune-ratio stands in for it", () =>
  withFolder(async (folder) => {
    const path = writeDump(folder, "f32");
    assertEquals((await filter("--kv", path, "--skip-ratio", "0")).keep, Array(T).fill(1));
    assertEquals(
      await filter("--kv", path, "--prune-ratio", "0.3"),
      await filter("--kv", path, "--skip-ratio", "0.3"),
    );
    const other = await filter("--kv", path, "--method", "random", "--layer", "1");
    assert(String(other.keep) !== String((await filter("--kv", path, "--method", "random")).keep));
  }));

/** A dump of several layers: layer N turns at its own phase. */
function writeLayers(folder: string, layers: readonly number[], more: readonly string[] = []): string {
  const names = [...layers.flatMap((layer) => [`keys.${layer}`, `values.${layer}`]), ...more];
  const tensor = (name: string) =>
    hostTensor("f32", [T, H, D], makeRows(name.startsWith("keys") ? Number(name.slice(5)) : 1));
  const path = `${folder}/layers.safetensors`;
  Deno.writeFileSync(path, writeSafetensors(new Map(names.map((name) => [name, tensor(name)]))));
  return path;
}

Deno.test("filter takes all layers of a dump at once, or one of them, and makes a page", () =>
  withFolder(async (folder) => {
    const path = writeLayers(folder, [12, 3]), flags = ["--kv", path, "--method", "random", "--warmup", "16"];
    const run = async (...args: string[]) => await runTask("filter", ...flags, ...args, "--quiet");
    const { code, stdout, stderr } = await run("--out", `${folder}/out`, "--skip-ratio", "0.25");
    assertEquals(code, 0, stderr);
    const { layers } = JSON.parse(Deno.readTextFileSync(`${folder}/out/filter.json`)) as {
      layers: (Rows & { layer: number })[];
    };
    assertEquals(layers.map(({ layer }) => layer), [3, 12]);
    const lines = stdout.split("\n");
    assertEquals(lines[0]!.trim().split(/ {2,}/), [
      "layer",
      "tokens",
      "decided",
      "skipped",
      "share",
      "mean score",
      "mean threshold",
    ]);
    const skips = layers.map(({ keep }) => keep!.filter((kept) => kept === 0).length);
    assert(String(layers[0]!.keep) !== String(layers[1]!.keep));
    for (const [i, { layer, redundancy, threshold }] of layers.entries()) {
      const mean = (values: (number | null)[]) => {
        const known = values.slice(16).filter((x) => x !== null) as number[];
        return (known.reduce((a, b) => a + b) / known.length).toFixed(4);
      };
      assertEquals(lines[2 + i]!.trim().split(/ +/), [
        ...[String(layer), "120", "104", String(skips[i]), (skips[i]! / 104).toFixed(4)],
        ...[mean(redundancy!), mean(threshold!)],
      ]);
    }
    assertStringIncludes(
      stdout,
      `\nSkipped ${skips[0]! + skips[1]!} of 208 tokens after the warm-up; asked for 0.25\n`,
    );
    assertStringIncludes(stdout, "mean threshold: score above which a token is skipped");
    assertStringIncludes(stdout, `\nReport: ${folder}/out/filter.html\n`);
    const page = Deno.readTextFileSync(`${folder}/out/filter.html`);
    assertStringIncludes(page, "Token Filtering of layers.safetensors: random");
    assertEquals(
      JSON.parse(page.match(/id="figures">(.*?)<\/script>/s)![1]!)[0].layout.sliders[0].steps.length,
      2,
    );
    const one = JSON.parse((await run("--layer", "12", "--json", "--skip-ratio", "0.25")).stdout);
    assertEquals(one, { layers: [layers[1]] });
    const missing = await run("--layer", "4");
    assertEquals([missing.code, missing.stderr], [
      2,
      `Cannot use --layer 4: found layers 3, 12 in "${path}", expected one of them\n`,
    ]);
    writeLayers(folder, [3], ["keys.5"]);
    assertStringIncludes((await run()).stderr, 'found no tensor "values.5"');
  }));

Deno.test("filter refuses flags that contradict each other, or that mean nothing for keys and values alone", () =>
  withFolder(async (folder) => {
    const path = writeDump(folder, "f32");
    const cases = [
      [["--skip-ratio", "0.3", "--prune-ratio", "0.3"], "Cannot use --skip-ratio with --prune-ratio"],
      ...["tail", "schedule", "slope", "skip-ratios", "key-state", "cache-skipped", "kv-tail", "context"].map(
        (
          name,
        ) => [[`--${name}`, "1"], `Cannot use flag "--${name}": "filter" has no such flag`] as const,
      ),
    ] as const;
    for (const [args, expected] of cases) {
      await assertRejects(() => command.main(["--kv", path, ...args]), UsageError, expected);
    }
  }));

Deno.test("filter --all prints every token, and explains its columns", () =>
  withFolder(async (folder) => {
    const args = [
      "--kv",
      writeDump(folder, "f32"),
      "--tokens",
      "50",
      "--out",
      `${folder}/out`,
      "--quiet",
      "--all",
    ];
    const { code, stdout } = await runTask("filter", ...args);
    assertEquals([code, stdout.includes("Every token: --all.")], [0, false]);
    const lines = stdout.split("\n");
    assertEquals(lines[0]!.trim().split(/ +/).slice(0, 5), [
      "layer",
      "token",
      "redundancy",
      "threshold",
      "keep",
    ]);
    assertEquals(lines[2]!.trim().split(/ +/).slice(0, 5), ["0", "0", "-", "-", "1"]);
    assertEquals(lines.findIndex((line) => line === ""), 52);
    assertStringIncludes(stdout, "redundancy: score S of the rule, high = like the past");
    assertStringIncludes(stdout, "of 18 tokens after the warm-up");
    assertEquals(JSON.parse(Deno.readTextFileSync(`${folder}/out/filter.json`)).keep.length, 50);
  }));

Deno.test("filter refuses a dump of which nothing would be decided, and names the layout of transformers", () =>
  withFolder(async (folder) => {
    const path = `${folder}/kv.safetensors`,
      tensor = () => hostTensor("f32", [3, 200, 8], new Float32Array(4800));
    Deno.writeFileSync(path, writeSafetensors(new Map([["keys", tensor()], ["values", tensor()]])));
    const { code, stdout, stderr } = await runTask("filter", "--kv", path, "--quiet");
    assertEquals([code, stdout], [2, ""]);
    assertStringIncludes(
      stderr,
      "found 3 tokens and a warm-up of 32, expected more tokens (or is it [heads, tokens,",
    );
  }));
