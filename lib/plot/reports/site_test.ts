import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { LengthRow } from "../../eval/lengths.ts";
import { renderSite, type SiteEntry } from "./site.ts";
import type { ComparedMethod } from "../../sweep/compare/comparison.ts";
import { recordOptions, resolveOptions } from "../../methods/bind/options.ts";
import { makeHeadReport, makeSummary, makeTrial } from "../testing.ts";

const data = makeSummary([makeTrial({ fusion: "learned" }, 0.5, 50), makeTrial({ fusion: "key" }, 0.5, 60)]);
const makeLength = (name: string, tokens: number): LengthRow => ({
  name,
  tokens,
  prefillMs: 2,
  decodeMs: 1,
  kvBytesHeld: 1,
  kvBytesDense: 2,
  kvBytesAllocated: 1,
});
const sweep = (name: string): SiteEntry => ({ kind: "sweep", name, data });
const bench: SiteEntry = {
  kind: "bench",
  name: "a b/<c>",
  data: {
    kernels: [],
    lengths: [128, 256].flatMap((tokens) => [makeLength("dense", tokens), makeLength("key", tokens)]),
    peak: { flopsPerSecond: 1, bytesPerSecond: 1 },
    environment: { ...data.environment },
  },
};

Deno.test("renderSite() has an index and a page a result, with links that lead to files of the site", () => {
  const site = renderSite([sweep("one"), sweep("One"), sweep("../../.."), bench]);
  assertEquals([...site.keys()], [
    "index.html",
    "one_sweep.html",
    "One_sweep_2.html",
    "results_sweep.html",
    "a-b-c-_bench.html",
  ]);
  for (const [file, html] of site) {
    const targets = [...html.matchAll(/href="([^"]*)"/g)].map(([, target]) => target!);
    assert(targets.every((target) => site.has(target)), `${file}: ${targets}`);
    const nav = html.match(/<nav>(.*?)<\/nav>/s)![1]!;
    assertEquals([nav.match(/<a /g)!.length, nav.match(/aria-current/g)!.length], [4, 1], file);
    assert(!html.includes("<c>"));
    assertEquals(
      [...html.matchAll(/src="([^"]*)"/g)].map(([, src]) => src),
      file === "index.html" ? [] : ["plotly.min.js"],
    );
  }
  const index = site.get("index.html")!;
  assertStringIncludes(index, "2 trials, 1 on the Pareto front; dense perplexity 40.00.");
  assertStringIncludes(index, "Speed: a b/&lt;c&gt;");
  assertStringIncludes(index, "0 kernel measurements; 2 lengths of 2 methods.");
  const speed = site.get("a-b-c-_bench.html")!;
  assertEquals([speed.includes("<h2>All kernels</h2>"), speed.includes("<h2>All lengths</h2>")], [
    false,
    true,
  ]);
  assertThrows(() => renderSite([]), RangeError, "no result");
  const broken = { kind: "sweep", name: "old", data: { ...data, trials: [{}] } } as unknown as SiteEntry;
  assertThrows(() => renderSite([broken]), RangeError, 'Cannot make a page of sweep "old": ');
  const foreign = { kind: "heads", name: "x", data: { environment: {} } } as unknown as SiteEntry;
  assertThrows(() => renderSite([bench, foreign]), RangeError, 'Cannot make a page of heads "x": ');
});

Deno.test("renderSite() names the best method on the index, not a control that beat it", () => {
  const point = (estimate: number) => ({ estimate, low: estimate, high: estimate });
  const row = (name: string, closed: number | null, options: object | null = null) => ({
    name,
    options: options && recordOptions(resolveOptions(options)),
    labels: null,
    seeds: 1,
    achievedRatio: 0.5,
    kvAchievedRatio: null,
    retained: { queries: 0.5, pairs: 0.5, attentionFlops: 0.5, cache: 1, projectionFlops: 1, parameters: 1 },
    missed: false,
    nonCausal: false,
    loss: 1,
    perplexity: Math.E,
    seedLosses: [1, 1],
    lossBlocks: { sums: [1], sizes: [1] },
    lossIncrease: point(0),
    toRandom: point(0),
    toProtected: point(0),
    closed: closed === null ? null : point(closed),
  } as unknown as ComparedMethod);
  const methods = [
    row("dense", null),
    row("random-protected", 0.6, { fusion: "random-protected" }),
    row("learned", 0.25, { fusion: "learned" }),
  ];
  const comparison: SiteEntry = {
    kind: "compare",
    name: "c",
    data: {
      methods,
      intervals: { confidence: 0.95, blockSize: 64, resamples: 2000, seed: 0 },
      environment: data.environment,
    } as never,
  };
  const report = makeHeadReport();
  const rules = report.overall.rules.map((quality) => ({
    ...quality,
    auroc: quality.rule === "random" ? 0.9 : quality.rule === "key" ? 0.75 : 0.5,
  }));
  const heads: SiteEntry = {
    kind: "heads",
    name: "h",
    data: { ...report, overall: { ...report.overall, rules } },
  };
  const index = renderSite([comparison, heads]).get("index.html")!;
  assertStringIncludes(index, "2 methods; learned is the best that is causal");
  assertStringIncludes(index, "; key finds redundant tokens best, AUROC 0.750");
});
