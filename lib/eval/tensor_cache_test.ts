import { assertEquals } from "@std/assert";
import { emptyTensor } from "../tensor.ts";
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
