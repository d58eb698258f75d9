/** `deno task soak`: memory, handles and speed of a long run. See `deno task soak --help`. */
import { setTimeout as delay } from "node:timers/promises";
import { openCpu } from "../../ffi/mod.ts";
import { run } from "../../ffi/build/command.ts";
import { UsageError } from "../../lib/errors.ts";
import { createPruner } from "../../lib/methods/mod.ts";
import { generateTokens, loadModel, Sampler } from "../../lib/model/mod.ts";
import { readPlotly, renderPage } from "../../lib/plot/mod.ts";
import { makeFolder, writeWhole } from "../commands/cli/files.ts";
import { parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { readStdFlags, taskArguments } from "../commands/cli/machine/deno.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { evaluate, plotSamples, type Sample } from "./soak/flat.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** The exit code where something grows. */
const EXIT_GROWS = 1;
/** Minutes that a run takes at least: heaps fill for two. */
const SHORTEST = 5;
const CLIENTS = 8, TOKENS = 32;
/** Libraries and sequences that a round opens and closes: about 10,000 in an hour. */
const OPENS = 6;
/** Milliseconds from the beginning of a round to the next, at least: between rounds the server is idle, as servers are. */
const ROUND = 2000;
/** Rounds after which a sweep runs whose workers are killed. */
const SWEEP_EVERY = 30;

export const USAGE = `Usage: deno task soak [flags]

Runs in rounds on the model tiny, for minutes or hours: generates with a filter, opens and closes the CPU library and
sequences, and serves ${CLIENTS} clients at once. Now and then it runs a sweep whose workers are killed. Memory, open handles and
tokens/s of this process and of the server are kept, and shown as a page. Both collect all garbage each time, so that memory
shows the objects that they keep. Needs Linux. Exit code 1: memory grows by more than 1 MB per hour for certain, handles are
left open, two thirds of the speed are lost, or a sweep loses a result. A process is unsteady if other processes had the
cores at first: then nothing is known, and the exit code is 1 too.

  --minutes N
      length of the run, ${SHORTEST} or more (${SHORTEST})
  --out DIR
      folder for soak.json and soak.html (results/soak)
  --help
      print this`;

/** Resident bytes and open handles of a process. */
export async function lookAt(pid: number): Promise<Pick<Sample, "rss" | "handles">> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const rss = 1024 * Number(status.match(/^VmRSS:\s+(\d+)/m)![1]);
  return { rss, handles: Array.from(Deno.readDirSync(`/proc/${pid}/fd`)).length };
}

/**
 * V8's flags of the task soak, for the server too: V8 collects all garbage each time, and its space for new objects does
 * not grow. Memory then shows the objects that a process keeps.
 */
async function readV8Flags(): Promise<string[]> {
  return (await taskArguments("soak")).filter((argument) => argument.startsWith("--v8-flags="));
}

/** A server as a process of its own. */
async function startServer() {
  const [subcommand, ...args] = await taskArguments("serve");
  const child = new Deno.Command(Deno.execPath(), {
    args: [subcommand!, ...await readV8Flags(), ...args, "--model", "tiny", "--port", "0", "--quiet"],
    ...{ cwd: ROOT, stdin: "null", stdout: "piped", stderr: "null" } as const,
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let line = "";
  while (!line.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) {
      throw new UsageError("Cannot soak: the server has not started (see deno task serve --model tiny)");
    }
    line += value;
  }
  const url = line.match(/http:\S+(?=\/v1)/)![0];
  const ask = async (client: number) => {
    const body = {
      model: "tiny",
      prompt: `${client} It was a dark night, and`,
      max_tokens: TOKENS,
      ignore_eos: true,
    };
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new UsageError(`Cannot soak: the server answered ${response.status}`);
    await response.json();
  };
  const stop = async () => {
    await reader.cancel();
    child.kill("SIGINT");
    await child.status;
  };
  return {
    pid: child.pid,
    round: () => Promise.all(Array.from({ length: CLIENTS }, (_, i) => ask(i))),
    stop,
  };
}

/** Generates on this process's own backend, and opens and closes others. @returns The tokens. */
async function openOwn() {
  const backend = await openCpu({ threads: 1 }),
    { model, tokenizer, config } = await loadModel("tiny", backend);
  const prompt = tokenizer.encode("It was a dark night, and the old house by the sea stood empty.");
  const round = async () => {
    const pruner = createPruner("token-filtering", config, { pruneRatio: 0.5, warmup: 8 }, { backend });
    const sequence = model.start(pruner);
    const steps = [...generateTokens(model, sequence, prompt, { sampler: new Sampler(), maxTokens: TOKENS })];
    sequence.free();
    for (let i = 0; i < OPENS; i++) {
      using other = await openCpu({ threads: 2, blas: "none" });
      if (other.name !== "cpu") throw new Error(other.name);
      model.start().free();
    }
    return steps.length;
  };
  return { round, [Symbol.dispose]: () => backend[Symbol.dispose]() };
}

/** A sweep whose workers are killed; whether it has lost nothing. */
async function sweepKilled(): Promise<boolean> {
  const script = `${ROOT}experiments/tools/verify/kill_workers.ts`;
  const args = ["run", "-A", "--no-check", ...await readStdFlags(), script, "12", "2", "2"];
  return (await run(Deno.execPath(), args, { cwd: ROOT })).success;
}

/** Runs the command. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { minutes: asked, out = "results/soak" } = parseOwnFlags(args, ["minutes", "out"], []);
  const minutes = asked === undefined ? SHORTEST : readInteger("minutes", asked, SHORTEST);
  if (Deno.build.os !== "linux") {
    throw new UsageError(`Cannot soak on ${Deno.build.os}: expected Linux, for /proc`);
  }
  makeFolder(out);
  const samples = new Map<string, Sample[]>([["this process", []], ["server", []]]);
  const progress = new Progress(Deno.stderr), begin = performance.now(), end = begin + minutes * 60e3;
  using own = await openOwn();
  const server = await startServer();
  let sweeps = 0, lost = 0;
  try {
    for (let rounds = 0; performance.now() < end; rounds++) {
      const began = performance.now();
      progress.bar((began - begin) / (end - begin), `round ${rounds}`);
      const steps = await own.round(), mine = performance.now();
      await server.round();
      const served = performance.now(), seconds = (served - begin) / 1000;
      if (rounds % SWEEP_EVERY === SWEEP_EVERY - 1) {
        sweeps++;
        if (!await sweepKilled()) lost++;
      }
      const speeds = [steps / (mine - began), CLIENTS * TOKENS / (served - mine)].map((speed) =>
        1000 * speed
      );
      for (const [i, [name, pid]] of [["this process", Deno.pid], ["server", server.pid]].entries()) {
        samples.get(name as string)!.push({ seconds, ...await lookAt(pid as number), speed: speeds[i]! });
      }
      await delay(Math.max(0, Math.min(began + ROUND, end) - performance.now()));
    }
  } finally {
    progress.clear();
    await server.stop();
  }
  const verdicts = Array.from(samples, ([name, own]) => evaluate(name, own));
  const title = `Soak of ${minutes} minutes`, plotly = await readPlotly();
  await writeWhole(
    `${out}/soak.json`,
    `${JSON.stringify({ verdicts, sweeps, lost, samples: Object.fromEntries(samples) })}\n`,
  );
  await writeWhole(`${out}/soak.html`, await renderPage({ title, sections: plotSamples(samples), plotly }));
  for (const { name, slope, margin, handles, speed, isSteady, isFlat } of verdicts) {
    const grows = `${slope.toFixed(1)} MB per hour (95% within ${margin.toFixed(1)})`;
    writeLine(
      Deno.stdout,
      `${isFlat ? "flat" : isSteady ? "grows" : "unsteady"}  ${name}: ${grows}, handles ${
        handles.join(" to ")
      }, ${speed.toFixed(2)} times the speed`,
    );
  }
  writeLine(
    Deno.stdout,
    `${sweeps} sweeps with killed workers, ${lost} that lost a result; ${out}/soak.html`,
  );
  return lost > 0 || verdicts.some(({ isFlat }) => !isFlat) ? EXIT_GROWS : EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
