import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { parquetReadObjects } from "hyparquet";
import { readParquet } from "../cli/parquet.ts";
import { runTask, withFolder } from "../testing.ts";

/** A row of a file of decisions. */
interface Row {
  readonly method: string;
  readonly chunk: number;
  readonly layer: number;
  readonly head: number;
  readonly position: number;
  readonly token: number;
  readonly score: number | null;
  readonly decidedAt: number | null;
  readonly evictedAt: number | null;
  readonly skipped: boolean;
}

const readRows = (path: string) =>
  readParquet(
    Deno.readFileSync(path),
    (source) => parquetReadObjects({ ...source }) as unknown as Promise<Row[]>,
  );

const ids = Array.from({ length: 100 }, (_, i) => i === 0 ? 1 : 300 + (i * 37 + i * i) % 900);
/** Bytes of a key and a value of one head of the built-in model, in f32. */
const ROW_BYTES = 2 * 32 * 4;
const SPANS = ["--warmup", "8", "--recent", "8", "--block", "16"];

async function score(folder: string, file: string, ...method: string[]) {
  Deno.writeTextFileSync(`${folder}/ids.json`, JSON.stringify(ids));
  const { code, stdout, stderr } = await runTask(
    ...["score", "--ids", `${folder}/ids.json`, "--json", "--quiet", "--decisions", file] as const,
    ...SPANS,
    ...method,
  );
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout) as { kvBytesHeld: number; nll: number[] };
}

Deno.test("score --decisions: bytes recomputed from the file are those reported", () =>
  withFolder(async (folder) => {
    for (
      const method of [
        ["--side", "key", "--method", "adakv", "--kv-ratio", "0.5"],
        ["--side", "key", "--method", "snapkv", "--kv-ratio", "0.5"],
        ["--method", "learned", "--prune-ratio", "0.3"],
        ["--preset", "keys"],
      ]
    ) {
      const file = `${folder}/rows.parquet`, { kvBytesHeld } = await score(folder, file, ...method);
      const rows = await readRows(file);
      assertEquals(rows.length, 10 * 3 * 100);
      assertEquals(rows.filter(({ evictedAt }) => evictedAt === null).length * ROW_BYTES, kvBytesHeld);
      assertEquals(rows.slice(0, 100).map(({ token }) => token), ids);
      assert(rows.some(({ score, evictedAt }) => score !== null && evictedAt !== null));
    }
  }));

Deno.test("score --decisions writes the same as JSON, in decode too", () =>
  withFolder(async (folder) => {
    const method = ["--side", "key", "--method", "h2o", "--kv-ratio", "0.5"];
    await score(folder, `${folder}/rows.parquet`, ...method);
    await score(folder, `${folder}/rows.json`, ...method, "--chunk", "7");
    const rows = await readRows(`${folder}/rows.parquet`);
    const { columns, headDim, methods } = JSON.parse(Deno.readTextFileSync(`${folder}/rows.json`));
    assertEquals([headDim, Object.keys(methods).length], [32, 1]);
    for (const name of ["layer", "head", "position", "token", "evictedAt"] as const) {
      assertEquals(columns[name], rows.map((row) => row[name]));
    }
  }));

/** Losses of a replay of a file. */
async function replay(...args: string[]): Promise<number[]> {
  const { code, stdout, stderr } = await runTask("score", "--replay", ...args, "--json", "--quiet");
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout).nll;
}

Deno.test("score --replay takes decisions of either file again, and gives the same losses", () =>
  withFolder(async (folder) => {
    for (
      const method of [
        ["--side", "key", "--method", "adakv", "--kv-ratio", "0.5"],
        ["--preset", "retrieval", "--kv-ratio", "0.6"],
        ["--method", "learned", "--prune-ratio", "0.3", "--substitute", "mean"],
        ["--side", "key", "--method", "tova", "--kv-ratio", "0.5", "--phase", "decode"],
      ]
    ) {
      for (const file of [`${folder}/rows.parquet`, `${folder}/rows.json`]) {
        const { nll } = await score(folder, file, ...method);
        assertEquals(await replay(file), nll, method.join(" "));
      }
    }
  }));

Deno.test("compare --decisions: rows of every method, which pandas groups, and each is replayed", () =>
  withFolder(async (folder) => {
    const file = `${folder}/rows.parquet`, out = `${folder}/out`;
    const { code, stdout, stderr } = await runTask(
      ...[
        "compare",
        "--side",
        "key",
        "--methods",
        "key,snapkv,random",
        "--kv-ratio",
        "0.5",
        "--seeds",
        "1",
      ] as const,
      ...[
        "--tokens",
        "128",
        "--context",
        "64",
        "--json",
        "--quiet",
        "--decisions",
        file,
        "--out",
        out,
        ...SPANS,
      ],
    );
    assertEquals([code, stderr], [0, ""]);
    const { methods } = JSON.parse(stdout) as {
      methods: { name: string; perplexity: number; retained: { cache: number } }[];
    };
    const rows = await readRows(file), byName = Map.groupBy(rows, ({ method }) => method);
    assertEquals([...byName.keys()].sort(), ["key", "random", "snapkv"]);
    for (const { name, retained, perplexity } of methods.filter(({ name }) => name !== "dense")) {
      const own = byName.get(name)!, held = own.filter(({ evictedAt }) => evictedAt === null).length;
      assertEquals([own.length, new Set(own.map(({ chunk }) => chunk)).size], [10 * 3 * 128, 2]);
      assertEquals(held / own.length, retained.cache, name);
      const nll = await replay(file, "--replay-method", name);
      assertAlmostEquals(nll.reduce((a, b) => a + b) / nll.length, Math.log(perplexity), 1e-9, name);
    }
    const { code: refused, stderr: reason } = await runTask("score", "--replay", file);
    assertEquals(refused, 2);
    assertStringIncludes(reason, "found 3 methods, expected one of its own (add --replay-method ");
  }));

Deno.test("--decisions is refused where there is nothing to decide, or no such file", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/ids.json`, "[1, 2, 3]");
    const asked = ["score", "--ids", `${folder}/ids.json`] as const;
    for (
      const [args, error] of [
        [
          ["--decisions", `${folder}/a.csv`, "--method", "key"],
          "expected a name that ends in .parquet or .json",
        ],
        [["--decisions", `${folder}/a.json`], "a dense run has no decisions"],
        [
          ["--decisions", `${folder}/no/a.json`, "--method", "key"],
          "expected a file in a folder that is there",
        ],
        [
          ["--decisions", `${folder}/a.json`, "--method", "shortgpt"],
          "it alters the model, and decides on no token",
        ],
      ] as const
    ) {
      const { code, stderr } = await runTask(...asked, ...args);
      assertEquals(code, 2);
      assertStringIncludes(stderr, error);
    }
    const alone = ["--tasks", "needle", "--length", "128", "--items", "2", "--methods", "key"];
    const { code, stderr } = await runTask("compare", ...alone, "--decisions", `${folder}/a.json`);
    assertEquals([code, stderr.trim()], [
      2,
      "Cannot use --decisions with items alone: expected a text too (add --text or --tokens)",
    ]);
  }));

Deno.test("the cell of the guide draws a path for each kept row", () =>
  withFolder(async (folder) => {
    const page = await Deno.readTextFile(new URL("../../../docs/guides/compare-methods.md", import.meta.url));
    const file = `${folder}/rows.parquet`,
      method = ["--side", "key", "--method", "snapkv", "--kv-ratio", "0.5"];
    await score(folder, file, ...method);
    const rows = await readRows(file), kept = rows.filter(({ evictedAt }) => evictedAt === null);
    const [, cell] = page.match(/```ts ignore\nimport \{ parquetReadObjects \}.*?\n(.*?)Deno\.jupyter/s)!;
    const source = cell!.replace('"rows.parquet"', "file").replace('"snapkv"', "name");
    const run = Object.getPrototypeOf(async () => {}).constructor;
    const { parquetReadObjects } = await import("hyparquet");
    const map: string = await new run("parquetReadObjects", "file", "name", `${source} return map;`)(
      ...[parquetReadObjects, file, rows[0]!.method],
    );
    assertEquals(map.split("<path ").length - 1, kept.length);
    assertStringIncludes(map, `M${kept[0]!.position},0h1v1h-1z`);
  }));
