import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { LengthRow } from "../../eval/lengths.ts";
import { renderSite, type SiteEntry } from "./site.ts";
import { makeSummary, makeTrial } from "../testing.ts";

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
    roof: { flopsPerSecond: 1, bytesPerSecond: 1 },
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
