/** Tasks with `--backend cuda` come to the results of the CPU: of the tiny model, and on a card of a larger GGUF too. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { INTERPRETS_PTX, NO_DEVICE } from "../../../ffi/cuda/testing.ts";
import { unless } from "../../../lib/testing.ts";
import { finish, spawnTask, withFolder } from "../testing.ts";

const TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, " +
  "it was the age of foolishness.";
const FILTER = "--warmup 8 --prune-ratio 0.5 --recent 4";
const COMMANDS = [
  `score --text TEXT ${FILTER} --method variance`,
  `score --text TEXT --tokens 16 --phase decode ${FILTER} --method variance --cache-dtype bf16`,
  `sweep --text TEXT --context 30 ${FILTER} --method variance`,
  `compare --text TEXT --context 30 --warmup 8 --methods variance --ratios 0.5`,
  `heads --text TEXT --context 30 --warmup 8`,
  `eval --tasks copy --items 2 --length 48`,
  `generate --text TEXT --max-tokens 4 ${FILTER} --method variance`,
];
/** Names of results: losses, ids and decisions; and those that a rounded key or a score near its threshold moves little. */
const RESULTS = /^(nll|perplexity|logLikelihoods|ids|keep|text)$/, LASTING = /^perplexity$/;
/** Largest difference, relative to numbers above 1: of all results, and of those that last. */
const BAR = 2e-3, LASTING_BAR = 5e-2;

/** All results by their paths. */
function collect(
  value: unknown,
  path: string,
  names: RegExp,
  isResult = false,
): [path: string, value: unknown][] {
  if (typeof value !== "object" || value === null) return isResult ? [[path, value]] : [];
  return Object.entries(value).flatMap(([name, own]) =>
    name === "environment" ? [] : collect(own, `${path}/${name}`, names, isResult || names.test(name))
  );
}

/** The results of a command's JSON. */
async function run(
  command: string,
  backend: string,
  folder: string,
  names: RegExp,
) {
  const [task, ...args] = command.replace("TEXT", `${folder}/text`).split(" ");
  const out = /^(sweep|compare|heads|eval) /.test(command) ? ["--out", `${folder}/${task}_${backend}`] : [];
  const all = [...args, "--backend", backend, "--json", "--quiet", ...out];
  const { code, stdout, stderr } = await finish(await spawnTask(task!, all));
  assertEquals(code, 0, `${command} --backend ${backend}: ${stderr}`);
  return new Map(collect(JSON.parse(stdout), "", names));
}

/** Runs a command on the CPU and on CUDA, and compares. */
async function expectSame(command: string, isLasting: boolean): Promise<void> {
  const [names, bar] = isLasting ? [LASTING, LASTING_BAR] : [RESULTS, BAR];
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text`, TEXT);
    const want = await run(command, "cpu", folder, names);
    const found = await run(command, "cuda", folder, names);
    assert(want.size > 0, command);
    assertEquals([...found.keys()], [...want.keys()], command);
    for (const [path, value] of found) {
      const expected = want.get(path), what = `${command}: ${path}`;
      if (typeof value === "number" && typeof expected === "number") {
        assertAlmostEquals(value, expected, bar * Math.max(1, Math.abs(expected)), what);
      } else assertEquals(value, expected, what);
    }
  });
}

for (const command of COMMANDS) {
  Deno.test({
    ...unless(NO_DEVICE, `on CUDA and on the CPU alike: ${command}`),
    fn: () => expectSame(command, command.includes("bf16")),
  });
}

/** The reason why there is no larger model: it is downloaded where it is not in the cache. */
async function whyNoModel(): Promise<string | undefined> {
  const args = ["--model", MODEL, "--text", "README.md", "--tokens", "2", "--quiet"];
  const { code, stderr } = await finish(await spawnTask("score", args));
  return code === 0 ? undefined : stderr.trim().split("\n").at(-1);
}

const MODEL = "smollm2-135m",
  larger = NO_DEVICE ||
    (INTERPRETS_PTX ? "the interpreter is too slow for a larger model" : await whyNoModel());
for (const flags of ["", ` ${FILTER} --method variance`, " --phase decode --cache-dtype bf16"]) {
  const command = `score --model ${MODEL} --text TEXT${flags}`;
  Deno.test({
    ...unless(larger, `on CUDA and on the CPU alike: ${command}`),
    fn: () => expectSame(command, flags !== ""),
  });
}
