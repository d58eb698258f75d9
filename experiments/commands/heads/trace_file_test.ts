import { assertEquals, assertRejects } from "@std/assert";
import { type ColumnSource, parquetWriteBuffer } from "hyparquet-writer";
import { UsageError } from "../../../lib/errors.ts";
import { createDecisionTable } from "../../../lib/heads/mod.ts";
import { withFolder } from "../testing.ts";
import { resolveOptions } from "../../../lib/methods/mod.ts";
import { readTrace, traceBytes, type TraceInfo, traceInfo } from "./trace_file.ts";

Deno.test("readTrace() takes what traceBytes() made, and no missing, broken or foreign value", () =>
  withFolder(async (folder) => {
    const path = `${folder}/trace.parquet`;
    const info = { format: 1, version: "0", phase: "prefill", cacheDType: "f32" } as TraceInfo;
    const table = createDecisionTable(3, { heads: 1, hasRedundancy: false });
    table.id.set([5, 6, 7]);
    table.threshold[1] = 0.1;
    table.keep.set([1, 0, 1]);
    Deno.writeFileSync(path, traceBytes(table, info));
    assertEquals(await readTrace(path), { table, info });
    Deno.writeFileSync(path, traceBytes(table, { ...info, cacheDType: undefined } as unknown as TraceInfo));
    assertEquals((await readTrace(path)).info, info);
    Deno.writeFileSync(path, traceBytes(table, { ...info, cacheDType: "f64" as "f32" }));
    await assertRejects(() => readTrace(path), UsageError, "found a cache of f64, expected f32, f16 or bf16");
    Deno.writeFileSync(path, traceBytes(table, { ...info, phase: "other" as "prefill" }));
    await assertRejects(() => readTrace(path), UsageError, 'found phase "other"');
    const rewrite = (column: ColumnSource) => {
      const others = ["chunk", "position", "token", "id", "layer", "step", "keep", "score", "threshold"]
        .concat("muK", "varK", "muV", "varV", "wK").filter((name) => name !== column.name);
      const bytes = parquetWriteBuffer({
        columnData: [...others.map((name) => ({ name, data: [0, 1, 0] })), column],
        kvMetadata: [{ key: "tokenfilter.trace", value: JSON.stringify(info) }],
      });
      Deno.writeFileSync(path, new Uint8Array(bytes));
    };
    rewrite({ name: "keep", data: [true, null, false] });
    await assertRejects(() => readTrace(path), UsageError, 'found null in column "keep" at row 1');
    rewrite({ name: "id", data: ["1", "2", "three"] });
    await assertRejects(() => readTrace(path), UsageError, 'found three in column "id" at row 2');
  }));

Deno.test("a trace tells whether keys were decided block by block, by signals of queries", () => {
  const rest = { version: "0", stream: "filtered", phase: "prefill" } as const;
  const wants = (["key", "received", "leave-one-out"] as const).map((kvFusion) =>
    traceInfo(
      { name: "tiny", sha256: "0" },
      resolveOptions({ side: "key", kvFusion }),
      rest as unknown as Parameters<typeof traceInfo>[2],
    ).keySide!.wantsAttention
  );
  assertEquals(wants, [false, true, true]);
});
