/** Decisions of methods in a file: one row per token, layer and KV head, as Parquet or as JSON. */
import { type BasicType, ByteWriter, type ColumnSource, ParquetWriter } from "hyparquet-writer";
import type { CacheDType } from "../../../lib/dtype.ts";
import { DECIDED_PLACES, DECIDED_TIMES, type Decisions } from "../../../lib/heads/decisions.ts";
import { effectiveOptions, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { readVersion } from "../../../lib/version.ts";
import { writeWhole } from "../cli/files.ts";

/** Decisions of one method. */
export interface MethodDecisions {
  readonly name: string;
  /** None of a replay. */
  readonly options: ResolvedOptions | undefined;
  readonly decisions: Decisions;
}

/** The run that decisions are of. */
interface DecidedRun {
  readonly file: Pick<ModelFile, "name" | "sha256"> & {
    readonly config: Pick<ModelFile["config"], "numLayers" | "numKvHeads" | "headDim">;
  };
  readonly cacheDType: CacheDType;
}

/** Key of the description in a Parquet file's metadata. */
const KEY = "tokenfilter.decisions";

/** Writes decisions of methods, whole or not at all. @throws {UsageError} If the file cannot be written. */
export async function writeDecisions(
  path: string,
  { file: { name, sha256, config }, cacheDType }: DecidedRun,
  methods: readonly MethodDecisions[],
): Promise<void> {
  const { numLayers, numKvHeads, headDim } = config, version = await readVersion();
  const info = {
    ...{ format: 1, version, model: name, modelSha256: sha256, numLayers, numKvHeads, headDim, cacheDType },
    methods: Object.fromEntries(
      methods.map(({ name, options }) => [name, options ? effectiveOptions(options) : null]),
    ),
  };
  const columns = methods.map(columnsOf);
  await writeWhole(path, path.endsWith(".json") ? jsonOf(info, columns) : parquetOf(info, version, columns));
}

interface Column {
  readonly name: string;
  readonly type: BasicType & ("STRING" | "INT32" | "DOUBLE" | "BOOLEAN");
  readonly nullable: boolean;
  readonly data: (string | number | boolean | null)[];
}

/** Columns of one method: null where a number is none. */
function columnsOf({ name, decisions }: MethodDecisions): Column[] {
  const { rows, score, skipped } = decisions;
  return [
    { name: "method", type: "STRING", nullable: false, data: new Array(rows).fill(name) },
    ...DECIDED_PLACES.map((name): Column => {
      return { name, type: "INT32", nullable: false, data: [...decisions[name]] };
    }),
    {
      ...{ name: "score", type: "DOUBLE", nullable: true },
      data: Array.from(score, (value) => Number.isFinite(value) ? value : null),
    },
    ...DECIDED_TIMES.map((name): Column => {
      return {
        name,
        type: "INT32",
        nullable: true,
        data: Array.from(decisions[name], (at) => at < 0 ? null : at),
      };
    }),
    { name: "skipped", type: "BOOLEAN", nullable: false, data: Array.from(skipped, (skip) => skip === 1) },
  ];
}

function jsonOf(info: object, methods: readonly Column[][]): string {
  const columns = methods[0]!.map(({ name }, i) => [name, methods.flatMap((columns) => columns[i]!.data)]);
  return `${JSON.stringify({ ...info, columns: Object.fromEntries(columns) })}\n`;
}

/** A file with a row group, or several, for each method. */
function parquetOf(info: object, version: string, methods: readonly Column[][]): Uint8Array {
  const writer = new ByteWriter();
  const file = new ParquetWriter({
    writer,
    schema: [
      { name: "root", num_children: methods[0]!.length },
      ...methods[0]!.map(({ name, type, nullable }) => ({
        name,
        repetition_type: nullable ? "OPTIONAL" as const : "REQUIRED" as const,
        ...(type === "STRING" ? { type: "BYTE_ARRAY" as const, converted_type: "UTF8" as const } : { type }),
      })),
    ],
    kvMetadata: [{ key: KEY, value: JSON.stringify(info) }],
    createdBy: `tokenfilter ${version}`,
  });
  for (const columns of methods) {
    const columnData = columns.map(({ name, data }): ColumnSource => ({ name, data }));
    file.write({ columnData, rowGroupSize: 65_536 });
  }
  file.finish();
  return writer.getBytes();
}
