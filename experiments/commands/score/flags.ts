/** What a command line of `score` asks for: the tokens, the method, and how they are fed. */
import { UsageError } from "../../../lib/errors.ts";
import { nonCausal, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import { methodOf } from "../../../lib/methods/list.ts";
import { isOffline } from "../../../lib/methods/protocol/method.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { expectWritableFile, readJson } from "../cli/files.ts";
import { readBudget } from "../cli/flags/budget.ts";
import { readDecisionsFlag } from "../cli/flags/decisions.ts";
import { readMethod } from "../cli/flags/method.ts";
import { METHOD } from "../cli/flags/method_flags.ts";
import { expectChoice, type FlagValues, textOf } from "../cli/flags/parse.ts";
import { readCount, readNamedText } from "../cli/flags/text.ts";
import { readBackend } from "../cli/machine/backend.ts";
import type { TraceInfo } from "../heads/trace_file.ts";
import type { Asked } from "../run.ts";

/** The tokens to score: of a text by the model's tokenizer, or of a file of ids. */
async function readSource(
  values: FlagValues,
  tokens: number | undefined,
): Promise<(file: Pick<ModelFile, "tokenizer" | "config">) => Int32Array<ArrayBuffer>> {
  const path = textOf(values, "ids");
  if ((path === undefined) === !values.has("text")) {
    throw new UsageError("Cannot tell what to score: expected either --text FILE or --ids FILE.json");
  }
  if (path === undefined) {
    const { text } = await readNamedText(textOf(values, "text"));
    return ({ tokenizer }) => {
      const ids = tokenizer.encode(text, { bos: tokenizer.addsBos }).slice(0, tokens);
      if (ids.length >= 2) return Int32Array.from(ids);
      throw new UsageError(`Cannot score a text of ${ids.length} tokens: expected at least 2`);
    };
  }
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
  return ({ config: { vocabSize } }) => {
    const high = ids.findIndex((id) => id >= vocabSize);
    if (high < 0) return Int32Array.from(ids.slice(0, tokens));
    throw new UsageError(
      `Cannot use "${path}": found id ${ids[high]} at ${high}, expected ids below the model's ${vocabSize}`,
    );
  };
}

/** Refuses flags whose values the file contains itself. */
function expectReplayAlone(values: FlagValues): void {
  const own = ["text", "ids", "tokens", "phase", "chunk", "trace", "decisions", "budget"];
  const given = [...values.keys()].find((name) => own.includes(name) || Object.hasOwn(METHOD, name));
  if (given === undefined) return;
  throw new UsageError(
    `Cannot use --${given} with --replay: the file has its own tokens and decisions (leave --${given} out)`,
  );
}

/** Reads the flags of a command line, and the files that they name. */
export async function readFlags({ values }: Asked) {
  const path = textOf(values, "replay");
  if (path !== undefined) expectReplayAlone(values);
  else if (values.has("replay-method")) {
    throw new UsageError("Cannot use --replay-method without --replay: expected a file of decisions");
  }
  const replayed = path === undefined ? undefined : {
    path,
    ...await (await import("../heads/replay.ts")).readReplayedFile(path, textOf(values, "replay-method")),
  };
  const { dtype, products }: Partial<TraceInfo> = replayed?.info ?? {};
  // Flags with which a trace's model has the same numbers again.
  const kept = Object.entries({ dtype, matmul: products }).filter(([, value]) => value !== undefined);
  const asKept: FlagValues = new Map([...kept.map(([name, value]) => [name, [value]] as const), ...values]);
  const phase = expectChoice("phase", textOf(values, "phase") ?? "prefill", ["prefill", "decode"]);
  const chunk = readCount(values, "chunk", 1);
  const tokens = readCount(values, "tokens", 2);
  readCount(values, "context", 2);
  const method = await readMethod(values);
  const source = replayed === undefined ? await readSource(values, tokens) : undefined;
  const tracePath = textOf(values, "trace");
  if (tracePath !== undefined) expectTraceable(method, tracePath);
  const decisionsPath = replayed === undefined
    ? readDecisionsFlag(values, method === undefined ? [] : [method])
    : undefined;
  if (method !== undefined && nonCausal(method) && phase === "decode") {
    throw new UsageError(
      `Cannot decode with ${method.fusion}, ${method.threshold}: it is non-causal, expected --phase prefill`,
    );
  }
  const request = readBackend(asKept), budgeted = readBudget(values, method);
  return { replayed, asKept, request, phase, chunk, method, source, tracePath, decisionsPath, budgeted };
}

export type Flags = Awaited<ReturnType<typeof readFlags>>;

/** Checks that a run has decisions, and a file to keep them. @throws {UsageError} If not. */
function expectTraceable(method: ResolvedOptions | undefined, path: string): void {
  if (method === undefined) throw new UsageError("Cannot use --trace: a dense run has no decisions");
  if (isOffline(methodOf(method.fusion))) {
    throw new UsageError(
      `Cannot use --trace with --method ${method.fusion}: it alters the model, and decides on no token`,
    );
  }
  expectWritableFile(path);
}
