/** Rows that a forward pass declares equal to the last ones; {@linkcode CheckedReference} checks them in every test. */
import { assertEquals } from "@std/assert";
import type { Backend } from "../../backend.ts";
import { ReferenceBackend } from "../../reference/mod.ts";
import type { HostTensor } from "../../tensor.ts";
import { Model } from "../model.ts";
import { ForwardPass } from "./forward_pass.ts";
import { CheckedReference, CONFIG, filtering, ids, weights } from "../small_testing.ts";

Deno.test("products of the rows of the one before say so: values, all queries, and the MLP's second matrix", () => {
  const backend = new CheckedReference(), model = new Model(CONFIG, weights, backend), { numLayers } = CONFIG;
  const since = (work: () => void) => {
    const before = backend.same;
    work();
    return backend.same - before;
  };
  assertEquals(since(() => model.start().feed(ids(40))), 3 * numLayers);
  // Rows that are kept are copies, but where that is all of them.
  assertEquals(
    since(() => model.start(filtering({ pruneRatio: 0.5, recent: 0 })).feed(ids(40))),
    2 * numLayers,
  );
  assertEquals(since(() => model.start(filtering({ pruneRatio: 0.5 })).feed(ids(8))), 3 * numLayers);
  const queries = filtering({
    fusion: "learned",
    features: ["similarity", "norm", "query"],
    pruneRatio: 0.5,
  });
  assertEquals(since(() => model.start(queries).feed(ids(40))), 3 * numLayers);
  assertEquals(
    since(() => model.startBatch(undefined, { batch: 2, capacity: 8 }).step(ids(2))),
    3 * numLayers,
  );
});

Deno.test("a layer is few calls: products of one x at once, additions with the norms behind them", () => {
  const { numLayers } = CONFIG, calls: string[] = [], reference = new ReferenceBackend();
  const backend = new Proxy<Backend>(reference, {
    get(target, name) {
      const member = target[name as keyof Backend];
      if (typeof member !== "function" || ["alloc", "upload", "free", "read"].includes(String(name))) {
        return member;
      }
      return (...args: unknown[]) => {
        const products = name === "linears" ? args[1] as unknown[] : [];
        calls.push(products.length > 0 ? `${products.length} products` : String(name));
        return (member as (...args: unknown[]) => unknown).apply(target, args);
      };
    },
  });
  const model = new Model(CONFIG, weights, backend);
  const layer = (norm: string, attention: readonly string[]) => [
    ...[norm, "3 products", "rope", "rope", ...attention, "1 products"],
    ...["addRmsNorm", "gatedLinear", "1 products"],
  ];
  const ofLayers = (attention: readonly string[]) => [
    ...["embedding", ...layer("rmsNorm", attention)],
    ...Array.from({ length: numLayers - 1 }, () => layer("addRmsNorm", attention)).flat(),
    ...["add", "rmsNorm"],
  ];
  model.start().feed(ids(9));
  const stores = ["storeRows", "regrowRows"];
  assertEquals(calls.filter((name) => !stores.includes(name)), ofLayers(["attention"]));
  using decoder = model.startBatch(undefined, { batch: 2, capacity: 8 });
  calls.length = 0;
  decoder.step(ids(2));
  const step = [...ofLayers(["kvFilterStep", "attentionDecode"]), "linear", "advance"];
  assertEquals(calls, ["write", ...step]);
  const keys = filtering({ side: "key", fusion: "key" });
  const local = filtering({ substitute: "local", recent: 4, warmup: 32 });
  using dropping = model.startBatch(keys, { batch: 2, capacity: 8 });
  const feeds = [keys, local].map((pruner) => () => model.start(pruner).feed(ids(60)));
  for (const run of [...feeds, () => dropping.step(ids(2))]) {
    calls.length = 0;
    run();
    // Attention of all tokens is computed, whatever is decided.
    assertEquals(calls.filter((name) => name === "3 products").length, numLayers);
  }
  calls.length = 0;
  model.start(undefined, { see: () => {} }).feed(ids(9)); // an observer needs every sum
  assertEquals(calls.filter((name) => name === "add").length, 2 * numLayers);
});

Deno.test("scratch() serves again while a quarter of its rows is used, or where it has few", () => {
  const pass = new ForwardPass(new Model(CONFIG, weights, new ReferenceBackend()));
  const { data: large } = pass.scratch("a", [100, 2]) as HostTensor;
  for (const rows of [100, 40, 25]) {
    const { shape, data } = pass.scratch("a", [rows, 2]) as HostTensor;
    assertEquals([shape, data.buffer === large.buffer], [[rows, 2], true], `${rows}`);
  }
  const { data: small } = pass.scratch("a", [24, 2]) as HostTensor;
  assertEquals([small.length, small.buffer === large.buffer], [48, false]);
  assertEquals((pass.scratch("a", [1, 2]) as HostTensor).data.buffer, small.buffer);
});
