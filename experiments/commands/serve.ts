/**
 * `deno task serve`: the model behind OpenAI's API, with the filter in it.
 *
 * See `deno task serve --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { readBuiltinText } from "../../lib/eval/text/mod.ts";
import { nonCausal, recordOptions } from "../../lib/methods/bind/options.ts";
import { methodName } from "../../lib/plot/trials/trial_label.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { integer, under } from "./cli/flags/flag.ts";
import { RUN_FAST, SERVER } from "./cli/flags/flags.ts";
import { BUDGET, readBudget } from "./cli/flags/budget.ts";
import { readMethod } from "./cli/flags/method.ts";
import { METHOD } from "./cli/flags/method_flags.ts";
import { textOf } from "./cli/flags/parse.ts";
import { withRule } from "./cli/flags/rule.ts";
import { readCount } from "./cli/flags/text.ts";
import { LOCALHOST, readToken } from "./cli/flags/token.ts";
import { readBackend } from "./cli/machine/backend.ts";
import { openEngine } from "./cli/run/engine.ts";
import { Interrupt } from "./cli/run/interrupt.ts";
import { EXIT, explainError, giveUp, runCommand, writeLine } from "./cli/task.ts";
import { type Asked, plainCommand } from "./run.ts";
import { Batch } from "./serve/batch.ts";
import type { Engine } from "./serve/completion.ts";
import { HttpThread } from "./serve/http.ts";
import { Service } from "./serve/service.ts";

/** Tokens of the built-in prose on which a method is to have its budget: what clients ask is not known yet. */
const BUDGET_TOKENS = 1024;

const PORT = 8080, TOGETHER = 8, WAITING = 16;

async function readFlags({ values }: Asked) {
  const request = readBackend(values, "fast"), hostname = textOf(values, "host") ?? LOCALHOST;
  const port = readCount(values, "port", 0, 65535) ?? PORT;
  const waiting = readCount(values, "waiting", 0) ?? WAITING,
    together = readCount(values, "together", 1) ?? TOGETHER;
  const token = await readToken(textOf(values, "token-file"), hostname);
  const method = await readMethod(values);
  if (method !== undefined && nonCausal(method)) {
    throw new UsageError(
      `Cannot serve ${method.fusion}, ${method.threshold}: it is non-causal, expected another method`,
    );
  }
  return { request, hostname, port, waiting, together, token, method, budgeted: readBudget(values, method) };
}

/** Serves until a signal comes. @returns The exit code. */
async function work(flags: Awaited<ReturnType<typeof readFlags>>, asked: Asked): Promise<number> {
  const { request, hostname, port, waiting, together, token, budgeted } = flags;
  const opened = await openEngine(
    { ...asked, request },
    flags.method,
    ({ tokenizer }) => Int32Array.of(tokenizer.bosId ?? 0),
    budgeted && {
      budgeted,
      idsOf: async ({ tokenizer }) => tokenizer.encode(await readBuiltinText()).slice(0, BUDGET_TOKENS),
    },
  );
  const { method, file: { name: model, tokenizer }, pruner } = opened;
  const dense = { model: opened.model, tokenizer, pruner: undefined, batch: new Batch(opened.model) };
  const engines = new Map<string, Engine>([[model, { ...dense, pruner }]]);
  if (pruner !== undefined) engines.set(`${model}/dense`, dense);

  using interrupt = new Interrupt();
  using http = new HttpThread();
  await giveUp("run", "write");
  using service = new Service({
    ...{ engines, together, waiting },
    onState: (state) => http.tell(state),
    onError: (error) => {
      if (interrupt.caused(error)) return; // a fit that Ctrl-C has ended
      writeLine(Deno.stderr, explainError(error) ?? String((error as Error)?.stack ?? error));
    },
  });
  const models = [...engines.keys()];
  const at = await http.listen({ hostname, port, token, models }, (asked) => void service.take(asked));
  const named = models.map((each) => `"${each}"`).join(" and ");
  const what = method === undefined ? named : `${named} (${methodName(recordOptions(method))})`;
  const host = at.hostname.includes(":") ? `[${at.hostname}]` : at.hostname;
  writeLine(Deno.stdout, `Serving ${what} on http://${host}:${at.port}/v1, until Ctrl-C`);
  const { promise: interrupted, resolve } = Promise.withResolvers<void>();
  if (interrupt.signal.aborted) resolve();
  else interrupt.signal.addEventListener("abort", () => resolve());
  const fault = await Promise.race([interrupted, http.failed, http.deaf]);
  if (fault === undefined) return EXIT.ok;
  writeLine(Deno.stderr, `Cannot go on: ${fault}`);
  return EXIT.failed;
}

export const command = plainCommand({
  name: "serve",
  summary: "Serves a model by OpenAI's API, with the filter in it.",
  usage: "[flags]",
  about: `Answers /v1/completions and /v1/chat/completions (streams, log probabilities, echo), so that clients
and evaluation harnesses can use the filtered model. With a flag of the method the model's name is filtered,
and the name with /dense behind it is not. Texts of several clients are computed together; clients that leave
or do not read are dropped. Other addresses than this machine's own need a token, from --token-file or the
variable TOKENFILTER_TOKEN.`,
  examples: [
    "--preset retrieval",
    "--model FILE.gguf --method learned --port 8000",
    "--host 0.0.0.0 --token-file FILE",
  ],
  flags: {
    ...SERVER,
    port: { ...SERVER.port, help: `port to listen on (${PORT}); 0: a free one` },
    ...under("Where", {
      together: integer(`most texts that are computed at once (${TOGETHER})`),
      waiting: integer(`most requests that wait in addition (${WAITING})`),
    }),
    ...RUN_FAST,
    ...METHOD,
    ...BUDGET,
  },
  permissions: RUNS_MODEL,
  prepare: withRule,
  read: readFlags,
  work,
});

if (import.meta.main) await runCommand(command);
