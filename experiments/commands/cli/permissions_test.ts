/** The tasks of deno.json run with the permissions that they name, and no others. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { hostTensor } from "../../../mod.ts";
import { writeSafetensors } from "../../../lib/model/mod.ts";
import { finish, withFolder } from "../testing.ts";

const ROOT = new URL("../../../", import.meta.url);
const { tasks }: { tasks: Record<string, string> } = JSON.parse(
  await Deno.readTextFile(new URL("deno.json", ROOT)),
);

/** Starts a task with the permissions of its line in deno.json, without `denied` and with other variables. */
function spawnAs(
  task: string,
  args: readonly string[],
  denied?: string,
  env: Record<string, string> = {},
): Deno.ChildProcess {
  const [deno, ...words] = tasks[task]!.split(" ");
  assertEquals(deno, "deno");
  assert(!words.includes("-A"), tasks[task]);
  return new Deno.Command(Deno.execPath(), {
    args: [...words.map((word) => word === `--allow-${denied}` ? `--deny-${denied}` : word), ...args],
    cwd: ROOT,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

const runAs = (task: string, args: readonly string[]) => finish(spawnAs(task, args));
const SMALL = ["--context", "64", "--tokens", "64", "--threads", "1"];

Deno.test("tasks that run methods name the permissions that they need, and these are enough", () =>
  withFolder(async (folder) => {
    const tensor = () => hostTensor("f32", [40, 1, 4], new Float32Array(160).fill(1));
    const dump = writeSafetensors(new Map([["keys", tensor()], ["values", tensor()]]));
    await Deno.writeFile(`${folder}/kv.safetensors`, dump);
    await Deno.writeTextFile(
      `${folder}/text.txt`,
      "It was the best of times, it was the worst of times. ".repeat(9),
    );
    const runs: [string, string[]][] = [
      ["sweep", [...SMALL, "--method", "key", "--live", "--out", `${folder}/sweep`]],
      ["compare", [...SMALL, "--methods", "key", "--out", `${folder}/compare`]],
      ["heads", [...SMALL, "--resamples", "9", "--out", `${folder}/heads`]],
      ["score", [
        "--text",
        `${folder}/text.txt`,
        "--method",
        "key",
        "--threads",
        "1",
        "--out",
        `${folder}/score`,
      ]],
      ["eval", [
        ...[
          "--data",
          fileURLToPath(new URL("../eval/testdata/items", import.meta.url)),
          "--tasks",
          "piqa",
          "--threads",
          "1",
        ],
        ...["--out", `${folder}/eval`],
      ]],
      ["generate", ["--prompt", "It was", "--method", "key", "--threads", "1", "--max-tokens", "4"]],
      ["filter", ["--kv", `${folder}/kv.safetensors`, "--threads", "1", "--out", `${folder}/filter`]],
      ["worker", ["--study", `${folder}/sweep/study.db`, "--threads", "1"]],
      ["study", ["show", `${folder}/sweep`, "--plot", `${folder}/plot.html`]],
      ["diff", [`${folder}/sweep`, `${folder}/sweep`, "--out", `${folder}/diff`]],
      ["report", [folder, "--out", `${folder}/site`]],
    ];
    for (const [task, args] of runs) {
      const { code, stderr } = await runAs(task, args);
      assertEquals(code, 0, `${task}: ${stderr}`);
    }
    const table = await runAs("table", [`${folder}/compare`]);
    assertEquals([table.code, table.stderr], [0, ""]);
    const refused = await runAs("table", [`${folder}/compare`, "--figures", `${folder}/figures`]);
    assertEquals(refused.code, 2);
    assertMatch(
      refused.stderr,
      /^Cannot use --figures with deno task table, which only reads: expected deno run -A /,
    );
  }));

Deno.test("a sweep without a compiler, a library and native code decides alike", () =>
  withFolder(async (folder) => {
    const args = [...SMALL, "--method", "key,variance", "--prune-ratio", "0.5", "--warmup", "8"];
    const env = { PATH: folder, CXX: "", TOKENFILTER_CACHE: `${folder}/cache` };
    const sweep = async (name: string, denied?: string) => {
      const child = spawnAs("sweep", [...args, "--out", `${folder}/${name}`], denied, denied ? env : {});
      const { code, stderr } = await finish(child);
      assertEquals(code, 0, stderr);
      const { trials } = JSON.parse(await Deno.readTextFile(`${folder}/${name}/summary.json`));
      assert(trials.length >= 2);
      const measured =
        /^(nll|kl$|perplexity|densePerplexity|loss|time|denseTime|finishedAt|runDigest|backend)/;
      const decided = trials.map((trial: object) =>
        Object.entries(trial).filter(([name]) => !measured.test(name))
      );
      return { decided, stderr };
    };
    const native = await sweep("native"), wasm = await sweep("wasm", "ffi");
    assertMatch(wasm.stderr, /Going on with WebAssembly/);
    assertEquals(wasm.decided, native.decided);
  }));

Deno.test("a rule starts no program, asks no server and writes no file once the model is open", () =>
  withFolder(async (folder) => {
    const attempts = {
      run: 'new Deno.Command("true").outputSync()',
      net: 'Deno.listen({ port: 0, hostname: "127.0.0.1" })',
      write: `Deno.writeTextFileSync("${folder}/written", "")`,
    };
    for (const [name, attempt] of Object.entries(attempts)) {
      const code = `export default { name: "own", help: "", score() { ${attempt}; return 0; } };`;
      await Deno.writeTextFile(`${folder}/${name}.ts`, code);
    }
    await Deno.writeTextFile(`${folder}/ids.json`, JSON.stringify(Array.from({ length: 64 }, (_, i) => i)));
    const words = ["--threads", "1", "--warmup", "8", "--rule"];
    const prompt = [
      "--prompt",
      "It was the best of times, it was the worst of times, it was the age of wisdom",
    ];
    const runs: [string, string[], string[]][] = [
      ["score", ["--ids", `${folder}/ids.json`], ["run", "net"]],
      ["compare", [...SMALL.slice(0, 4), "--methods", "own", "--out", `${folder}/compare`], ["run"]],
      ["sweep", [...SMALL.slice(0, 4), "--method", "own"], ["run", "net"]],
      ["eval", ["--tasks", "copy", "--items", "1", "--length", "64", "--out", `${folder}/eval`], ["net"]],
      ["generate", [...prompt, "--max-tokens", "2"], ["run", "net", "write"]],
    ];
    for (const [task, args, names] of runs) {
      for (const name of names) {
        const { code, stderr } = await runAs(task, [...args, ...words, `${folder}/${name}.ts`]);
        assertEquals(code, 2, `${task} ${name}: ${stderr}`);
        assertMatch(stderr, new RegExp(`Requires ${name} access to`));
      }
    }
    const child = spawnAs("serve", ["--port", "0", ...words, `${folder}/run.ts`]);
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const stderr = new Response(child.stderr).text();
    const [, address] = (await lines.read()).value!.match(/ on (http:\S+)\/v1/)!;
    const complete = async (model: string) => {
      const answer = await fetch(`${address}/v1/completions`, {
        method: "POST",
        body: JSON.stringify({ model, prompt: prompt[1], max_tokens: 2 }),
        headers: { "content-type": "application/json" },
      });
      return await answer.text().then(() => "whole", () => "broken");
    };
    const answers = [await complete("tiny"), await complete("tiny/dense")];
    child.kill("SIGTERM");
    await child.status;
    lines.releaseLock();
    assertEquals(answers, ["broken", "whole"]);
    assertMatch(await stderr, /Requires run access to/);
  }));
