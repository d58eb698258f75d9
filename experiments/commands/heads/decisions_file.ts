/** Decisions of methods in a file: one row per token, layer and KV head, as Parquet or as JSON. */
import { parquetRead } from "hyparquet";
import { type BasicType, ByteWriter, type ColumnSource, ParquetWriter } from "hyparquet-writer";
import { UsageError } from "../../../lib/errors.ts";
import {
  createDecisions,
  DECIDED_PLACES,
  DECIDED_TIMES,
  type Decisions,
} from "../../../lib/heads/decisions.ts";
import type { DecisionPlan } from "../../../lib/heads/replay_decisions.ts";
import { effectiveOptions, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { readVersion } from "../../../lib/version.ts";
import { readBytes, writeWhole } from "../cli/files.ts";
import { readParquet } from "../cli/parquet.ts";
import type { TraceInfo } from "./trace_file.ts";

/** Decisions of one method. */
export interface MethodDecisions {
  readonly name: string;
  /** None of a replay. */
  readonly options: ResolvedOptions | undefined;
  readonly decisions: Decisions;
  /** With it they can be replayed; left out: they cannot. */
  readonly plan?: DecisionPlan;
}

/** How sequences were fed to a model. */
type Fed = Pick<TraceInfo, "cacheDType" | "dtype" | "products"> & Partial<Pick<TraceInfo, "phase" | "piece">>;

/** The run that decisions are of. */
interface DecidedRun extends Fed {
  readonly file: Pick<ModelFile, "name" | "sha256" | "dtype"> & {
    readonly config: Pick<ModelFile["config"], "numLayers" | "numKvHeads" | "headDim">;
  };
}

/** The description in such a file. */
interface DecisionsInfo extends Fed, Pick<TraceInfo, "model" | "modelSha256"> {
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly plans: { readonly [method: string]: DecisionPlan };
}

const FORMAT = 1;

/** Key of the description in a Parquet file's metadata. */
const KEY = "tokenfilter.decisions";

/** Writes decisions of methods, whole or not at all. @throws {UsageError} If the file cannot be written. */
export async function writeDecisions(
  path: string,
  { file: { name, sha256, config, dtype }, ...fed }: DecidedRun,
  methods: readonly MethodDecisions[],
): Promise<void> {
  const { numLayers, numKvHeads, headDim } = config, version = await readVersion();
  const info = {
    ...{ format: FORMAT, version, model: name, modelSha256: sha256, numLayers, numKvHeads, headDim },
    ...{ ...(dtype && { dtype }), ...fed },
    methods: Object.fromEntries(
      methods.map(({ name, options }) => [name, options ? effectiveOptions(options) : null]),
    ),
    plans: Object.fromEntries(methods.flatMap(({ name, plan }) => plan ? [[name, plan]] : [])),
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

/** Whether a file is of decisions, whole or not. */
export const isOfDecisions = async (path: string): Promise<boolean> =>
  path.endsWith(".json") || new TextDecoder("latin1").decode(await readBytes(path)).includes(KEY);

/** Columns that a replay reads. */
const REPLAYED = ["method", "evictedAt", "skipped", ...DECIDED_PLACES] as const;

/**
 * Reads the decisions of one method, to be replayed.
 *
 * @param name The method's; undefined: the only one of the file.
 * @throws {UsageError} If the file cannot be read, holds no such decisions, or those of several methods and none is named.
 */
export async function readDecisions(
  path: string,
  name: string | undefined,
): Promise<{ readonly info: DecisionsInfo; readonly decisions: Decisions; readonly plan: DecisionPlan }> {
  const bytes = await readBytes(path);
  const { info, columns } =
    await (path.endsWith(".json") ? readJsonColumns(bytes) : readParquetColumns(bytes))
      .catch(({ message }: Error) => {
        throw new UsageError(
          `Cannot read "${path}" as decisions: ${message}, expected a file of score or compare --decisions`,
        );
      });
  const names = Object.keys(info.plans), own = name ?? names[0];
  if (own === undefined) {
    throw new UsageError(
      `Cannot replay "${path}": found decisions on a dump alone, expected those of a model's run`,
    );
  }
  if (!names.includes(own) || name === undefined && names.length > 1) {
    const found = name === undefined ? `${names.length} methods` : `no method ${name}`;
    throw new UsageError(
      `Cannot replay "${path}": found ${found}, expected one of its own (add --replay-method ${
        names.join(" or ")
      })`,
    );
  }
  return { info, plan: info.plans[own]!, decisions: decisionsOf(columns, own) };
}

type Values = ArrayLike<unknown>;
type Columns = { readonly [name in typeof REPLAYED[number]]: Values };

/** Rows of one method. @throws {Error} If a value is none that {@linkcode writeDecisions} writes. */
function decisionsOf(columns: Columns, method: string): Decisions {
  const rows = Array.from(columns.method, (name, row) => name === method ? row : -1).filter((row) =>
    row >= 0
  );
  const decisions = createDecisions(rows.length);
  for (const name of REPLAYED.filter((name) => name !== "method")) {
    rows.forEach((row, i) => decisions[name][i] = Number(columns[name][row] ?? -1));
  }
  return decisions;
}

function expectInfo(info: Partial<DecisionsInfo & { format: number }> | undefined): DecisionsInfo {
  if (info?.format !== FORMAT || info.plans === undefined) {
    throw new Error(`found no "${KEY}" of format ${FORMAT} in it`);
  }
  return info as DecisionsInfo;
}

/** @throws {Error} If a column is missing, or of another length. */
function expectColumns(columns: Partial<Columns> = {}): Columns {
  const missing = REPLAYED.find((name) => columns[name]?.length !== columns.method?.length || !columns[name]);
  if (missing !== undefined) throw new Error(`found no whole column "${missing}"`);
  return columns as Columns;
}

// deno-lint-ignore require-await -- errors as rejections
async function readJsonColumns(bytes: Uint8Array): Promise<{ info: DecisionsInfo; columns: Columns }> {
  const { columns, ...info } = JSON.parse(new TextDecoder().decode(bytes));
  return { info: expectInfo(info), columns: expectColumns(columns) };
}

const readParquetColumns = (bytes: Uint8Array<ArrayBuffer>) =>
  readParquet(bytes, async (source) => {
    const { metadata } = source, count = Number(metadata.num_rows);
    const text = metadata.key_value_metadata?.find(({ key }) => key === KEY)?.value;
    const info = expectInfo(text === undefined ? undefined : JSON.parse(text));
    const names = metadata.schema.slice(1).map(({ name }) => name);
    const missing = REPLAYED.find((name) => !names.includes(name));
    if (missing !== undefined) throw new Error(`found no column "${missing}"`);
    const columns = Object.fromEntries(REPLAYED.map((name) => [name, new Array<unknown>(count)]));
    await parquetRead({
      ...source,
      columns: [...REPLAYED],
      onChunk({ columnName, columnData, rowStart }) {
        const column = columns[columnName]!;
        for (let i = 0; i < columnData.length; i++) column[rowStart + i] = columnData[i];
      },
    });
    return { info, columns: expectColumns(columns) };
  });
