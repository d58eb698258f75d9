/** Decision tables as Parquet files: columns of numbers, with a description of the run in the file's metadata. */
import { parquetRead } from "hyparquet";
import { type ColumnSource, parquetWriteBuffer } from "hyparquet-writer";
import type { Backend } from "../../../lib/backend.ts";
import type { CacheDType, WeightDType } from "../../../lib/dtype.ts";
import { UsageError } from "../../../lib/errors.ts";
import type { HeadParts } from "../../../lib/filter/option.ts";
import {
  createDecisionTable,
  DECISION_NUMBERS,
  DECISION_PLACES,
  type DecisionTable,
} from "../../../lib/heads/trace.ts";
import {
  effectiveOptions,
  nonCausal,
  readsOf,
  type ResolvedOptions,
} from "../../../lib/methods/bind/options.ts";
import { keyRuleOf } from "../../../lib/methods/bind/sides.ts";
import { substituteOf } from "../../../lib/methods/bind/substitute.ts";
import { methodOf } from "../../../lib/methods/list.ts";
import type { AnyRule } from "../../../lib/methods/protocol/method.ts";
import type { Substitute } from "../../../lib/methods/protocol/pruner.ts";
import { SIGNALS } from "../../../lib/methods/protocol/signals.ts";
import { readBytes } from "../cli/files.ts";
import { type ParquetSource, readParquet } from "../cli/parquet.ts";
import type { ModelFile } from "../../../lib/model/open.ts";

export interface TraceInfo {
  readonly format: 1;
  readonly version: string;
  /** `dense`: decisions that were not carried out; `filtered`: decisions of a run. */
  readonly stream: "dense" | "filtered";
  readonly model: string;
  readonly modelSha256: string;
  readonly method: Readonly<Record<string, unknown>>;
  /** Tokens kept at the start of a sequence. */
  readonly warmup: number;
  /** Number of tokens for which a skipped token's key and value stay visible. */
  readonly recent: number;
  /** Whether skipped tokens enter the KV cache. */
  readonly cacheSkipped: boolean;
  /** The substitute for skipped outputs; nothing where it is left out. */
  readonly substitute?: Substitute;
  /** Whether the warm-up went through all layers first; not where it is left out. */
  readonly warmsUpFirst?: boolean;
  readonly whole: boolean;
  /** Whether the queries of all tokens were computed. */
  readonly queries: boolean;
  readonly phase: "prefill" | "decode";
  /** Tokens per piece of a prefill; null = all at once. */
  readonly piece: number | null;
  readonly cacheDType: CacheDType;
  /** Element type that the model's matrices were turned into; left out: as the file has them. */
  readonly dtype?: WeightDType;
  /** Rounding in matrix multiplications with weights; left out: none. */
  readonly products?: Backend["products"];
  /**
   * Where keys and values were decided by a rule of their own: tokens per block, and whether by attention received. Per
   * layer in which some KV heads kept everything: those heads, and the others.
   */
  readonly keySide?: {
    readonly block: number;
    readonly wantsAttention: boolean;
    readonly heads?: { readonly [layer: string]: HeadParts };
  };
}

/** The description of a model and a method in a trace; the task adds the rest. */
export function traceInfo(
  { name, sha256, dtype }: Pick<ModelFile, "name" | "sha256" | "dtype">,
  method: ResolvedOptions,
  { heads, ...rest }:
    & Pick<TraceInfo, "version" | "stream" | "queries" | "phase" | "piece" | "cacheDType" | "products">
    & { readonly heads?: ReadonlyMap<number, HeadParts> | undefined },
): TraceInfo {
  const { warmup, recent } = method, options = effectiveOptions(method);
  const whole = nonCausal(method), keyRule = keyRuleOf(method);
  return {
    format: 1,
    model: name,
    modelSha256: sha256,
    ...(dtype && { dtype }),
    method: options,
    warmup,
    recent,
    cacheSkipped: method.kvFusion !== "same",
    substitute: substituteOf(method),
    warmsUpFirst: method.schedule === "allocated",
    whole,
    ...(keyRule !== undefined && {
      keySide: {
        block: method.block,
        wantsAttention: SIGNALS.some((name) => readsOf(methodOf(keyRule) as AnyRule, method).includes(name)),
        ...(heads && { heads: Object.fromEntries(heads) }),
      },
    }),
    ...rest,
  };
}

/** Key of {@linkcode TraceInfo} in the file's metadata. */
const KEY = "tokenfilter.trace";

const isDouble = (name: string) => name === "score" || name === "threshold";

/** Columns of a table, in their order in the file. Cosines, moments and r in 32 bits, scores and thresholds in 64. */
function columnsOf(table: DecisionTable): ColumnSource[] {
  // Compression shrinks counters and decisions, but not measurements.
  const single = (name: string, data: ArrayLike<number>): ColumnSource => ({
    name,
    data: Float32Array.from(data),
    type: "FLOAT",
    nullable: false,
    codec: "UNCOMPRESSED",
    statistics: false,
  });
  return [
    ...DECISION_PLACES.map((name): ColumnSource => ({
      name,
      data: table[name],
      type: "INT32",
      nullable: false,
    })),
    ...table.sK.map((data, head) => single(`sK_${head}`, data)),
    ...table.sV.map((data, head) => single(`sV_${head}`, data)),
    ...DECISION_NUMBERS.map((name): ColumnSource =>
      isDouble(name) ? { ...single(name, []), data: table[name], type: "DOUBLE" } : single(name, table[name])
    ),
    { name: "keep", data: Array.from(table.keep, (keep) => keep !== 0), type: "BOOLEAN", nullable: false },
    ...(table.r === undefined ? [] : [single("r", table.r)]),
  ];
}

export function traceBytes(table: DecisionTable, info: TraceInfo): Uint8Array {
  return new Uint8Array(parquetWriteBuffer({
    columnData: columnsOf(table),
    kvMetadata: [{ key: KEY, value: JSON.stringify(info) }],
    rowGroupSize: 65_536,
    createdBy: `tokenfilter ${info.version}`,
  }));
}

/**
 * Reads a table that {@linkcode traceBytes} made.
 *
 * @throws {UsageError} If the file cannot be read, is not Parquet, or holds no such table.
 */
export async function readTrace(path: string): Promise<{ table: DecisionTable; info: TraceInfo }> {
  const bytes = await readBytes(path);
  try {
    return await readParquet(bytes, readTable);
  } catch (error) {
    const { message } = error as Error;
    throw new UsageError(
      `Cannot read "${path}" as a trace: ${message}, expected a file of heads or score --trace`,
    );
  }
}

async function readTable(source: ParquetSource): Promise<{ table: DecisionTable; info: TraceInfo }> {
  const { metadata } = source;
  const text = metadata.key_value_metadata?.find(({ key }) => key === KEY)?.value;
  // Traces without the type of their cache are older than the flag: it was f32.
  const info = text === undefined ? undefined : { cacheDType: "f32", ...JSON.parse(text) } as TraceInfo;
  if (info?.format !== 1) throw new Error(`found no "${KEY}" of format 1 in its metadata`);
  if (info.phase !== "prefill" && info.phase !== "decode") throw new Error(`found phase "${info.phase}"`);
  if (!["f32", "f16", "bf16"].includes(info.cacheDType)) {
    throw new Error(`found a cache of ${info.cacheDType}, expected f32, f16 or bf16`);
  }
  const names = metadata.schema.slice(1).map(({ name }) => name);
  // Traces without a side are older than keys and values that are decided apart: they are of queries.
  const needed = DECISION_PLACES.filter((name) => name !== "side");
  const missing = [...needed, ...DECISION_NUMBERS, "keep"].find((name) => !names.includes(name));
  if (missing !== undefined) throw new Error(`found no column "${missing}"`);
  const table = createDecisionTable(Number(metadata.num_rows), {
    heads: names.filter((name) => name.startsWith("sK_")).length,
    hasRedundancy: names.includes("r"),
  });
  let wrong: string | undefined; // an error in the reader's callback would be lost
  await parquetRead({
    ...source,
    onChunk: ({ columnName, columnData, rowStart }) => {
      const [name, head] = columnName.split("_");
      const column = table[name as "sK" | "score"];
      const target = Array.isArray(column) ? column[Number(head)] : column;
      const isWhole = [...DECISION_PLACES, "keep"].some((whole) => whole === name);
      for (let i = 0; i < columnData.length; i++) {
        const value = Number(columnData[i]);
        if (columnData[i] === null || isWhole && !Number.isInteger(value)) {
          wrong ??= `found ${columnData[i]} in column "${columnName}" at row ${rowStart + i}`;
        }
        target[rowStart + i] = value;
      }
    },
  });
  if (wrong !== undefined) throw new Error(wrong);
  return { table, info };
}
