/**
 * `deno task filter`: the decision recurrence alone, on keys and values that any engine has dumped.
 *
 * `experiments/dump_kv.py` shows how to write such a dump. See `deno task filter --help`.
 */
import { UsageError } from "../lib/errors.ts";
import { createLayerState, createScanOutput, filterOps, type LayerSpec } from "../lib/filter/mod.ts";
import { fromBf16, fromF16 } from "../lib/half.ts";
import {
  isRule,
  methodOf,
  readsOf,
  type ResolvedOptions,
  resolveOptions,
  TokenFilter,
  type TokenFilterOptions,
} from "../lib/methods/mod.ts";
import { parseSafetensors } from "../lib/model/mod.ts";
import type { HostTensor } from "../lib/tensor.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { expectWritable, makeFolder, readBytes, writeWhole } from "./cli/files.ts";
import { describeFlags } from "./cli/flags.ts";
import { readMethod, tellHostRules } from "./cli/method.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { printTable, readTable } from "./cli/table.ts";
import { EXIT, runTask } from "./cli/task.ts";
import { readCount } from "./cli/text.ts";

const USAGE = `Usage: deno task filter --kv DUMP.safetensors [flags]

Decides for every token of a dump whether its attention would be skipped: keys and values of one layer and sequence,
[T, H, d]. The dump counts as a layer of its own: --prune-ratio stands in for --skip-ratio, and flags that plan layers
or concern a model have no effect.

${describeFlags("filter")}`;

/** Keys and values of one layer. */
interface Dump {
  readonly keys: HostTensor;
  readonly values: HostTensor;
}

async function readDump(values: FlagValues): Promise<Dump> {
  const path = values.get("kv")?.[0] as string | undefined;
  if (path === undefined) throw new UsageError("Cannot tell what to filter: expected --kv DUMP.safetensors");
  const { tensors } = parseSafetensors(await readBytes(path), path, ["keys", "values"]);
  const keys = tensors.get("keys")!, dumped = tensors.get("values")!;
  if (keys.shape.length !== 3 || keys.shape.some((size) => size < 1)) {
    throw new UsageError(
      `Cannot use "${path}": found keys of shape [${keys.shape}], expected [T, H, d], all at least 1`,
    );
  }
  if (String(keys.shape) !== String(dumped.shape) || keys.dtype !== dumped.dtype) {
    throw new UsageError(
      `Cannot use "${path}": found keys ${keys.dtype} [${keys.shape}] and values ${dumped.dtype} [${dumped.shape}], ` +
        "expected both alike",
    );
  }
  for (const [name, tensor] of [["keys", keys], ["values", dumped]] as const) {
    expectFinite(path, name, tensor);
  }
  return { keys, values: dumped };
}

function expectFinite(path: string, name: string, { dtype, data, shape }: HostTensor): void {
  const decode = dtype === "f16" ? fromF16 : dtype === "bf16" ? fromBf16 : (x: number) => x;
  const wrong = (data as Float32Array).findIndex((x) => !Number.isFinite(decode(x)));
  if (wrong < 0) return;
  const token = Math.floor(wrong / (shape[1]! * shape[2]!));
  throw new UsageError(
    `Cannot use "${path}": found ${
      decode(data[wrong]!)
    } in ${name} of token ${token}, expected finite numbers`,
  );
}

/** The share to skip: of `--skip-ratio`, else of `--prune-ratio`, else one half. */
function readSkipRatio(values: FlagValues, method: ResolvedOptions): number {
  const ratio = values.get("skip-ratio")?.[0] as number | undefined;
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

/** What is told of every token, in its order. */
const COLUMNS = ["redundancy", "threshold", "keep", "muK", "varK", "muV", "varV", "wK"] as const;

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("filter", args, false);
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const method = await readMethod("filter", values) ?? resolveOptions();
  const skipRatio = readSkipRatio(values, method);
  const table = readTable(values, ["token", ...COLUMNS]);
  const layer = readCount(values, "layer", 0) ?? 0;
  if (layer > MAX_LAYER) throw new UsageError(`Cannot use --layer ${layer}: expected at most ${MAX_LAYER}`);
  const tokens = readCount(values, "tokens", 1);
  const folder = values.get("out")?.[0] as string | undefined;
  if (folder !== undefined) expectWritable(folder);
  const dump = await readDump(values);
  const spec = planDump(dump, method, skipRatio, layer);

  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, [method]);
  const count = Math.min(tokens ?? Infinity, dump.keys.shape[0]!);
  const output = createScanOutput(count);
  const input = { keys: backend.upload(dump.keys), values: backend.upload(dump.values) };
  const state = createLayerState(spec), { scan } = filterOps(spec.rule, backend);
  for (let start = 0; start < count;) {
    start += scan(spec, state, input, start, count - start, output);
  }

  const orNull = (x: number) => Number.isNaN(x) ? null : x;
  const result = Object.fromEntries(COLUMNS.map((name) => [name, Array.from(output[name], orNull)]));
  if (folder !== undefined) {
    makeFolder(folder);
    await writeWhole(`${folder}/filter.json`, JSON.stringify(result) + "\n");
  }
  const shown = (x: number | null, name: string) =>
    x === null ? "-" : name === "keep" ? String(x) : x.toFixed(4);
  const decided = Math.max(count - Math.max(spec.warmup, 1), 0);
  const skipped = result.keep!.filter((keep) => keep === 0).length;
  const records = Array.from({ length: count }, (_, t) => ({
    token: t,
    ...Object.fromEntries(COLUMNS.map((name) => [name, result[name]![t]!])),
  }));
  await printTable(
    {
      columns: ["token", ...COLUMNS],
      rows: records.map((record) =>
        Object.entries(record).map(([name, x]) => name === "token" ? String(x) : shown(x, name))
      ),
      left: [],
    },
    table,
    {
      json: () => JSON.stringify(result),
      records,
      notes: [`Skipped ${skipped} of ${decided} tokens after the warm-up; asked for ${skipRatio}`],
    },
  );
  return EXIT.ok;
}

/** Layer numbers are 32-bit in the native code; `random` hashes 24 bits of them. */
const MAX_LAYER = 2 ** 24 - 1;

if (import.meta.main) await runTask(main, USAGE);
