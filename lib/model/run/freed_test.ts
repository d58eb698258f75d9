/** Memory is used neither after it was given back, which on a device is an error, nor before it is filled. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Backend } from "../../backend.ts";
import { createDropped, createPruner, OFFLINE, preparationOf, type Pruner } from "../../methods/mod.ts";
import { ReferenceBackend } from "../../reference/mod.ts";
import { f32Data, type HostTensor, hostTensor } from "../../tensor.ts";
import { alteredBy } from "../pruning/altered.ts";
import { judgeDump } from "./judge_dump.ts";
import { Model } from "../model.ts";
import { CONFIG, filtering, ids, randomWeights, truth, weights } from "../small_testing.ts";

/** The reference, which refuses a tensor whose memory was given back, and clears none that is to be filled. */
function strict(): Backend {
  const freed = new WeakSet<ArrayBufferLike>(), backend: Backend = new ReferenceBackend();
  const expectThere = (value: unknown) => {
    const buffer = (value as Partial<HostTensor> | undefined)?.data?.buffer;
    if (buffer !== undefined && freed.has(buffer)) throw new Error("found a tensor that was freed");
  };
  return new Proxy(backend, {
    get(_, name: keyof Backend) {
      const own = backend[name];
      if (typeof own !== "function") return own;
      return (...args: unknown[]) => {
        if (name === "free") return void freed.add((args[0] as HostTensor).data.buffer);
        for (const arg of args) {
          expectThere(arg);
          if (typeof arg === "object" && arg !== null) Object.values(arg).forEach(expectThere);
        }
        const out = (own as (...args: unknown[]) => unknown).apply(backend, args);
        const spoil = ({ dtype, data }: HostTensor, from = 0) =>
          data.fill(dtype === "f32" ? NaN : 0x7fff, from);
        if (name === "alloc" && args[2] === true) spoil(out as HostTensor);
        if (name === "regrowRows") {
          const { data } = args[0] as HostTensor;
          freed.add(data.buffer);
          spoil(out as HostTensor, data.length);
        }
        return out;
      };
    },
  });
}

const METHODS: { readonly [name: string]: (backend: Backend) => Pruner | undefined } = {
  dense: () => undefined,
  window: (backend) => filtering({ pruneRatio: 0.5, recent: 5 }, backend),
  local: () => filtering({ pruneRatio: 0.5, substitute: "local", recent: 4 }),
  received: () =>
    filtering({ side: "key", kvFusion: "received", kvRatio: 0.5, recent: 4, warmup: 16, block: 8 }),
  "whole heads": (backend) =>
    createPruner("token-filtering", CONFIG, {
      ...{ side: "key", fusion: "key", kvRatio: 0.4, recent: 4, warmup: 8, block: 8, whole: "heads" },
    }, { backend, retrieval: () => [0, 5, 1, 0, 4, 4] }),
  dropped: () => createDropped(CONFIG, { attention: [1], mlp: [0, 1], from: 6 }),
  "probe-pruning": () => createPruner("probe-pruning", CONFIG, { pruneRatio: 0.5, warmup: 16 }),
  oracle: () => createPruner("oracle", CONFIG, { pruneRatio: 0.5, warmup: 8 }),
};

for (const [name, create] of Object.entries(METHODS)) {
  Deno.test(`${name}: no tensor is used after it was freed, and the numbers are the same`, () => {
    const backend = strict(), model = new Model(CONFIG, weights, backend);
    const run = (own: Model) => {
      const sequence = own.start(create(own.backend)), rows = [...f32Data(sequence.feed(ids(40)))];
      if (name !== "oracle") {
        const branch = sequence.fork();
        for (const each of [sequence, branch]) rows.push(...f32Data(each.feed(ids(3, 1))));
        branch.free();
        rows.push(...f32Data(sequence.feed(ids(70, 2))));
      }
      sequence.free();
      return rows;
    };
    assertEquals(run(model), run(truth));
    const feeds = [9, 30].map((count) => ({ sequence: model.start(create(backend)), ids: ids(count) }));
    model.feedTogether(feeds);
  });
}

Deno.test("embed() and logits() give back all but their result", () => {
  const held = new Set<unknown>(), truth: Backend = new ReferenceBackend();
  const backend: Backend = Object.assign(new ReferenceBackend(), {
    alloc: (...args: Parameters<Backend["alloc"]>) => {
      const tensor = truth.alloc(...args);
      held.add(tensor);
      return tensor;
    },
    upload: (tensor: HostTensor) => {
      const copy = { ...tensor };
      held.add(copy);
      return copy;
    },
    free: (tensor: unknown) => void held.delete(tensor),
  });
  const model = new Model(CONFIG, weights, backend);
  held.clear();
  const hidden = model.embed(ids(3)), logits = model.logits(hidden);
  assertEquals([...held], [hidden, logits]);
});

Deno.test("a sequence ends with its block; its length and decisions stay readable, all else is an error", () => {
  const held = { count: 0 },
    backend = new Proxy<Backend>(new ReferenceBackend(), {
      get(target, name: keyof Backend) {
        if (name === "free") return () => void held.count--;
        const own = target[name];
        return typeof own === "function" ? own.bind(target) : own;
      },
    });
  const model = new Model(CONFIG, weights, backend);
  const ended = () => {
    using sequence = model.start(filtering({ pruneRatio: 0.5, recent: 5 }));
    sequence.feed(ids(40));
    held.count = 0;
    return sequence;
  };
  const sequence = ended(), gaveBack = held.count;
  assert(gaveBack < 0, "its caches were given back");
  sequence.free();
  assertEquals(held.count, gaveBack, "once");
  assertEquals([sequence.length, sequence.keep.size > 0], [40, true]);
  // This error comes before those about arguments, which are wrong here.
  const calls = {
    feed: () => sequence.feed(Int32Array.of(-1)),
    feedResidual: () => sequence.feedResidual(model.embed(ids(1)), -1),
    throughLayer: () => sequence.throughLayer(model.embed(ids(1)), 0),
    residualAt: () => sequence.residualAt(Int32Array.of(-1), -1),
    fork: () => sequence.fork(),
    usage: () => sequence.usage(),
    exportState: () => sequence.exportState(),
    feedTogether: () => model.feedTogether([{ sequence, ids: ids(1) }]),
  };
  for (const [name, call] of Object.entries(calls)) {
    assertThrows(call, Error, "Cannot use this sequence: it was freed", name);
  }
});

Deno.test("biases are added from memory that is clear", () => {
  const config = { ...CONFIG, biases: ["q", "k", "v", "o", "gate", "up", "down"] };
  const [own, plain] = [strict(), new ReferenceBackend()].map((backend) => {
    const sequence = new Model(config, randomWeights(config), backend).start(filtering({ pruneRatio: 0.5 }));
    return [30, 1, 70].flatMap((count) => [...f32Data(sequence.feed(ids(count)))]);
  });
  assertEquals(own, plain);
});

Deno.test("judgeDump() uses no tensor after it was freed", () => {
  const { numHeads, numKvHeads, headDim } = CONFIG, count = 40;
  const tensor = (heads: number) =>
    hostTensor(
      "f32",
      [count, heads, headDim],
      Float32Array.from({ length: count * heads * headDim }, Math.sin),
    );
  const { keySide, spans } = METHODS.received!(truth.backend)!;
  const layer = keySide!.layers[0]!, ask = keySide!.asks!.get(layer);
  const judge = judgeDump(strict(), { layer, spans, sequence: keySide!.start(), ask }, {
    ...{ keys: tensor(numKvHeads), values: tensor(numKvHeads), queries: tensor(numHeads), scale: 0.2 },
  });
  assert(judge.judged(layer) > 0);
});

Deno.test("strict() notices use after free", () => {
  const backend = strict(), tensor = backend.alloc("f32", [2, 2]), grown = backend.regrowRows(tensor, 3);
  assertThrows(() => backend.read(tensor), Error, "freed");
  backend.free(grown);
  assertThrows(() => backend.add(grown, grown), Error, "freed");
});

/** The reference with copies of uploaded tensors, and the copies that were not given back. */
function copying() {
  const backend: Backend = new ReferenceBackend(), held = new Set<unknown>();
  const upload = ({ dtype, shape, data }: HostTensor) => {
    const copy = hostTensor(dtype, shape, data.slice());
    held.add(copy);
    return copy;
  };
  const free = (tensor: unknown) => held.delete(tensor);
  const own = { upload, free };
  return {
    held,
    backend: new Proxy(backend, {
      get: (_, name: keyof Backend) =>
        own[name as keyof typeof own] ?? (backend[name] as () => void).bind?.(backend) ?? backend[name],
    }),
  };
}

for (const { name, offline } of OFFLINE) {
  if (offline !== true) continue;
  Deno.test(`${name}: of what was uploaded to choose what goes, only the altered model is left`, () => {
    const { backend, held } = copying(), model = new Model(CONFIG, weights, backend);
    const calibration = { domain: "other", sha256: "", chunks: [ids(40), ids(30, 3)] } as const;
    const alters = preparationOf(
      createPruner(name, CONFIG, { pruneRatio: 0.5, barrier: 0 } as never, { calibration }),
      "alter",
    );
    const before = new Set(held), turns = model.turnsOf(0)!;
    const altered = alteredBy(model, alters!).model;
    const kept = new Set<unknown>([
      ...Object.values(altered.weights),
      ...altered.weights.layers.flatMap((own) => Object.values(own)),
    ]);
    const left = [...held].filter((tensor) => !before.has(tensor) && !kept.has(tensor)) as HostTensor[];
    // Each model has a table of its own for its rotary embedding, which is freed with it, and so are its vectors of
    // numbers.
    const matrices = left.filter(({ shape }) => shape.length === 2 && shape.join() !== turns.shape.join());
    assertEquals(matrices.map(({ shape }) => shape), []);
  });
}
