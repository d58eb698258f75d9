/** The cache of a layer: rows that are dropped, and those behind them. */
import { assertEquals } from "@std/assert";
import type { Backend } from "../../../backend.ts";
import { hostData, hostTensor, type Tensor } from "../../../tensor.ts";
import { LayerCache, PAGE_ROWS } from "./kv_cache.ts";
import { backend } from "../../testing.ts";

const DTYPES = ["f32", "f16", "bf16"] as const;

/** The reference, with or without moves within a tensor; notes of each copy of rows whether it was one. */
function watched(movesRows: boolean, moved: boolean[]): Backend {
  const storeRows: Backend["storeRows"] = (x, out, ...more) => {
    moved.push(hostData(x).buffer === hostData(out).buffer);
    backend.storeRows(x, out, ...more);
  };
  return new Proxy<Backend>(backend, {
    get: (target, name) =>
      name === "movesRows" ? movesRows : name === "storeRows" ? storeRows : Reflect.get(target, name),
  });
}

Deno.test("drop() keeps the other rows as they are, in every type, and gives empty pages back", () => {
  for (const [dtype, movesRows] of DTYPES.flatMap((dtype) => [[dtype, true], [dtype, false]] as const)) {
    const moved: boolean[] = [], on = watched(movesRows, moved);
    const width = 4, cache = new LayerCache(on, dtype, width, 0);
    const rows = (first: number, count: number) => {
      const values = Float32Array.from({ length: count * width }, (_, i) => first + i / 16 + 0.1);
      return hostTensor("f32", [count, width], values);
    };
    const add = (first: number, count: number) => {
      cache.append(
        rows(first, count),
        rows(first + 0.5, count),
        Int32Array.from({ length: count }, (_, i) => first + i),
      );
    };
    const read = () => {
      const { keys, values, positions, count } = cache.kept;
      const part = (x: Tensor) => [...hostData(x)].slice(0, count * width);
      return { keys: part(keys), values: part(values), positions: [...positions].slice(0, count) };
    };
    const without = (all: ReturnType<typeof read>, gone: readonly number[]) => {
      const stays = all.positions.map((position) => !gone.includes(position));
      const of = (x: number[]) => x.filter((_, i) => stays[Math.floor(i / width)]);
      return {
        keys: of(all.keys),
        values: of(all.values),
        positions: all.positions.filter((_, i) => stays[i]),
      };
    };
    add(10, 3 * PAGE_ROWS);
    let want = read();
    const fork = cache.fork();
    moved.length = 0;
    for (const gone of [[], [11], [10, 12, 201], [13, 14, 15], [199]]) {
      cache.drop(gone);
      assertEquals(read(), want = without(want, gone));
    }
    assertEquals(moved, movesRows ? Array(4).fill(true) : Array(8).fill(false));
    const page = PAGE_ROWS * LayerCache.rowBytes(dtype, width);
    assertEquals(cache.allocatedBytes, 3 * page); // little is empty
    add(300, 2);
    want = read();
    const most = want.positions.filter((position) => position < 152);
    cache.drop(most.slice(0, 2 * PAGE_ROWS - 7)); // one fewer than two pages are empty
    assertEquals([cache.allocatedBytes, cache.kept.count], [3 * page, PAGE_ROWS + 1]);
    cache.drop([want.positions.at(-1)!]); // two are
    assertEquals([cache.allocatedBytes, cache.kept.count], [page, PAGE_ROWS]);
    assertEquals(read(), without(want, [...most.slice(0, 2 * PAGE_ROWS - 7), want.positions.at(-1)!]));
    cache.drop([...cache.kept.positions]);
    assertEquals([cache.heldBytes, cache.kept.count], [0, 0]);
    assertEquals(fork.kept.count, 3 * PAGE_ROWS);
  }
});
