/**
 * Guards the picture of docs/explain/architecture.md that shows the path of a layer's keys and values through files.
 */
import { assert, assertEquals } from "@std/assert";
import type { AttentionArgs, Backend } from "../../backend.ts";
import { createPruner, type MethodOptions } from "../../methods/mod.ts";
import { Model } from "../model.ts";
import { CONFIG as config, ids, weights } from "../small_testing.ts";
import { backend } from "../testing.ts";

/** Ops that take keys or values of a layer, or rows of its cache. */
const OPS = [
  "rope",
  "read",
  "kvFilterScan",
  "storeRows",
  "gatherRows",
  "regrowRows",
  "resizeRows",
  "attention",
];
/** Files below which these ops are called, from the one that projects keys and values on. */
const FIRST = "model/run/forward_pass.ts";
const MOST_FILES = 9;

const PICTURE = Array.from(
  (await Deno.readTextFile(new URL("../../../docs/explain/architecture.md", import.meta.url)))
    .match(/^### Keys and values of a layer\n.*?^```mermaid\n(.*?)^```/ms)![1]!
    .matchAll(/^ +([\w./]+) --> ([\w./]+)$/gm),
  ([, from, to]) => `${from} --> ${to}`,
);

/** Which file of lib/ calls which on the way to the ops, in one prefill. */
function trace(options: MethodOptions): Set<string> {
  const seen = new Set<string>(), { stackTraceLimit } = Error;
  const note = () => {
    const frames = Array.from(new Error().stack!.matchAll(/\/lib\/([\w/]+\.ts):/g), ([, file]) => file!);
    const files = frames.filter((file) => !/^reference\/|_test\.ts$/.test(file)).reverse();
    const path = files.slice(files.indexOf(FIRST));
    path.forEach((file, i) => i > 0 && file !== path[i - 1] && seen.add(`${path[i - 1]} --> ${file}`));
  };
  const watched = new Proxy<Backend>(backend, {
    get(target, name: keyof Backend) {
      const member = target[name];
      if (typeof member !== "function") return member;
      const bound = member.bind(target) as (...args: unknown[]) => unknown;
      return OPS.includes(name) ? (...args: [AttentionArgs]) => (note(), bound(...args)) : bound;
    },
  });
  const model = new Model({ ...config, numLayers: 2 }, weights as never, watched);
  Error.stackTraceLimit = 100;
  try {
    const plan = { warmup: 8, block: 8, recent: 4, tail: 1, pruneRatio: 0.3 };
    const pruner = createPruner("token-filtering", model.config, { ...plan, ...options }, {
      backend: watched,
    });
    model.start(pruner).feed(ids(60));
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  return seen;
}

const WAYS: readonly MethodOptions[] = [
  { fusion: "variance" },
  { fusion: "key", kvFusion: "received" },
  { fusion: "mean", kvFusion: "key" },
  { side: "key", kvFusion: "lagkv" },
];

Deno.test("keys and values of a layer go where docs/explain/architecture.md shows, through few files", () => {
  const all = new Set<string>();
  for (const options of WAYS) {
    const seen = trace(options), files = new Set([...seen].flatMap((arrow) => arrow.split(" --> ")));
    assert(files.size <= MOST_FILES, `${JSON.stringify(options)}: ${[...files].join(", ")}`);
    for (const arrow of seen) all.add(arrow);
  }
  assertEquals([...all].sort(), PICTURE.sort());
});
