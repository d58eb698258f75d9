import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import type { Backend } from "../../../../lib/backend.ts";
import type { DType } from "../../../../lib/dtype.ts";
import { UsageError } from "../../../../lib/errors.ts";
import { Model, type ModelFile } from "../../../../lib/model/mod.ts";
import { CONFIG, ids, weights } from "../../../../lib/model/small_testing.ts";
import { ReferenceBackend } from "../../../../lib/reference/mod.ts";
import { countOf, type Tensor } from "../../../../lib/tensor.ts";
import { expectMemory, openModel, roomForWeights, warnOfLength } from "./model.ts";
import { Progress } from "../output/progress.ts";

Deno.test("openModel() gives back all that it takes to try a model", () => {
  const live = new Set<Tensor>(), reference = new ReferenceBackend();
  let taken = 0;
  const backend: Backend = Object.assign(new ReferenceBackend(), {
    alloc(dtype: DType, shape: readonly number[]) {
      const tensor = reference.alloc(dtype, shape);
      if (countOf(shape) > 0) live.add(tensor), taken++;
      return tensor;
    },
    free: (tensor: Tensor) => void live.delete(tensor),
  });
  const file = {
    name: "small",
    weights: { values: 9, bytes: 36 },
    open: () => new Model(CONFIG, weights, backend),
  } as unknown as ModelFile;
  openModel(file, backend, {}, ids(40), new Progress(undefined));
  assert(taken > 5);
  assertEquals([...live], []);
});

Deno.test("openModel() names the faster cache where a GPU has a default cache of f32 for smaller weights", () => {
  const said = (name: string, cacheByDefault: boolean, bytes: number) => {
    let text = "";
    const backend = Object.assign(new ReferenceBackend(), { name });
    const stream = {
      writeSync: (part: Uint8Array) => (text += new TextDecoder().decode(part), part.length),
      isTerminal: () => false,
    };
    const open = () => new Model(CONFIG, weights, backend);
    const file = { name: "small", weights: { values: 9, bytes }, open } as unknown as ModelFile;
    openModel(file, backend, { cacheDType: "f32", cacheByDefault }, ids(4), new Progress(stream));
    return text;
  };
  assertMatch(said("cuda", true, 18), /^A KV cache of f32 .*: --cache-dtype bf16 is faster\n$/);
  for (const quiet of [said("cuda", false, 18), said("cuda", true, 36), said("cpu", true, 18)]) {
    assertEquals(quiet, "");
  }
});

Deno.test("warnOfLength() speaks from one token past the model's context on", () => {
  let text = "";
  const stream = {
    writeSync: (bytes: Uint8Array) => (text += new TextDecoder().decode(bytes), bytes.length),
  };
  warnOfLength(512, { contextLength: 512 }, undefined, stream);
  assertEquals(text, "");
  warnOfLength(513, { contextLength: 512 }, undefined, stream);
  assertEquals(text, "Warning: chunks of 513 tokens; the model was trained on 512\n");
});

Deno.test("roomForWeights() is that of the machine, or what the container leaves beside the work", () => {
  const free = { available: 8e9 } as Deno.SystemMemoryInfo, used = { rss: 1e8 } as Deno.MemoryUsage;
  assertEquals(roomForWeights(free, 0, used), 8e9);
  assertEquals(roomForWeights(free, 2 ** 63, used), 8e9);
  assertEquals(roomForWeights(free, 5e8, used), 4e8);
  assertEquals(roomForWeights(free, 0.5e8, used), 0);
  assertThrows(
    () => expectMemory({ name: "m", weights: { values: 5e6, bytes: 5.3e6 } }, 0),
    UsageError,
    'Cannot load "m": needs 5 MB, 0 MB are free; expected a smaller model',
  );
});

Deno.test("expectMemory() says what a model needs, what is free, and what would fit", () => {
  const file = { name: "m", weights: { values: 7.3e9, bytes: 14.6e9 } };
  const says = (freeBytes: number, message: string) =>
    assertThrows(() => expectMemory(file, freeBytes), UsageError, message);
  expectMemory(file, 14.6e9);
  says(9.8e9, 'Cannot load "m": needs 14.6 GB, 9.8 GB are free; --dtype q8_0 takes 7.8 GB');
  says(5e9, "--dtype q4_0 takes 4.1 GB");
  says(4e9, "4.0 GB are free; expected a smaller model");
  assertThrows(
    () => expectMemory({ name: "m", weights: { values: 7.3e9, bytes: 29.2e9 } }, 20e9),
    UsageError,
    "--dtype bf16 takes 14.6 GB",
  );
});
