/** Tasks with `--backend cuda` come to the results of the CPU: of the tiny model, and on a card of a larger GGUF too. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { buildEmulated } from "../../../ffi/build/emulated_testing.ts";
import * as driver from "../../../ffi/cuda/fake_driver_testing.ts";
import { NO_EMULATOR, testsOnGpu } from "../../../ffi/cuda/testing.ts";
import { IN_SLOW_TIER, NEEDS_LINUX, unless } from "../../../lib/testing.ts";
import { finish, spawnTask, withFolder } from "../../commands/testing.ts";

const TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, " +
  "it was the age of foolishness.";
const FILTER = "--warmup 8 --prune-ratio 0.5 --recent 4";
/** Commands, and the names of results that are losses, ids and decisions. */
const COMMANDS = [
  `score --text TEXT ${FILTER} --method variance`,
  `score --text TEXT --tokens 16 --phase decode ${FILTER} --method variance --cache-dtype bf16`,
  `sweep --text TEXT --context 30 ${FILTER} --method variance`,
  `compare --text TEXT --context 30 --warmup 8 --methods variance --ratios 0.5`,
  `heads --text TEXT --context 30 --warmup 8`,
  `eval --tasks copy --items 2 --length 48`,
  `generate --text TEXT --max-tokens 4 ${FILTER} --method variance`,
];
const RESULTS = /^(nll|perplexity|logLikelihoods|ids|keep|text)$/;

/** The emulated library behind a stand-in for the driver; a card needs nothing. */
async function environment(): Promise<Record<string, string>> {
  if (testsOnGpu()) return {};
  driver.driverWith(); // with its defaults
  return {
    TOKENFILTER_CUDA_DRIVER: driver.path,
    TOKENFILTER_CUDA_LIBRARY: (await buildEmulated()).path,
    TOKENFILTER_CUBLASLT: "none",
  };
}

/** All results by their paths. */
function collect(value: unknown, path: string, isResult: boolean, found: Map<string, unknown>): void {
  if (typeof value === "object" && value !== null) {
    for (const [name, own] of Object.entries(value)) {
      if (name !== "environment") collect(own, `${path}/${name}`, isResult || RESULTS.test(name), found);
    }
  } else if (isResult) found.set(path, value);
}

async function run(command: string, backend: string, folder: string, env: Record<string, string>) {
  const [task, ...args] = command.replace("TEXT", `${folder}/text`).split(" ");
  const out = /^(sweep|compare|heads|eval) /.test(command) ? ["--out", `${folder}/${task}_${backend}`] : [];
  const all = [...args, "--backend", backend, "--json", "--quiet", ...out];
  const { code, stdout, stderr } = await finish(await spawnTask(task!, all, env));
  assertEquals(code, 0, `${command} --backend ${backend}: ${stderr}`);
  const found = new Map<string, unknown>();
  collect(JSON.parse(stdout), "", false, found);
  return found;
}

/** Runs a command on the CPU and on CUDA, and compares. */
async function expectSame(command: string, bar: number): Promise<void> {
  const env = await environment();
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text`, TEXT);
    const want = await run(command, "cpu", folder, {}), found = await run(command, "cuda", folder, env);
    assert(want.size > 0, command);
    assertEquals([...found.keys()], [...want.keys()], command);
    for (const [path, value] of found) {
      const expected = want.get(path), what = `${command}: ${path}`;
      if (typeof value !== "number") assertEquals(value, expected, what);
      else {assertAlmostEquals(
          value,
          expected as number,
          bar * Math.max(1, Math.abs(expected as number)),
          what,
        );}
    }
  });
}

const notHere = !testsOnGpu() && (NO_EMULATOR || NEEDS_LINUX || IN_SLOW_TIER);
for (const command of COMMANDS) {
  Deno.test({
    ...unless(notHere, `on CUDA and on the CPU alike: ${command}`),
    fn: () => expectSame(command, command.includes("bf16") ? 1e-2 : 2e-3),
  });
}

/** The reason why there is no larger model: it is downloaded where it is not in the cache. */
async function whyNoModel(): Promise<string | undefined> {
  const { code, stderr } = await finish(
    await spawnTask("score", ["--model", MODEL, "--tokens", "2", "--quiet"]),
  );
  return code === 0 ? undefined : stderr.trim().split("\n").at(-1);
}

const MODEL = "smollm2-135m", larger = testsOnGpu() ? await whyNoModel() : "needs a GPU: deno task test:gpu";
for (const flags of ["", ` ${FILTER} --method variance`, " --phase decode --cache-dtype bf16"]) {
  const command = `score --model ${MODEL} --text TEXT${flags}`;
  Deno.test({
    ...unless(larger, `on CUDA and on the CPU alike: ${command}`),
    fn: () => expectSame(command, 5e-2),
  });
}
