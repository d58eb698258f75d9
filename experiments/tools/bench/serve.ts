/**
 * Measures `deno task serve` from the client's side: one client against eight, in turns; `/health` meanwhile; and the
 * cost of clients that leave or do not read.
 *
 * usage: deno run -A experiments/tools/bench/serve.ts [flags of serve]
 */
import { spawnTask } from "../../commands/testing.ts";
import { median } from "./run.ts";

const CLIENTS = 8, TOKENS = 64, ROUNDS = 5;

const child = await spawnTask("serve", ["--port", "0", "--quiet", ...Deno.args]);
const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
let line = "";
while (!line.includes("\n")) {
  const { value, done } = await reader.read();
  if (done) throw new Error(`no server: ${await new Response(child.stderr).text()}`);
  line += value;
}
const url = line.match(/http:\S+(?=\/v1)/)![0], model = line.match(/"([^"]+)"/)![1]!;

const ask = (more: object, signal?: AbortSignal) =>
  fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, max_tokens: TOKENS, temperature: 0, ignore_eos: true, ...more }),
    ...(signal && { signal }),
  });
const prompt = (client: number) => `${client} It was a dark night, and the old house by the sea`;
const text = async (client: number) => (await (await ask({ prompt: prompt(client) })).json()).choices[0].text;

/** Tokens per second of clients that ask at the same time, and their texts. */
async function race(clients: number) {
  const begin = performance.now();
  const texts = await Promise.all(Array.from({ length: clients }, (_, i) => text(i)));
  return { rate: clients * TOKENS / (performance.now() - begin) * 1000, texts };
}

/** Times of /health, until it is ended. */
function watchHealth() {
  const times: number[] = [];
  let isOver = false;
  const ended = (async () => {
    while (!isOver) {
      const begin = performance.now();
      await (await fetch(`${url}/health`)).json();
      times.push(performance.now() - begin);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  return { times, end: () => (isOver = true, ended) };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

await race(1);
const health = watchHealth(), one: number[] = [], many: number[] = [];
let alike = 0;
for (let round = 0; round < ROUNDS; round++) {
  one.push((await race(1)).rate);
  const { rate, texts } = await race(CLIENTS);
  many.push(rate);
  if (round === 0) {
    for (const [i, own] of texts.entries()) if (own === await text(i)) alike++;
  }
}
const long = Array.from({ length: 400 }, (_, i) => 100 + i % 300);
await Promise.all([race(CLIENTS - 2), ask({ prompt: long, max_tokens: 1 }).then((answer) => answer.text())]);
const short = () => ask({ prompt: "It", max_tokens: 1 }).then((answer) => answer.text());
const alone: number[] = [], afterLeft: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  alone.push(await timed(short));
  for (const stream of [false, true]) {
    const leaving = new AbortController();
    const left = ask({ prompt: "It", max_tokens: 300, user: "x".repeat(3000), stream }, leaving.signal)
      .then((answer) => answer.text()).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    leaving.abort();
    afterLeft.push(await timed(short));
    await left;
  }
}
await health.end();
const sorted = health.times.toSorted((a, b) => a - b), shown = (ms: number) => ms.toFixed(1);
console.log(`${model}, ${TOKENS} tokens a text, ${ROUNDS} rounds in turns (medians)
tokens/s of one client   ${shown(median(one))}
tokens/s of ${CLIENTS} clients    ${shown(median(many))}, ${(median(many) / median(one)).toFixed(2)} times one
greedy texts as alone    ${alike} of ${CLIENTS}
/health, ms              median ${shown(sorted[sorted.length >> 1]!)}, largest ${
  shown(sorted.at(-1)!)
} of ${sorted.length}
one token alone, ms      ${shown(median(alone))}
after a client left, ms  ${shown(median(afterLeft))}, largest ${shown(Math.max(...afterLeft))}`);
await reader.cancel();
child.kill("SIGINT");
console.error(await new Response(child.stderr).text());
