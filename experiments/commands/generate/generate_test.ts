/** `deno task generate` as a user runs it. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createPruner } from "../../../lib/methods/mod.ts";
import { filtersNothing } from "./outcome.ts";
import type { GeneratedText } from "./run.ts";
import { writeChatModel } from "../serve/chat_testing.ts";
import { runTask, spawnTask, withFolder } from "../testing.ts";

const PROMPT = "It was a dark night, and the rain fell in torrents upon the old house by the sea";
const SMALL = ["--prompt", PROMPT, "--threads", "1", "--quiet"];
const FILTERED = ["--method", "variance", "--warmup", "8", "--recent", "4"];

async function generate(...args: string[]) {
  const { code, stdout, stderr } = await runTask("generate", ...args);
  assertEquals([code, stderr], [0, ""], stderr);
  return stdout;
}

interface Run {
  readonly name: string;
  readonly ids: number[];
  readonly text: string;
  readonly ended: string;
  readonly queriesSkipped: number | null;
  readonly keysDropped: number | null;
  readonly kvBytesHeld: number;
  readonly kvBytesDense: number;
  readonly tokensPerSecond: number;
}
const runsOf = async (...args: string[]) => {
  const record = JSON.parse(await generate(...SMALL, ...args, "--json"));
  return { ...record, runs: record.runs as Run[] };
};

Deno.test("generate prints the prompt and what follows, and what it took on stderr", async () => {
  const record = await runsOf("--max-tokens", "20"), [run] = record.runs;
  const { code, stdout, stderr } = await runTask("generate", ...SMALL.slice(0, 4), "--max-tokens", "20");
  assertEquals([code, stdout], [0, `${PROMPT}${run!.text}\n`]);
  assertMatch(
    stderr,
    /^20 tokens \(most that were asked for\) after \d+ of the prompt; \d\S* tokens\/s of the prompt, then \d\S* tokens\/s; KV cache \d+ bytes, 100.0% of the full model\n$/m,
  );
  assertEquals([record.runs.length, run!.name, run!.ids.length, record.model], [1, "dense", 20, "tiny"]);
  assertEquals([run!.queriesSkipped, run!.keysDropped, record.partAt], [null, null, undefined]);
  assertEquals(run!.kvBytesHeld, run!.kvBytesDense);
  assert(run!.tokensPerSecond > 1);
});

Deno.test("generate --full-model shows both texts, where they part, and what was filtered", async () => {
  const args = [...FILTERED, "--full-model", "--max-tokens", "40"];
  const { runs: [dense, filtered], partAt, method } = await runsOf(...args);
  const alone = (await runsOf(...FILTERED, "--max-tokens", "40")).runs[0]!;
  assertEquals(alone.ids, filtered!.ids);
  assertEquals((await runsOf("--max-tokens", "40")).runs[0]!.ids, dense!.ids);
  assertEquals([method.fusion, method.warmup], ["variance", 8]);
  assert(partAt >= 0 && dense!.ids[partAt] !== filtered!.ids[partAt]);
  assertEquals(dense!.ids.slice(0, partAt), filtered!.ids.slice(0, partAt));
  assert(Math.abs(filtered!.queriesSkipped! - 0.5) < 0.1 && filtered!.keysDropped === null);
  assert(filtered!.kvBytesHeld < 0.8 * filtered!.kvBytesDense);

  const stdout = await generate(...SMALL, ...args);
  assertStringIncludes(
    stdout,
    `dense:\n${PROMPT}${dense!.text}\n\nfiltered:\n${PROMPT}${filtered!.text}\n\n`,
  );
  assertMatch(
    stdout,
    /^run +tokens +prompt t\/s +t\/s +skipped +evicted +pairs +attn FLOPs +KV bytes +KV cache$/m,
  );
  assertMatch(stdout, /^filtered +40 +\S+ +\S+ +\d\d\.\d% +- /m);
  assertStringIncludes(stdout, `They part at token ${partAt + 1} of 40: dense goes on "`);

  const keys = await runsOf("--preset", "keys", "--warmup", "8", "--recent", "4", "--prune-ratio", "0");
  assertEquals([keys.runs[0]!.queriesSkipped, keys.runs[0]!.keysDropped], [null, 0]);
  const same = await generate(
    ...SMALL,
    ...FILTERED,
    "--prune-ratio",
    "0",
    "--full-model",
    "--max-tokens",
    "9",
  );
  assertStringIncludes(same, "The texts are the same for all of 9 tokens. Nothing was filtered: ");
  // Two runs of the full model report that nothing was filtered, and so does one.
  const short = ["--preset", "keys", "--max-tokens", "9"];
  assertStringIncludes(
    (await generate(...SMALL, ...short, "--full-model")).replaceAll("\n", " "),
    "lie within the warm-up of 64 and the recent window of 32 or are not decided yet",
  );
  const { stderr } = await runTask("generate", ...SMALL.slice(0, 4), ...short);
  assertStringIncludes(stderr, "Nothing was filtered: all ");
  assertEquals(
    (await runTask("generate", ...SMALL.slice(0, 4), "--max-tokens", "9")).stderr.includes("Nothing"),
    false,
  );
});

Deno.test("a token that only one of the KV heads with rows of their own has evicted is filtered", () => {
  const shape = { numLayers: 1, numHeads: 2, numKvHeads: 2, headDim: 2, hiddenSize: 4 };
  const pruner = createPruner("token-filtering", shape, { side: "key", kvFusion: "adakv", tail: 1 });
  const run = (...kept: number[]) =>
    filtersNothing(
      {
        pruner,
        length: 2,
        keep: new Map(),
        kvKeep: new Map([[0, Uint8Array.from(kept)]]),
      } as unknown as GeneratedText,
    );
  assertEquals([run(2, 2), run(2, 1), run(2, 0), run(2, 2, 1)], [true, false, false, true]);
});

Deno.test("generate records the text that a method was fitted on", () =>
  withFolder(async (folder) => {
    const text = `${folder}/text.txt`;
    Deno.writeTextFileSync(text, PROMPT);
    const fitted = ["--calibration", text, "--calibration-domain", "other", "--calibration-tokens", "16"];
    const record = await runsOf("--method", "shortgpt", ...fitted, "--max-tokens", "2");
    assertEquals([record.calibration, record.calibrationSha256.length], ["other, 16 tokens", 64]);
  }));

Deno.test("generate takes the fastest products by default, and records which", async () => {
  const few = ["--max-tokens", "8"],
    products = async (...args: string[]) => {
      const { products, runs: [run] } = await runsOf(...few, ...args);
      return [products, run!.ids] as const;
    };
  const byDefault = await products();
  assertEquals(byDefault[0], "int8");
  assertEquals(await products("--matmul", "fast"), byDefault);
  assertEquals((await products("--matmul", "exact"))[0], undefined);
  assertEquals((await products("--backend", "reference"))[0], undefined); // it has no others
});

Deno.test("generate draws by chance from a seed", async () => {
  const warm = ["--temperature", "1", "--top-k", "50", "--max-tokens", "24"];
  const [first] = (await runsOf(...warm, "--sampling-seed", "3")).runs;
  const record = await runsOf(...warm, "--sampling-seed", "3"), [again] = record.runs;
  const [other] = (await runsOf(...warm, "--sampling-seed", "18446744073709551615")).runs;
  assertEquals(first!.ids, again!.ids);
  assert(first!.ids.join() !== other!.ids.join());
  assertEquals(record.sampling, { temperature: 1, topK: 50, samplingSeed: 3 });
});

Deno.test("generate reads a prompt from a file, and can be interrupted", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/prompt.txt`, PROMPT);
    const args = ["--text", `${folder}/prompt.txt`, "--threads", "1"];
    const child = await spawnTask("generate", [...args, "--max-tokens", "100000"]);
    const reader = child.stdout.getReader(), stderr = new Response(child.stderr).text();
    let seen = "", isAsked = false;
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      seen += new TextDecoder().decode(read.value);
      if (isAsked || seen.length < PROMPT.length + 40) continue;
      child.kill("SIGINT");
      isAsked = true;
    }
    assertEquals((await child.status).code, 130);
    assert(seen.startsWith(PROMPT) && seen.endsWith("\n"));
    assertMatch(await stderr, /^\d+ tokens \(interrupted\) after \d+ of the prompt; /m);
    assertStringIncludes(await stderr, "tokens with the prompt; the model was trained on 512");
  }));

Deno.test("generate names what is wrong with its input", async () => {
  const cases: [string[], string][] = [
    [[], "found no prompt, expected either --prompt TEXT or --text FILE"],
    [["--prompt", "a", "--text", "b"], "found two prompts, expected either --prompt TEXT or --text FILE"],
    [["--text", "none.txt"], "there is no such file"],
    [["--prompt", "a", "--full-model"], "Cannot use --full-model: expected a flag of the method"],
    [["--prompt", "a", "--max-tokens", "0"], "Cannot use --max-tokens 0"],
    [["--prompt", "a", "--top-p", "0"], "--top-p: found 0, expected a number in (0, 1]"],
    [["--prompt", "a", "--temperature", "-1"], "--temperature: found -1"],
    [["--prompt", "a", "--sampling-seed", "-1"], "--sampling-seed: found -1"],
    [["--prompt", "a", "--method", "oracle"], "it is non-causal"],
    [["--prompt", "a", "--tokens", "3"], '"generate" has no such flag'],
  ];
  for (const [args, part] of cases) {
    const { code, stdout, stderr } = await runTask("generate", ...args);
    assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
    assertStringIncludes(stderr, part);
  }
});

Deno.test("generate --chat writes the message by the model's template, and prints the reply alone", () =>
  withFolder(async (folder) => {
    const model = await writeChatModel(folder);
    const args = ["--model", model, "--max-tokens", "8", "--threads", "1", "--quiet"];
    const chat = ["--prompt", "Who was there?", "--chat", "--system", "Be brief."];
    const reply = await generate(...args, ...chat), told = "Be brief. Who was there? She said:";
    assertEquals(await generate(...args, "--prompt", told), told + reply);
    const { code, stderr } = await runTask("generate", "--prompt", "a", "--chat", "--quiet");
    assertEquals([code, stderr], [
      2,
      "Cannot chat: the model's files have no chat template, expected those of an instruct model\n",
    ]);
    const alone = await runTask("generate", "--prompt", "a", "--system", "b");
    assertEquals([alone.code, alone.stderr], [2, "Cannot use --system: expected --chat too\n"]);
  }));
