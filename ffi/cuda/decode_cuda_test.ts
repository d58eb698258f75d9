import { assertEquals, assertThrows } from "@std/assert";
import { createBatchCache, createBatchDecisions } from "../../lib/model/run/batch/batch_state.ts";
import { testOnDevice } from "./testing.ts";

testOnDevice("attentionDecode() refuses a cache whose tensors do not fit one another", (backend) => {
  const batch = 2, numKvHeads = 1, headDim = 32;
  const cache = createBatchCache(backend, {
    batch,
    capacity: 8,
    recent: 4,
    numKvHeads,
    headDim,
    dtype: "f16",
  });
  const out = backend.alloc("f32", [batch, numKvHeads, headDim]), positions = backend.alloc("i32", [batch]);
  const decisions = createBatchDecisions(backend, batch);
  const decode = (changed: Partial<typeof cache>) =>
    backend.attentionDecode({ ...cache, ...changed }, out, positions, decisions, 1, out);
  decode({});
  backend.synchronize();

  const parts = ["values", "positions", "counts", "recentKeys", "recentValues", "recentPositions"] as const;
  for (const part of parts) {
    const { dtype, shape } = cache[part];
    const narrow = backend.alloc(dtype, shape.with(-1, shape.at(-1)! - 1));
    assertThrows(() => decode({ [part]: narrow }), RangeError, part);
    const other = backend.alloc(dtype === "f16" ? "bf16" : "f32", shape);
    assertThrows(() => decode({ [part]: other }), TypeError, part);
  }
  assertEquals(parts.length, Object.keys(cache).length - 1); // the keys define the shape of the others
  assertThrows(() => decode({ keys: backend.alloc("f16", [batch, 8, headDim]) }), RangeError, "keys");
  assertThrows(() => decode({ keys: backend.alloc("i32", cache.keys.shape) }), TypeError, "keys");
});
