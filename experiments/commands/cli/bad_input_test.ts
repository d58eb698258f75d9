import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeSafetensors } from "../../../lib/model/mod.ts";
import { hostTensor } from "../../../lib/tensor.ts";
import { explainError } from "./task.ts";
import { command as compare } from "../compare.ts";
import { command as filter } from "../filter.ts";
import { command as heads } from "../heads.ts";
import { command as score } from "../score.ts";
import { command as sweep } from "../sweep.ts";
import { listFolder, runProcess, runTask, withFolder } from "../testing.ts";
import { NEEDS_LINUX, unless } from "../../../lib/testing.ts";

const tiny = new URL("../../../lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);

/** The one line that a task ends with. */
async function lineOf(task: (args: string[]) => Promise<number>, args: string[]): Promise<string> {
  try {
    await task(args);
  } catch (error) {
    const line = explainError(error);
    if (line === undefined) throw error; // a defect of the program, with its trace
    assertEquals(line.includes("\n"), false, line);
    return line;
  }
  throw new Error(`${args.join(" ")} was accepted`);
}

Deno.test("methods that alter the model are refused without a calibration text, and one without its label", () =>
  withFolder(async (folder) => {
    const text = `${folder}/text.txt`, empty = `${folder}/empty.txt`, missing = `${folder}/missing.txt`;
    Deno.writeTextFileSync(text, "It was a dark night.");
    Deno.writeTextFileSync(empty, "");
    const same = ["--calibration-domain", "same"];
    const cases: [string[], string][] = [
      [[], 'Cannot prune by "shortgpt" without a calibration text: expected --calibration FILE'],
      [["--calibration", text], "found no --calibration-domain, expected same"],
      [
        ["--calibration", text, "--calibration-domain", "near"],
        "found --calibration-domain near, expected same",
      ],
      [same, "Cannot use --calibration-domain without a calibration text"],
      [["--calibration", missing, ...same], missing],
      [["--calibration", empty, ...same], "found 1 tokens, expected at least 2"],
    ];
    for (const [flags, expected] of cases) {
      const args = ["--tokens", "600", "--quiet", ...flags];
      assertStringIncludes(await lineOf(compare.main, ["--methods", "shortgpt", ...args]), expected);
      assertStringIncludes(await lineOf(sweep.main, ["--method", "shortgpt", ...args]), expected);
    }
    assertEquals(listFolder(folder), ["empty.txt", "text.txt"]);
  }));

Deno.test("every task refuses a broken model file by name", () =>
  withFolder(async (folder) => {
    const whole = await Deno.readFile(tiny);
    const variant = (change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array) => {
      Deno.writeFileSync(`${folder}/model.gguf`, change(whole.slice()));
      return ["--model", `${folder}/model.gguf`, "--out", `${folder}/out`];
    };
    const set = (at: number, ...values: number[]) => (bytes: Uint8Array) => (bytes.set(values, at), bytes);
    const cases: [(bytes: Uint8Array<ArrayBuffer>) => Uint8Array, RegExp][] = [
      [(bytes) => bytes.subarray(0, 100), /^Cannot read ".*model\.gguf"/],
      [(bytes) => bytes.subarray(0, bytes.length - 1), /^Cannot read ".*model\.gguf"/],
      [(bytes) => bytes.subarray(0, 0), /^Cannot read ".*model\.gguf"/],
      [set(0, 0x50), /magic|GGUF/],
      [set(4, 9), /version/],
      [set(8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), /^Cannot read ".*model\.gguf"/],
    ];
    for (const [change, part] of cases) {
      for (
        const [task, more] of [[sweep.main, []], [score.main, ["--text", import.meta.filename!]]] as const
      ) {
        assertMatch(await lineOf(task, [...variant(change), ...more]), part);
        assertEquals(listFolder(folder), ["model.gguf"]);
      }
    }
  }));

Deno.test("every task refuses a model whose logits are not finite, and writes nothing", () =>
  withFolder(async (folder) => {
    const bytes = await Deno.readFile(tiny);
    bytes.fill(0xff, bytes.length - 64); // a part of the last tensor, its output norm: NaN
    await Deno.writeFile(`${folder}/broken.gguf`, bytes);
    const small = ["--tokens", "40", "--warmup", "8", "--quiet", "--model", `${folder}/broken.gguf`];
    const text = ["--text", import.meta.filename!], chunks = ["--context", "32", "--out", `${folder}/out`];
    const cases: [typeof sweep.main, string[]][] = [
      [sweep.main, [...chunks, "--method", "key"]],
      [compare.main, [...chunks, "--methods", "key"]],
      [heads.main, chunks],
      [score.main, text],
      [score.main, [...text, "--method", "learned"]],
    ];
    for (const [task, args] of cases) {
      const line = await lineOf(task, [...small, ...args]);
      assertMatch(
        line,
        /^Cannot use the model "broken": found a logit of NaN after token 0, expected finite/,
      );
    }
    assertEquals(listFolder(folder), ["broken.gguf"]);
  }));

Deno.test({
  ...unless(NEEDS_LINUX, "score reads no device, and waits for no pipe"),
  fn: () =>
    withFolder(async (folder) => {
      assertEquals((await new Deno.Command("mkfifo", { args: [`${folder}/pipe`] }).output()).code, 0);
      for (
        const [flag, path] of [["--text", "/dev/zero"], ["--text", `${folder}/pipe`], ["--ids", "/dev/zero"]]
      ) {
        const line = await lineOf(score.main, [flag!, path!, "--quiet"]);
        assertEquals(line, `Cannot read "${path}": found a pipe or a device, expected a file`);
      }
    }),
});

Deno.test("filter names what is wrong with a dump", () =>
  withFolder(async (folder) => {
    const dump = (name: string, tensors: Record<string, Parameters<typeof hostTensor>>) => {
      const path = `${folder}/${name}.safetensors`;
      const list = Object.entries(tensors).map(([key, args]) => [key, hostTensor(...args)] as const);
      Deno.writeFileSync(path, writeSafetensors(new Map(list)));
      return path;
    };
    const ones = (...shape: number[]): Parameters<typeof hostTensor> => [
      "f32",
      shape,
      new Float32Array(shape.reduce((a, b) => a * b)).fill(1),
    ];
    const nan: Parameters<typeof hostTensor> = ["f32", [2, 1, 2], Float32Array.of(1, 2, NaN, 1)];
    const cases: [string[], string][] = [
      [["--kv", dump("lacking", { keys: ones(2, 2, 3) })], '"values"'],
      [["--kv", dump("flat", { keys: ones(2, 6), values: ones(2, 6) })], "expected [T, H, d]"],
      [["--kv", dump("unlike", { keys: ones(2, 2, 3), values: ones(3, 2, 3) })], "expected both alike"],
      [["--kv", dump("nan", { keys: ones(2, 1, 2), values: nan })], "found NaN in values of token 1"],
    ];
    for (const [args, part] of cases) {
      assertStringIncludes(await lineOf(filter.main, args), part, args.join(" "));
    }
  }));

Deno.test({
  ...unless(NEEDS_LINUX, "explainError() says in one line that a device is full"),
  fn: () => {
    using full = Deno.openSync("/dev/full", { write: true });
    try {
      full.writeSync(Uint8Array.of(1));
    } catch (error) {
      assertStringIncludes(
        explainError(error)!,
        "Cannot write a file: found no space left on the device",
      );
      return;
    }
    throw new Error("/dev/full took a byte");
  },
});

Deno.test("tasks end bad input with one line, exit code 2 and an empty stdout", async () => {
  for (
    const [task, args, part] of [
      ["sweep", ["--gama", "0.9"], 'the nearest is "--gamma"'],
      ["sweep", ["--out", "/proc/none"], "Cannot write to"],
      ["score", ["--ids", "none.json", "--json"], "there is no such file"],
      ["filter", ["--kv", "none.safetensors"], "there is no such file"],
    ] as const
  ) {
    const { code, stdout, stderr } = await runProcess(task, ...args);
    assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
    assertStringIncludes(stderr, part);
  }
});

Deno.test("tasks print their help", async () => {
  for (const task of ["sweep", "score", "filter", "generate", "serve"]) {
    const { code, stdout, stderr } = await runTask(task, "--help");
    assertEquals([code, stderr], [0, ""]);
    const lines = stdout.trimEnd().split("\n"), examples = lines.indexOf("Examples:") + 1;
    assertEquals(lines.filter((line) => line.length > 80), []);
    const shown = lines.slice(examples, lines.indexOf("", examples));
    assert(shown.length >= 3 && shown.every((line) => line.startsWith(`  deno task ${task}`)), stdout);
    assertMatch(stdout, /\n\nMethod:\n( {2}.*\n)* {2}--method /);
    assertStringIncludes(stdout, "\n  --prune-ratio ");
    assert(!stdout.includes("--ridge"), "an option of one rule");
    for (const asked of [["--help", "all"], ["--help=all"], ["-h", "all"]]) {
      const { stdout: all } = await runTask(task, ...asked);
      assertStringIncludes(all, "--prune-ratio P");
      assert(all.split("\n").length > lines.length, "help leaves options of single rules out");
      assertEquals(
        all.includes("--ridge X"),
        task !== "filter",
        "of a method that a dump alone cannot serve",
      );
      assert(all.length > stdout.length);
    }
    assertMatch((await runTask(task, "--version")).stdout, /^tokenfilter \d+\.\d+\.\d+\n$/);
  }
});
