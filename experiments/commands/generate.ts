/**
 * `deno task generate`: continues a text with the filter, without it, or both ways side by side.
 *
 * See `deno task generate --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { nonCausal } from "../../lib/methods/bind/options.ts";
import { Sampler, SAMPLING, type SamplingOptions } from "../../lib/model/generate/sampler.ts";
import { type ChatMessage, encodeChat } from "../../lib/model/tokenizer/chat.ts";
import type { Tokenizer } from "../../lib/model/tokenizer/tokenizer.ts";
import { readText } from "./cli/files.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { type Flags as FlagTable, integer, onOff, pick, rarely, text, under } from "./cli/flags/flag.ts";
import { RUN_FAST, TABLE } from "./cli/flags/flags.ts";
import { BUDGET, readBudget } from "./cli/flags/budget.ts";
import { readMethod } from "./cli/flags/method.ts";
import { flagOf, METHOD } from "./cli/flags/method_flags.ts";
import { type FlagValues, textOf } from "./cli/flags/parse.ts";
import { withRule } from "./cli/flags/rule.ts";
import { readCount } from "./cli/flags/text.ts";
import { readBackend } from "./cli/machine/backend.ts";
import { warnOfLength } from "./cli/machine/model.ts";
import type { Progress } from "./cli/output/progress.ts";
import { formatTable, listLegend } from "./cli/output/table.ts";
import { lineWidth, wrapLines } from "./cli/output/terminal.ts";
import { openEngine } from "./cli/run/engine.ts";
import { Interrupt } from "./cli/run/interrupt.ts";
import { checkFlags, EXIT, flagName, giveUp, runCommand, writeLine, writeText } from "./cli/task.ts";
import { describeParting, describeRun, recordRuns, tabulateRuns, warnOfNothing } from "./generate/outcome.ts";
import { type GeneratedText, runGeneration } from "./generate/run.ts";
import { type Asked, plainCommand } from "./run.ts";

/** Most tokens to make, by default. */
const MAX_TOKENS = 128;

const SAMPLING_FLAGS: FlagTable = Object.fromEntries(
  Object.entries(SAMPLING).map(([name, row]) => {
    const { option: _, ...flag } = flagOf(name, row);
    return [flagName(name), { ...flag, isRare: false }];
  }),
);

/** The prompt of `--prompt` or `--text`. */
async function readPrompt(values: FlagValues): Promise<string> {
  const prompt = textOf(values, "prompt"),
    path = textOf(values, "text");
  if ((prompt === undefined) === (path === undefined)) {
    const found = prompt === undefined ? "no prompt" : "two prompts";
    throw new UsageError(
      `Cannot generate a text: found ${found}, expected either --prompt TEXT or --text FILE`,
    );
  }
  return prompt ?? await readText(path!);
}

/** The messages of `--chat`; undefined where the prompt is a text. */
function readChat(values: FlagValues, content: string): readonly ChatMessage[] | undefined {
  const system = textOf(values, "system");
  if (!values.has("chat")) {
    if (system === undefined) return undefined;
    throw new UsageError("Cannot use --system: expected --chat too");
  }
  return [...system === undefined ? [] : [{ role: "system", content: system }], { role: "user", content }];
}

/** A prompt as it is, or as a message of a conversation. */
function encodePrompt(tokenizer: Tokenizer, text: string, chat: readonly ChatMessage[] | undefined) {
  const ids = chat === undefined ? tokenizer.encode(text) : encodeChat(tokenizer, chat);
  if (ids.length > 0) return ids;
  throw new UsageError(
    "Cannot go on with an empty prompt: the model begins no text by itself, expected words",
  );
}

/** The options that were given. @throws {UsageError} If one is out of its range. */
function readSampling(values: FlagValues): SamplingOptions {
  const given = Object.keys(SAMPLING).flatMap((name) => {
    const value = values.get(flagName(name))?.[0];
    return value === undefined ? [] : [[name, value] as const];
  });
  const options: SamplingOptions = Object.fromEntries(given);
  checkFlags(() => new Sampler(options));
  return options;
}

/** Reads the flags. @throws {UsageError} If they do not go together. */
async function readFlags({ values }: Asked) {
  const request = readBackend(values, "fast");
  const asJson = values.has("json"), showsFull = values.has("full-model"), sampling = readSampling(values);
  const maxTokens = readCount(values, "max-tokens", 1) ?? MAX_TOKENS;
  const method = await readMethod(values);
  if (method !== undefined && nonCausal(method)) {
    throw new UsageError(
      `Cannot go on with a text by ${method.fusion}, ${method.threshold}: it is non-causal, expected a causal method`,
    );
  }
  if (showsFull && method === undefined) {
    throw new UsageError("Cannot use --full-model: expected a flag of the method (--method, --preset)");
  }
  const budgeted = readBudget(values, method);
  const prompt = await readPrompt(values), chat = readChat(values, prompt);
  return {
    request,
    asJson,
    showsFull,
    sampling,
    maxTokens,
    method,
    budgeted,
    prompt,
    chat,
    ignoresEnd: values.has("ignore-end"),
  };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;
type Engine = Awaited<ReturnType<typeof openEngine>>;

/** Makes the texts in turn, and shows them as they grow. @throws The signal's reason, if it is aborted in a fit. */
async function makeTexts(flags: Flags, engine: Engine, progress: Progress, signal: AbortSignal) {
  const { asJson, showsFull, chat, prompt, sampling, maxTokens, method } = flags;
  const { file: { tokenizer }, ids, model, pruner } = engine;
  const show = (text: string) => asJson || writeText(Deno.stdout, text);
  const endIds = flags.ignoresEnd ? new Set<number>() : tokenizer.endIds, runs: GeneratedText[] = [];
  for (const name of showsFull ? ["dense", "filtered"] as const : [method ? "filtered" : "dense"] as const) {
    if (signal.aborted) break;
    if (showsFull) show(`${runs.length === 0 ? "" : "\n"}${name}:\n`);
    if (chat === undefined) show(prompt);
    progress.start();
    const run = await runGeneration(model, name === "dense" ? undefined : pruner, ids, {
      ...{ name, maxTokens, endIds, sampler: new Sampler(sampling), tokenizer, signal },
      onPrompt: (fed) =>
        asJson && progress.bar(fed / ids.length, `${fed}/${ids.length} tokens of the prompt`),
      onText: show,
    });
    runs.push(run);
    show("\n");
  }
  return runs;
}

async function printOutcome(
  { asJson, showsFull, prompt, sampling }: Flags,
  { file, backend, ids, method }: Engine,
  runs: readonly GeneratedText[],
  progress: Progress,
): Promise<void> {
  if (asJson) {
    const record = await recordRuns({ file, backend, ids, prompt, method, sampling, runs });
    writeLine(Deno.stdout, JSON.stringify(record));
  } else if (showsFull) {
    const width = lineWidth(Deno.stdout), table = tabulateRuns(file.config, runs);
    const lines = [describeParting(file.tokenizer, runs), ...listLegend(table)];
    const wrapped = lines.map((line) => wrapLines(line, width));
    writeLine(Deno.stdout, ["", formatTable(table, width), "", ...wrapped].join("\n"));
  } else {
    for (const run of runs) {
      progress.line(describeRun(file.config, run));
      if (warnOfNothing(run) !== "") progress.line(warnOfNothing(run));
    }
  }
}

/** Makes the texts, and shows what they cost. @returns The exit code. */
async function work(flags: Flags, asked: Asked): Promise<number> {
  const { method, budgeted, prompt, chat, maxTokens, request } = flags, { progress } = asked;
  const engine = await openEngine({ ...asked, request }, method, ({ tokenizer, config }) => {
    const ids = encodePrompt(tokenizer, prompt, chat), tokens = ids.length + maxTokens;
    warnOfLength(tokens, config, `${tokens} tokens with the prompt`);
    return ids;
  }, budgeted && { budgeted, idsOf: (_, ids) => ids });
  await giveUp("run", "net", "write");
  using interrupt = new Interrupt();
  try {
    const runs = await makeTexts(flags, engine, progress, interrupt.signal);
    progress.clear();
    await printOutcome(flags, engine, runs, progress);
  } catch (error) {
    if (!interrupt.caused(error)) throw error;
    progress.clear();
    writeLine(Deno.stderr, "Interrupted in a fit: nothing of it is kept, the same command begins anew");
  }
  return interrupt.signal.aborted ? interrupt.code : EXIT.ok;
}

export const command = plainCommand({
  name: "generate",
  summary: "Continues a text and prints it as it grows.",
  usage: "--prompt TEXT | --text FILE [flags]",
  about: `Without a flag of the method the full model runs. With one the model is filtered, for the prompt and
for every token that is made. --full-model shows both texts and their first difference. It also shows the
tokens per second, the fraction that was filtered, and the memory of the cache. With --chat the prompt is a
user's message, and only the reply is printed. The likeliest token is taken unless --temperature is above 0.`,
  examples: [
    '--prompt "Once upon a time"',
    "--text FILE --preset retrieval --full-model",
    '--prompt "It was" --temperature 0.8 --top-p 0.95 --json',
  ],
  flags: {
    ...under("What runs", {
      prompt: text("TEXT", "beginning of the text"),
      chat: onOff("the prompt is a user's message, in the model's chat template"),
      text: text("FILE", "the prompt, of a file"),
    }),
    ...RUN_FAST,
    ...METHOD,
    ...BUDGET,
    ...under("Choice of tokens", SAMPLING_FLAGS),
    "max-tokens": integer(`most tokens to make (${MAX_TOKENS})`),
    "full-model": onOff("run the full model too, next to the filtered one"),
    ...rarely({
      system: text("TEXT", "system message before the prompt, with --chat"),
      "ignore-end": onOff("continue past a token that ends the text"),
    }),
    ...pick(TABLE, "json"),
  },
  permissions: RUNS_MODEL,
  prepare: withRule,
  read: readFlags,
  work,
});

if (import.meta.main) await runCommand(command);
