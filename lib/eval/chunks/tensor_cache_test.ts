import { assertEquals } from "@std/assert";
import { emptyTensor, type Tensor } from "../../tensor.ts";
import { TensorCache } from "./tensor_cache.ts";

Deno.test("TensorCache keeps what fits its budget, first come, and computes the rest again", () => {
  const cache = new TensorCache(40);
  const computed: string[] = [];
  const get = (key: string, size: number) =>
    cache.get(key, () => (computed.push(key), emptyTensor("f32", [size])));
  const first = get("a", 5);
  cache.put("a", emptyTensor("f32", [5])); // neither replaces nor counts twice
  get("large", 6);
  get("b", 5);
  assertEquals(get("a", 5) === first, true);
  for (const key of ["b", "large", "c"]) get(key, key === "b" ? 5 : 6);
  assertEquals(computed, ["a", "large", "b", "large", "c"]);
});

Deno.test("TensorCache lets spare tensors make room for others, the last first, and never the other way about", () => {
  const freed: Tensor[] = [], cache = new TensorCache(40, (tensor) => freed.push(tensor));
  const tensors = Array.from({ length: 5 }, () => emptyTensor("f32", [4]));
  cache.put("a", tensors[0]!, { spare: true });
  cache.put("b", tensors[1]!, { spare: true });
  cache.put("c", tensors[2]!); // 16 of 40 bytes each: the last spare one is dropped
  assertEquals(freed, [tensors[1]]);
  assertEquals(freed[0] === tensors[1], true);
  cache.put("d", tensors[3]!, { spare: true });
  cache.put("e", tensors[4]!);
  assertEquals(["a", "b", "c", "d", "e"].filter((key) => cache.has(key)), ["c", "e"]);
  assertEquals(freed[1] === tensors[0] && freed.length === 2, true);
});

Deno.test("TensorCache gives a spare tensor the room of spare ones that it may replace, and of no others", () => {
  const cache = new TensorCache(40),
    add = (key: string, insteadOf: (key: string) => boolean) =>
      cache.put(key, emptyTensor("f32", [4]), { spare: true, insteadOf }); // 16 bytes
  for (const key of ["a0", "a1", "b0"]) add(key, () => false);
  assertEquals(["a0", "a1", "b0"].map((key) => cache.has(key)), [true, true, false]);
  for (const key of ["b0", "b1", "b2"]) add(key, (other) => !other.startsWith("b"));
  assertEquals(["a0", "a1", "b0", "b1", "b2"].filter((key) => cache.has(key)), ["b0", "b1"]);
});
