/**
 * `deno task filter`: the decision recurrence alone, on keys and values that any engine has dumped.
 *
 * `experiments/dump_kv.py` shows how to write such a dump. See `deno task filter --help`.
 */
import type { Backend } from "../lib/backend.ts";
import { UsageError } from "../lib/errors.ts";
import { createLayerState, createScanOutput, filterOps, type LayerSpec } from "../lib/filter/mod.ts";
import {
  isRule,
  methodOf,
  readsOf,
  type ResolvedOptions,
  resolveOptions,
  TokenFilter,
  type TokenFilterOptions,
} from "../lib/methods/mod.ts";
import { collectScoreTimeline, plotScoreTimeline, readPlotly, renderFigurePage } from "../lib/plot/mod.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { expectWritable, makeFolder, writeWhole } from "./cli/files.ts";
import { describeTask } from "./cli/flags.ts";
import { readMethod, tellHostRules } from "./cli/method.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { type PlainTable, printTable, readTable } from "./cli/table.ts";
import { EXIT, runTask } from "./cli/task.ts";
import { readCount } from "./cli/text.ts";
import { type Dump, readDumps } from "./filter/dump.ts";

const USAGE = describeTask(
  "filter",
  `deno task filter --kv DUMP.safetensors [flags]

Decides for every token of a dump whether its attention would be skipped, and prints a line a layer; --all prints every
token. A dump holds keys and values of one sequence, [T, H, d]: tensors "keys" and "values" of one layer, or "keys.N" and
"values.N" of each layer N. Each layer skips the same share: --skip-ratio, or --prune-ratio, not both. --out keeps
filter.json and a page of scores and thresholds.`,
  [
    "--kv DUMP.safetensors",
    "--kv DUMP.safetensors --skip-ratio 0.3 --out DIR",
    "--kv DUMP.safetensors --layer 12 --all --csv FILE",
  ],
);

/** The share to skip: of `--skip-ratio`, else of `--prune-ratio`, else one half. */
function readSkipRatio(values: FlagValues, method: ResolvedOptions): number {
  const ratio = values.get("skip-ratio")?.[0] as number | undefined;
  if (ratio !== undefined && values.has("prune-ratio")) {
    throw new UsageError(
      "Cannot use --skip-ratio with --prune-ratio: expected one of them, they say the same here",
    );
  }
  if (ratio !== undefined && !(ratio >= 0 && ratio <= 1)) {
    throw new UsageError(`Cannot use --skip-ratio ${ratio}: expected a number in [0, 1]`);
  }
  return ratio ?? method.pruneRatio;
}

/** What a rule can look at in a dump. */
const DUMPED: readonly string[] = ["similarity", "key", "value"];

/** The dump's layer as the filter sees it. */
function planDump({ keys }: Dump, method: ResolvedOptions, skipRatio: number, layer: number): LayerSpec {
  const { fusion } = method, rule = methodOf(fusion);
  if (!isRule(rule) || readsOf(rule, method).some((what) => !DUMPED.includes(what))) {
    throw new UsageError(
      `Cannot run --fusion ${fusion} on a dump: it needs more than keys and values (use deno task score)`,
    );
  }
  const [, numKvHeads, headDim] = keys.shape as [number, number, number];
  const shape = { numLayers: 1, numHeads: numKvHeads, numKvHeads, headDim, hiddenSize: numKvHeads * headDim };
  const options = { ...method, schedule: "explicit", skipRatios: [1] } as TokenFilterOptions;
  const filter = new TokenFilter(shape, options);
  return { ...filter.specs[0]!, skipRatio, layer };
}

/** What is told of every token, in its order, and what it is. */
const COLUMNS = {
  redundancy: "score S of the rule, high = like the past",
  threshold: "score above which a token is skipped, before this token",
  keep: "1 = attention is computed, 0 = skipped",
  muK: "mean over heads of the keys' cosines with their anchors",
  varK: "variance over heads of the same",
  muV: "as muK, of the values",
  varV: "as varK, of the values",
  wK: "weight of the keys in the score, 0 to 1",
} as const;

type Column = keyof typeof COLUMNS;
const NAMES = Object.keys(COLUMNS) as Column[];

/** What was decided in one layer. */
interface Decided {
  readonly layer: number;
  readonly columns: { readonly [name in Column]: readonly (number | null)[] };
}

function decide(dump: Dump, spec: LayerSpec, tokens: number | undefined, backend: Backend): Decided {
  const count = Math.min(tokens ?? Infinity, dump.keys.shape[0]!);
  const output = createScanOutput(count);
  const input = { keys: backend.upload(dump.keys), values: backend.upload(dump.values) };
  const state = createLayerState(spec), { scan } = filterOps(spec.rule, backend);
  for (let start = 0; start < count;) {
    start += scan(spec, state, input, start, count - start, output);
  }
  backend.free(input.keys);
  backend.free(input.values);
  const orNull = (x: number) => Number.isNaN(x) ? null : x;
  const columns = Object.fromEntries(NAMES.map((name) => [name, Array.from(output[name], orNull)]));
  return { layer: spec.layer, columns: columns as unknown as Decided["columns"] };
}

type Row = { readonly [name: string]: number | null };

/** A row a layer. */
function summarize({ layer, columns: { keep, redundancy, threshold } }: Decided, warmup: number): Row {
  const first = Math.max(warmup, 1), decided = Math.max(keep.length - first, 0);
  const skipped = keep.filter((kept) => kept === 0).length;
  const mean = (values: readonly (number | null)[]) => {
    const known = values.slice(first).filter((x) => x !== null);
    return known.length === 0 ? null : known.reduce((a, b) => a + b, 0) / known.length;
  };
  return {
    ...{ layer, tokens: keep.length, decided, skipped, share: decided === 0 ? null : skipped / decided },
    ...{ "mean score": mean(redundancy), "mean threshold": mean(threshold) },
  };
}

const SUMMARY = {
  layer: "the dump's layer",
  tokens: "of the dump",
  decided: "tokens after the warm-up",
  skipped: "tokens whose attention is skipped",
  share: "skipped of decided",
  "mean score": "of decided tokens; high = like the past",
  "mean threshold": "score above which a token is skipped",
};

/** Columns that hold whole numbers. */
const WHOLE = new Set(["layer", "token", "keep", "tokens", "decided", "skipped"]);

function tabulateRows(rows: readonly Row[], hints: { readonly [name: string]: string }): PlainTable {
  const columns = Object.keys(hints);
  const shown = (x: number | null, name: string) =>
    x === null ? "-" : WHOLE.has(name) ? String(x) : x.toFixed(4);
  return {
    columns,
    hints: Object.values(hints),
    rows: rows.map((row) => columns.map((name) => shown(row[name]!, name))),
    left: [],
  };
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("filter", args, false);
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const method = await readMethod("filter", values) ?? resolveOptions();
  const skipRatio = readSkipRatio(values, method);
  const asked = readCount(values, "layer", 0);
  if (asked !== undefined && asked > MAX_LAYER) {
    throw new UsageError(`Cannot use --layer ${asked}: expected at most ${MAX_LAYER}`);
  }
  const tokens = readCount(values, "tokens", 1);
  const all = values.has("all"),
    hints = all ? { layer: SUMMARY.layer, token: "its place", ...COLUMNS } : SUMMARY;
  const table = readTable(values, Object.keys(hints));
  const folder = values.get("out")?.[0] as string | undefined;
  if (folder !== undefined) expectWritable(folder);
  const path = values.get("kv")?.[0] as string | undefined;
  if (path === undefined) throw new UsageError("Cannot tell what to filter: expected --kv DUMP.safetensors");
  const dumps = await readDumps(path, asked);
  const specs = dumps.map((dump) => planDump(dump, method, skipRatio, dump.layer ?? asked ?? 0));

  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, [method]);
  const layers = dumps.map((dump, i) => {
    progress.bar(i / dumps.length, `${i}/${dumps.length} layers`);
    return decide(dump, specs[i]!, tokens, backend);
  });
  progress.clear();
  const isSingle = dumps[0]!.layer === undefined;
  const json = JSON.stringify(
    isSingle ? layers[0]!.columns : { layers: layers.map(({ layer, columns }) => ({ layer, ...columns })) },
  );
  if (folder !== undefined) {
    makeFolder(folder);
    await writeWhole(`${folder}/filter.json`, `${json}\n`);
    const traces = layers.map(({ layer, columns }) => ({
      layer,
      ...columns,
      keep: columns.keep as number[],
    }));
    const figures = [plotScoreTimeline(collectScoreTimeline(traces, { warmup: method.warmup }))];
    const title = `Token Filtering of ${path.split(/[/\\]/).at(-1)}: ${method.fusion}`;
    await writeWhole(
      `${folder}/filter.html`,
      renderFigurePage(figures, { title, plotly: await readPlotly() }),
    );
  }
  const rows = all
    ? layers.flatMap(({ layer, columns }) =>
      columns.keep.map((_, token): Row => ({
        ...{ layer, token },
        ...Object.fromEntries(NAMES.map((name) => [name, columns[name][token]!])),
      }))
    )
    : layers.map((decided) => summarize(decided, method.warmup));
  const total = (name: string) => layers.reduce((sum, one) => sum + summarize(one, method.warmup)[name]!, 0);
  await printTable(tabulateRows(rows, hints), table, {
    spare: all ? ["wK", "varV", "varK"] : [],
    json: () => json,
    records: rows,
    notes: [
      `Skipped ${total("skipped")} of ${total("decided")} tokens after the warm-up; asked for ${skipRatio}`,
      ...(all ? [] : ["Every token: --all."]),
      ...(folder === undefined ? [] : [`Report: ${folder}/filter.html`]),
    ],
  });
  return EXIT.ok;
}

/** Layer numbers are 32-bit in the native code; `random` hashes 24 bits of them. */
const MAX_LAYER = 2 ** 24 - 1;

if (import.meta.main) await runTask(main, USAGE);
