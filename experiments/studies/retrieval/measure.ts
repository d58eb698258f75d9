/**
 * Measures rules with and without whole layers and heads, on texts in chunks and on needles. Each finished trial is a line
 * of results/trials/SET.jsonl; the same command continues a set.
 *
 * usage: deno run -A experiments/studies/retrieval/measure.ts DATA SET… [--threads N] [--together N]
 *
 * DATA has the texts of experiments/studies/texts.ts. `--together`: trials that take turns on each chunk, so that the full
 * model's logits are computed once for all of them.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../../ffi/mod.ts";
import { encodeItems, findTask, ItemScorer, readItems } from "../../../lib/eval/mod.ts";
import { mean } from "../../../lib/math/mean.ts";
import { createPruner, type MethodOptions, type Pruner, resolveOptions } from "../../../lib/methods/mod.ts";
import { type LoadedModel, loadModel, retrievalScores } from "../../../lib/model/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readVersion } from "../../../lib/version.ts";
import { exists } from "../../commands/cli/files.ts";
import { type NeedleSet, parseTrial, SETS, type TextSet } from "./sets.ts";

type Loaded = LoadedModel & { readonly backend: Awaited<ReturnType<typeof openCpu>> };
type Run = (trials: readonly string[], keep: (trial: string, measured: object) => void) => Promise<void>;

const round = (value: number) => Number(value.toPrecision(7));

/** The pruner of a trial, and the fraction of the cache that it holds at the end of a sequence. */
const prunerOf = (loaded: Loaded, options: MethodOptions) =>
  createPruner("token-filtering", loaded.config, resolveOptions(options), {
    backend: loaded.backend,
    retrieval: retrievalScores(loaded),
  });

/** Means of each chunk: loss, KL and top-1 agreement with the full model. */
async function openText(loaded: Loaded, set: TextSet, data: string): Promise<{ head: object; run: Run }> {
  const whole = await Deno.readTextFile(`${data}/${set.file}`);
  const text = whole.slice(set.fromCharacter ?? 0);
  const { model, tokenizer } = loaded, { context } = set;
  const ids = tokenizer.encode(text.slice(0, 8 * set.tokens)).slice(0, set.tokens);
  // Each chunk begins with BOS where the model was trained so.
  const evaluation = findTask(tokenizer.addsBos ? "perplexity_bos" : "perplexity")
    .open(model, { text, ids, context, tokenizer });
  const dense: number[] = [];
  await evaluation.dense({ onLosses: (chunk, losses) => void (dense[chunk] = round(mean(losses))) });
  const run: Run = async (trials, keep) => {
    await Promise.all(trials.map(async (trial) => {
      const loss: number[] = [], kl: number[] = [], top1: number[] = [];
      const found = await evaluation.run(prunerOf(loaded, parseTrial(trial, set)), {
        onLosses: (chunk, losses, _, metrics) => {
          loss[chunk] = round(mean(losses));
          kl[chunk] = round(mean(metrics["kl"]!));
          top1[chunk] = round(mean(metrics["top1Agreement"]!));
        },
      });
      const { kvBytesHeld, kvBytesAvoided } = found;
      keep(trial, { retained: round(kvBytesHeld / (kvBytesHeld + kvBytesAvoided)), loss, kl, top1 });
    }));
  };
  const idsSha256 = await sha256(JSON.stringify([...ids]));
  return { head: { textSha256: await sha256(whole), idsSha256, dense }, run };
}

/** Whether each needle is found: 1 or 0. */
async function openNeedles(loaded: Loaded, set: NeedleSet): Promise<{ head: object; run: Run }> {
  const source = findTask("needle").items!, [main] = source.metrics;
  const text = JSON.stringify({ count: set.items, tokens: set.tokens, seed: 0 });
  const encoded = encodeItems(
    readItems("needle", source, { name: "made items", text }, loaded).items,
    loaded,
  );
  const ids = encoded.map(({ requests }) =>
    requests.map(({ context, continuation }) => [[...context], [...continuation]])
  );
  const score = (trial: string) => {
    const options = parseTrial(trial, set);
    const openPruner = (block: number | undefined) =>
      prunerOf(loaded, block === undefined ? options : { ...options, block } as MethodOptions);
    const pruners = new Map<number | undefined, Pruner | undefined>();
    using scorer = new ItemScorer(
      loaded.model,
      trial === "dense"
        ? undefined
        : (contextTokens) => pruners.getOrInsertComputed(set.once ? contextTokens : undefined, openPruner),
    );
    let held = 0, all = 0;
    const found = encoded.map((item) => {
      const scored = scorer.score(item);
      held += scored.usage.kvBytesHeld;
      all += scored.usage.kvBytesHeld + scored.usage.kvBytesAvoided;
      return main.of(item.item, scored);
    });
    return { retained: round(held / all), found };
  };
  return {
    head: { promptsSha256: await sha256(JSON.stringify(ids)) },
    run: async (trials, keep) => {
      for (const trial of trials) await Promise.resolve(keep(trial, score(trial)));
    },
  };
}

if (import.meta.main) {
  const flags = parseArgs(Deno.args, { string: ["threads", "together"] });
  const [data, ...names] = flags._.map(String);
  if (data === undefined || names.length === 0 || names.some((name: string) => !Object.hasOwn(SETS, name))) {
    console.error(`Cannot measure: expected DATA SET…, sets ${Object.keys(SETS).join(", ")}`);
    Deno.exit(2);
  }
  const threads = flags.threads === undefined ? undefined : Number(flags.threads);
  const together = Number(flags.together ?? 1), backend = await openCpu({ threads, build: true });
  for (const name of names) {
    const set = SETS[name]!, path = new URL(`results/trials/${name}.jsonl`, import.meta.url);
    const lines = exists(path) ? (await Deno.readTextFile(path)).trimEnd().split("\n") : [];
    const done = new Set(lines.slice(1).map((line) => JSON.parse(line).trial));
    const left = set.trials.filter((trial) => !done.has(trial));
    if (left.length === 0) continue;
    const loaded = { ...await loadModel(set.model, backend, { onNotice: console.error }), backend };
    const { head, run } = set.items === undefined
      ? await openText(loaded, set, data)
      : await openNeedles(loaded, set);
    const conditions = JSON.stringify({
      ...{ ...set, trials: undefined, modelSha256: loaded.sha256, ...head },
      ...{ version: await readVersion(), platform: `${Deno.build.os} ${Deno.build.arch}` },
      backend: backend.description,
    });
    if (lines.length === 0) await Deno.writeTextFile(path, conditions + "\n");
    else if (lines[0] !== conditions) {
      throw new Error(`Cannot continue ${fileURLToPath(path)}: found other conditions in its first line`);
    }
    for (let i = 0; i < left.length; i += together) {
      await run(left.slice(i, i + together), (trial, measured) => {
        Deno.writeTextFileSync(path, JSON.stringify({ trial, ...measured }) + "\n", { append: true });
        console.error(`${new Date().toISOString()} ${name}: ${trial}`);
      });
    }
  }
}
