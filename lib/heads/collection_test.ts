import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Environment } from "../environment.ts";
import { RULES } from "../methods/list.ts";
import type { TokenFilterOptions } from "../methods/bind/options.ts";
import { TokenFilter } from "../methods/bind/token_filter.ts";
import { loadModel } from "../model/load.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { type HeadReport, headRules } from "./report.ts";
import { auroc, spearman } from "../stats/ranking.ts";
import { f32Data, hostTensor, type Tensor } from "../tensor.ts";
import { RUNS_SLOW } from "../testing.ts";
import { HeadCollection } from "./collection.ts";
import { createProbe, type ProbedRows } from "./probe.ts";
import { readBuiltinText } from "../eval/text/mod.ts";

const backend = new ReferenceBackend();
const { model, tokenizer, config } = await loadModel("tiny", backend);
const CONTEXT = 80, WARMUP = 16;
const ids = Int32Array.from(tokenizer.encode(await readBuiltinText()).slice(0, 2 * CONTEXT));
const options: TokenFilterOptions = {
  tail: 0.2,
  pruneRatio: 0.1,
  warmup: WARMUP,
  block: 8,
  gamma: 0.8,
  seed: 3,
};
const environment = { model: "tiny" } as Environment;

function copy(tensor: Tensor): Tensor {
  return hostTensor("f32", tensor.shape, f32Data(tensor).slice());
}

/** The rows of layer 9 that the probe receives, one entry per chunk. */
function probe(): ProbedRows[] {
  const seen: ProbedRows[] = [];
  const pruner = createProbe(backend, {
    layers: [9],
    turnsOf: (layer) => model.turnsOf(layer),
    wantsQueries: false,
    whole: false,
    onRows: (rows) =>
      seen.push({
        ...rows,
        keys: { "pre-rope": copy(rows.keys["pre-rope"]), "post-rope": copy(rows.keys["post-rope"]) },
        values: copy(rows.values),
        residual: copy(rows.residual),
        normed: copy(rows.normed),
      }),
  });
  for (let at = 0; at < ids.length; at += CONTEXT) model.start(pruner).feed(ids.slice(at, at + CONTEXT));
  return seen;
}

async function collect(filter: TokenFilterOptions): Promise<{ report: HeadReport; heads: HeadCollection }> {
  const heads = new HeadCollection(model, ids, { context: CONTEXT, filter, bootstrap: { resamples: 40 } });
  await heads.run();
  return {
    heads,
    report: await heads.report(environment, { fusion: "mean" }, (own) => tokenizer.texts(own)),
  };
}

const { report, heads } = await collect(options);

Deno.test("HeadCollection scores as TokenFilter does on the same keys and values, in every view", () => {
  const seen = probe();
  for (const [view, { keyState, anchor }] of report.views.entries()) {
    for (const { name: fusion } of RULES.filter(({ name }) => name !== "learned" && name !== "input-norm")) {
      const filter = new TokenFilter(config, { ...options, fusion, keyState, anchor });
      const scores: number[] = [], sums = { muK: 0, varV: 0 };
      let count = 0;
      seen.forEach((rows, chunk) => {
        const { redundancy, muK, varV } = filter.start({ chunk }).scan(9, rows.keys[keyState], rows.values);
        scores.push(...redundancy);
        for (let t = 1; t < CONTEXT; t++, count++) {
          sums.muK += muK[t]!;
          sums.varV += varV[t]!;
        }
      });
      const layer = report.views[view]!.layers.find(({ layer }) => layer === 9)!;
      const { score } = layer.scores.find(({ rule }) => rule === fusion)!;
      const finite = scores.filter((x) => !Number.isNaN(x));
      assertEquals(score.all.count, finite.length);
      assertAlmostEquals(score.all.mean!, finite.reduce((a, b) => a + b) / finite.length, 1e-12, fusion);
      assertEquals([score.all.min, score.all.max], [Math.min(...finite), Math.max(...finite)], fusion);
      assertAlmostEquals(layer.muK.all.mean!, sums.muK / count, 1e-12);
      assertAlmostEquals(layer.varV.all.mean!, sums.varV / count, 1e-12);

      // AUROC and Spearman from their definitions.
      const r = seen.flatMap((rows) => [...rows.outputNorms.map((o, i) => o / rows.residualNorms[i]!)]);
      const decided = r.map((_, t) => t).filter((t) => t % CONTEXT >= WARMUP);
      const cut = Math.floor(0.5 * decided.length + 0.5); // rho = 0.1 * 10 / 2
      const sorted = decided.map((t) => r[t]!).sort((a, b) => a - b);
      const labels = Uint8Array.from(decided, (t) => r[t]! < sorted[cut]! ? 1 : 0);
      const own = Float64Array.from(decided, (t) => scores[t]!),
        target = Float64Array.from(decided, (t) => -r[t]!);
      const rated = layer.rules.find(({ rule }) => rule === fusion)!;
      assertAlmostEquals(rated.auroc!, auroc(own, labels), 1e-12, fusion);
      assertAlmostEquals(rated.spearman!, spearman(own, target), 1e-12, fusion);
    }
  }
});

Deno.test("HeadCollection fits learned on what learned would keep, with the dense stream's outcomes", async () => {
  const filter = new TokenFilter(config, { ...options, fusion: "learned" });
  const learned = await collect({ ...options, fusion: "learned" });
  const table = learned.heads.decisions();
  const scores: number[] = [], keep: number[] = [];
  for (const [chunk, rows] of probe().entries()) {
    const sequence = filter.start({ chunk });
    for (let start = 0; start < rows.count;) {
      const extra = { residual: rows.residual, normed: rows.normed };
      const decided = sequence.scan(9, rows.keys["post-rope"], rows.values, extra, start);
      scores.push(...decided.redundancy);
      keep.push(...decided.keep);
      const kept = [...decided.keep.keys()].filter((i) => decided.keep[i]).map((i) => start + i);
      const pick = (norms: Float64Array) => Float64Array.from(kept, (t) => norms[t]!);
      sequence.observe(9, pick(rows.outputNorms), pick(rows.residualNorms));
      start += decided.taken;
    }
  }
  const last = (column: ArrayLike<number>) => Array.from(column).slice(-2 * CONTEXT);
  assertEquals([last(table.score), last(table.keep)], [scores, keep]);
  assert(keep.includes(0));
  // The rule next to others is the same, whichever method is shown.
  const scoreOf = ({ views }: HeadReport) =>
    views[0]!.layers[1]!.scores[headRules().indexOf("learned")]!.score.all;
  assertEquals(scoreOf(learned.report), scoreOf(report));
  assertEquals(scoreOf(report).count, 2 * (CONTEXT - WARMUP));
});

Deno.test("HeadReport holds together: bands, heads, signs, sample and excerpt", () => {
  assertEquals(report.bands, [{ from: 0, to: 16 }, { from: 16, to: 32 }, { from: 32, to: 64 }, {
    from: 64,
    to: 80,
  }]);
  assertEquals(report.layers.map(({ layer, skipRatio }) => [layer, skipRatio]), [[8, 0.5], [9, 0.5]]);
  for (const { layers } of report.views) {
    for (const { heads: own, muK, rules, scores } of layers) {
      assertEquals(own.map(({ head }) => head), [0, 1, 2]);
      assertAlmostEquals(own.reduce((sum, { sK }) => sum + sK.mean!, 0) / 3, muK.all.mean!, 1e-12);
      assertEquals([muK.all.count, ...muK.bands.map(({ count }) => count)], [158, 30, 32, 64, 32]);
      for (const [band, { count, mean }] of muK.bands.entries()) {
        assertEquals(own.map(({ sKBands, sVBands }) => [sKBands[band]!.count, sVBands[band]!.count]), [
          [count, count],
          [count, count],
          [count, count],
        ]);
        assertAlmostEquals(own.reduce((sum, { sKBands }) => sum + sKBands[band]!.mean!, 0) / 3, mean!, 1e-12);
      }
      const [variance, inverted] = [rules[0]!, rules.at(-1)!];
      assertEquals([variance.rule, inverted.rule], ["variance", "variance inverted"]);
      assertAlmostEquals(variance.auroc! + inverted.auroc!, 1, 1e-12);
      assertAlmostEquals(scores[0]!.score.all.mean!, -scores.at(-1)!.score.all.mean!, 1e-12);
    }
  }
  for (const { rules, comparisons } of [...report.layers, report.overall]) {
    for (const { auroc, aurocInterval, roc } of rules) {
      assertEquals(aurocInterval!.estimate, auroc);
      assert(aurocInterval!.low <= auroc! && auroc! <= aurocInterval!.high);
      assert(roc.length === 0 || (roc.length === 33 && roc[32] === 1));
    }
    const of = (name: string) => rules.find(({ rule }) => rule === name)!.auroc!;
    for (const { rule, against, auroc } of comparisons) {
      assertAlmostEquals(auroc!.estimate, of(rule) - of(against), 1e-12);
    }
    assertEquals(comparisons.length, headRules().length - 1 + 4);
  }
  const means = report.layers.map(({ rules }) => rules[0]!.auroc!);
  assertAlmostEquals(report.overall.rules[0]!.auroc!, (means[0]! + means[1]!) / 2, 1e-12);

  const { sample, excerpt } = report;
  assertEquals(new Set(Object.values(sample).map((column) => column.length)).size, 1);
  assert(!sample.position.includes(0) && !sample.S.includes(null));
  assertEquals(excerpt.texts.length * 2, excerpt.columns.token.length);
  assertEquals(excerpt.columns.token[0], excerpt.firstToken);
  JSON.stringify(report, (_, value) => {
    assert(typeof value !== "number" || Number.isFinite(value));
    return value;
  });
  assertEquals(heads.decisions().rows, 2 * 2 * CONTEXT);
});

Deno.test("createProbe() goes on where a sequence was cut", () => {
  const [whole] = probe(), pieces: ProbedRows[] = [];
  const pruner = createProbe(backend, {
    layers: [9],
    turnsOf: (layer) => model.turnsOf(layer),
    wantsQueries: true,
    whole: false,
    onRows: (rows) =>
      pieces.push({ ...rows, keys: { ...rows.keys, "post-rope": copy(rows.keys["post-rope"]) } }),
  });
  const sequence = model.start(pruner);
  sequence.feed(ids.slice(0, 30));
  sequence.feed(ids.slice(30, CONTEXT));
  assertEquals(pieces.map(({ start, count }) => [start, count]), [[0, 30], [30, 50]]);
  assert(pieces.every(({ queries, count }) => queries?.shape[0] === count));
  const keys = pieces.flatMap((rows) => [...f32Data(rows.keys["post-rope"])]);
  f32Data(whole!.keys["post-rope"]).forEach((x, i) => assertAlmostEquals(keys[i]!, x, 1e-4));
  const norms = pieces.flatMap(({ outputNorms }) => [...outputNorms]);
  whole!.outputNorms.forEach((norm, t) => assertAlmostEquals(norms[t]!, norm, 1e-4));
  assertThrows(() => pruner.start().fork(), RangeError, "Cannot branch");
});

Deno.test("HeadCollection refuses what it cannot measure, and stops when told to", async () => {
  const make = (filter: TokenFilterOptions, context = CONTEXT) =>
    new HeadCollection(model, ids, { context, filter });
  assertThrows(() => make({ absorb: "kept" }), RangeError, '"absorb": found "kept"');
  assertThrows(() => make({ warmup: 7 }), RangeError, '"warmup": found 7');
  assertThrows(() => make(options, WARMUP + 7), RangeError, "expected at least 24");
  assertThrows(() => make({ skipRatios: Array(10).fill(0) }), RangeError, "expected a layer to measure");
  assertThrows(() => make(options, 1000), RangeError, "a text of 160 tokens");
  const own = make(options);
  assertThrows(() => own.decisions(), RangeError, "expected run() first");
  const stop = new AbortController();
  await assertRejects(() => own.run({ signal: stop.signal, onProgress: () => stop.abort() }), DOMException);
  await assertRejects(() => own.report(environment, {}, () => []), RangeError, "expected run() first");
});

Deno.test("HeadCollection keeps chunks as they end, and goes on to the result of an uninterrupted run", async () => {
  for (const fusion of RUNS_SLOW ? (["variance", "learned"] as const) : (["learned"] as const)) {
    const filter = { ...options, fusion };
    const whole = await collect(filter);
    const make = () =>
      new HeadCollection(model, ids, { context: CONTEXT, filter, bootstrap: { resamples: 40 } });
    const kept = new Map<number, Uint8Array<ArrayBuffer>>(), stop = new AbortController();
    const store = {
      read: (chunk: number) => kept.get(chunk),
      write: (chunk: number, bytes: Uint8Array<ArrayBuffer>) => void kept.set(chunk, bytes),
    };
    const stopped = make();
    assertEquals(stopped.resume(store), 0);
    const onProgress = () => stop.abort();
    await assertRejects(() => stopped.run({ signal: stop.signal, onProgress }), DOMException);
    assertEquals([...kept.keys()], [0]);
    const first = kept.get(0);
    const resumed = make(), seen: [number, string][] = [];
    assertEquals(resumed.resume(store), 1);
    await resumed.run({ onProgress: (...progress) => seen.push(progress) });
    assertEquals([seen, kept.get(0) === first, kept.size], [[[1, "2/2 chunks"]], true, 2]);
    assertEquals(resumed.decisions(), whole.heads.decisions());
    assertEquals(
      await resumed.report(environment, { fusion: "mean" }, (own) => tokenizer.texts(own)),
      whole.report,
    );
    kept.set(1, first!.slice(8));
    assertThrows(() => make().resume(store), RangeError, "Cannot go on with chunk 1: found ");
  }
});
