/**
 * `deno task score`: the loss of every token of one sequence, with or without the filter.
 *
 * Made for comparisons with other engines: ids in, losses and masks out. See `deno task score --help`.
 */
import { createTrialPruner, looksAhead, scoreSequence, type Tokenizer, UsageError } from "../mod.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { expectWritable, makeFolder, readJson, writeWhole } from "./cli/files.ts";
import { describeFlags } from "./cli/flags.ts";
import { readMethod } from "./cli/method.ts";
import { readModel } from "./cli/model.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { formatTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask, writeLine } from "./cli/task.ts";
import { readCount, readNamedText } from "./cli/text.ts";

const USAGE = `Usage: deno task score --text FILE | --ids FILE.json [flags]

Prints the loss of every token of one sequence, and its perplexity. Without a flag of the method the model runs dense.
The sequence is not cut: --context has no effect here.

${describeFlags("score")}`;

/** What is to be scored: a text, or ids as they are. */
type Source = { readonly text: string } | { readonly ids: readonly number[]; readonly path: string };

async function readSource(values: FlagValues): Promise<Source> {
  const path = values.get("ids")?.[0] as string | undefined;
  if ((path === undefined) === !values.has("text")) {
    throw new UsageError("Cannot tell what to score: expected either --text FILE or --ids FILE.json");
  }
  if (path === undefined) return { text: (await readNamedText(values)).text };
  const ids = await readJson(path);
  if (!Array.isArray(ids)) throw new UsageError(`Cannot use "${path}": expected a list of token ids`);
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0);
  if (wrong >= 0) {
    throw new UsageError(
      `Cannot use "${path}": found ${JSON.stringify(ids[wrong])} at ${wrong}, expected a token id`,
    );
  }
  if (ids.length < 2) {
    throw new UsageError(`Cannot score "${path}": found ${ids.length} ids, expected at least 2`);
  }
  return { ids, path };
}

function encodeSource(
  source: Source,
  tokenizer: Tokenizer,
  tokens: number | undefined,
): Int32Array<ArrayBuffer> {
  if ("ids" in source) {
    const wrong = source.ids.findIndex((id) => id >= tokenizer.vocabSize);
    if (wrong >= 0) {
      throw new UsageError(
        `Cannot use "${source.path}": found id ${
          source.ids[wrong]
        } at ${wrong}, expected ids below the model's ` +
          `${tokenizer.vocabSize}`,
      );
    }
    return Int32Array.from(source.ids.slice(0, tokens));
  }
  const ids = tokenizer.encode(source.text, { bos: tokenizer.addsBos }).slice(0, tokens);
  if (ids.length < 2) {
    throw new UsageError(`Cannot score a text of ${ids.length} tokens: expected at least 2`);
  }
  return Int32Array.from(ids);
}

function readPhase(values: FlagValues): "prefill" | "decode" {
  const phase = values.get("phase")?.[0] ?? "prefill";
  if (phase === "prefill" || phase === "decode") return phase;
  throw new UsageError(`Cannot use --phase "${phase}": expected prefill or decode`);
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("score", args, false);
  if (values.has("help")) {
    writeLine(Deno.stdout, USAGE);
    return EXIT.ok;
  }
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const phase = readPhase(values);
  const chunk = readCount(values, "chunk", 1);
  const tokens = readCount(values, "tokens", 2);
  readCount(values, "context", 2);
  const method = await readMethod("score", values);
  const source = await readSource(values);
  const folder = values.get("out")?.[0] as string | undefined;
  if (folder !== undefined) expectWritable(folder);
  if (method !== undefined && looksAhead(method) && phase === "decode") {
    throw new UsageError(
      `Cannot decode with ${method.fusion}, ${method.threshold}: it looks ahead, expected --phase prefill`,
    );
  }

  const model = await readModel((values.get("model")?.[0] ?? "tiny") as string, progress);
  const ids = encodeSource(source, model.tokenizer, tokens);
  if (method !== undefined) {
    checkFlags(() => createTrialPruner(model.config, method));
    if (looksAhead(method) && chunk !== undefined && chunk < ids.length) {
      throw new UsageError(
        `Cannot feed ${chunk} of ${ids.length} tokens at a time: ${method.fusion}, ${method.threshold} looks ahead (leave --chunk out)`,
      );
    }
  }
  if (ids.length > model.config.contextLength) {
    writeLine(
      Deno.stderr,
      `Warning: ${ids.length} tokens; the model was trained on ${model.config.contextLength}`,
    );
  }

  const backend = await openBackend(request, progress);
  const llama = model.open(backend);
  const pruner = method && createTrialPruner(model.config, method, { backend });
  progress.start();
  const score = scoreSequence(llama, ids, pruner, {
    phase,
    ...(chunk !== undefined && { chunk }),
    onFeed: (done) => progress.bar(done / ids.length, `${done}/${ids.length} tokens`),
  });
  progress.clear();
  const result = {
    ids: [...ids],
    nll: [...score.nll],
    perplexity: score.perplexity,
    keep: score.keep.map((mask) => [...mask]),
    layers: score.layers,
  };
  if (folder !== undefined) {
    makeFolder(folder);
    await writeWhole(`${folder}/score.json`, JSON.stringify(result) + "\n");
  }
  if (values.has("json")) {
    writeLine(Deno.stdout, JSON.stringify(result));
    return EXIT.ok;
  }
  writeLine(
    Deno.stdout,
    formatTable({
      columns: ["position", "id", "piece", "nll", "skipped layers"],
      rows: result.ids.map((id, t) => [
        String(t),
        String(id),
        JSON.stringify(model.tokenizer.piece(id)),
        t === 0 ? "-" : score.nll[t - 1]!.toFixed(4),
        score.layers.filter((_, i) => score.keep[i]![t] === 0).join(" "),
      ]),
      left: [false, false, true, false, true],
    }),
  );
  writeLine(
    Deno.stdout,
    `\nPerplexity ${score.perplexity.toFixed(4)} over ${score.nll.length} tokens of ${model.name}`,
  );
  return EXIT.ok;
}

if (import.meta.main) await runTask(main);
