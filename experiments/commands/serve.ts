/**
 * `deno task serve`: the model behind OpenAI's API, with the filter in it.
 *
 * See `deno task serve --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { looksAhead } from "../../lib/methods/mod.ts";
import { describeTask } from "./cli/flags/help.ts";
import { readMethod } from "./cli/flags/method.ts";
import { readInteger, textOf } from "./cli/flags/parse.ts";
import { readCount } from "./cli/flags/text.ts";
import { LOCALHOST, readToken } from "./cli/flags/token.ts";
import { openEngine } from "./cli/run/engine.ts";
import { Interrupt } from "./cli/run/interrupt.ts";
import { EXIT, explainError, runTask, writeLine } from "./cli/task.ts";
import { readCommandLine } from "./run.ts";
import type { Engine } from "./serve/completion.ts";
import { createHandler } from "./serve/server.ts";

export const USAGE = describeTask(
  "serve",
  `deno task serve [flags]

Answers /v1/completions and /v1/chat/completions as OpenAI's API does (streams, log probabilities, echo), so that clients
and evaluation harnesses can use the model with the filter in it. With a flag of the method the model's name is filtered,
and the name with /dense behind it is not. Requests are answered one after the other; who leaves is not answered. Other
addresses than this machine's own need a token, from --token-file or the variable TOKENFILTER_TOKEN.`,
  ["--preset keys", "--model FILE.gguf --fusion learned --port 8000", "--host 0.0.0.0 --token-file FILE"],
);

const PORT = 8080, QUEUE = 16;

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const asked = await readCommandLine({ task: "serve" }, args), { values } = asked;
  const hostname = textOf(values, "host") ?? LOCALHOST;
  const port = readInteger("port", String(values.get("port")?.[0] ?? PORT), 0, 65535);
  const queue = readCount(values, "waiting", 0) ?? QUEUE,
    path = textOf(values, "token-file"),
    token = await readToken(path, hostname);
  const method = await readMethod("serve", values);
  if (method !== undefined && looksAhead(method)) {
    throw new UsageError(
      `Cannot serve ${method.fusion}, ${method.threshold}: it looks ahead, expected another method`,
    );
  }
  const opened = await openEngine(asked, method, ({ tokenizer }) => Int32Array.of(tokenizer.bosId ?? 0));
  const { file: { name: model, tokenizer }, pruner } = opened;
  const dense = { model: opened.model, tokenizer, pruner: undefined };
  const engines = new Map<string, Engine>([[model, { ...dense, pruner }]]);
  if (pruner !== undefined) engines.set(`${model}/dense`, dense);

  using interrupt = new Interrupt();
  const handler = createHandler({
    ...{ engines, token, queue },
    onError: (error) => {
      if (interrupt.caused(error)) return; // a fit that Ctrl-C has ended
      writeLine(Deno.stderr, explainError(error) ?? String((error as Error)?.stack ?? error));
    },
  });
  const server = listen({ hostname, port, signal: interrupt.signal, handler });
  const { hostname: name, port: at } = server.addr as Deno.NetAddr;
  const models = [...engines.keys()].map((each) => `"${each}"`).join(" and ");
  const what = method === undefined ? models : `${models} (${method.fusion})`;
  const host = name.includes(":") ? `[${name}]` : name;
  writeLine(Deno.stdout, `Serving ${what} on http://${host}:${at}/v1, until Ctrl-C`);
  await server.finished;
  return EXIT.ok;
}

/** Listens. @throws {UsageError} If the address cannot be had. */
function listen(
  { hostname, port, signal, handler }: {
    readonly hostname: string;
    readonly port: number;
    readonly signal: AbortSignal;
    readonly handler: (request: Request) => Promise<Response>;
  },
): Deno.HttpServer {
  try {
    return Deno.serve({ hostname, port, signal, onListen: () => {} }, handler);
  } catch (error) {
    throw new UsageError(`Cannot listen on ${hostname}:${port}: ${(error as Error).message.split("\n")[0]}`);
  }
}

if (import.meta.main) await runTask(main, USAGE);
