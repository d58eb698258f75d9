import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeSafetensors } from "../../lib/model/mod.ts";
import { hostTensor } from "../../lib/tensor.ts";
import { explainError } from "./cli/task.ts";
import { main as compare } from "./compare.ts";
import { main as filter } from "./filter.ts";
import { main as heads } from "./heads.ts";
import { main as score } from "./score.ts";
import { main as sweep } from "./sweep.ts";
import { listFolder, runProcess, runTask, withFolder } from "./testing.ts";
import { NEEDS_LINUX, unless } from "../../lib/testing.ts";

const tiny = new URL("../../lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);

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

Deno.test("sweep names what is wrong with its input, and writes nothing", () =>
  withFolder(async (folder) => {
    const file = (name: string, text: string) => {
      Deno.writeTextFileSync(`${folder}/${name}`, text);
      return `${folder}/${name}`;
    };
    const short = file("short.txt", "Too short."),
      grid = file("grid.json", '{"gama": [1]}'),
      broken = file("broken.json", "{");
    const ratios = file("ratios.json", "[0, 0.5]"), words = file("words.json", '["a"]');
    const wordy = file("wordy.json", '{"tau": ["a"]}');
    const latin = `${folder}/latin.txt`;
    Deno.writeFileSync(latin, Uint8Array.of(0x66, 0xfc, 0x72));
    Deno.mkdirSync(`${folder}/used`);
    Deno.writeTextFileSync(`${folder}/used/study.db`, "");
    const before = listFolder(folder);
    const out = `${folder}/out`;
    const cases: [string[], string][] = [
      [["--prune-ratio", "1"], "--prune-ratio: found 1, expected a number in [0, 1)"],
      [["--prune-ratio", "-0.1"], "--prune-ratio: found -0.1"],
      [["--method", "varience"], "--method"],
      [
        ["--tail", "0.4"],
        "layer 9 needs a skip ratio of 1.25, expected at most 1: use a tail of at least 0.5",
      ],
      [["--tail", "0.4", "--model", "smollm2-135m"], "layer 29 needs a skip ratio of 1.25"],
      [["--schedule", "explicit"], "--skip-ratios"],
      [["--skip-ratios", ratios], "--skip-ratios"],
      [["--skip-ratios", words], "expected a list of numbers"],
      [["--method", "learned", "--warmup", "4"], "--warmup: found 4, expected an integer from 8"],
      [["--context", "1"], "--context 1: expected an integer of at least 2"],
      [["--context", "100000"], "a text of"],
      [["--memory", "2GB"], '--memory "2GB": expected a size such as 500M or 2G'],
      [["--text", short], "a text of 11 tokens: expected at least one context of 512"],
      [["--tokens", "100"], "a text of 100 tokens"],
      [["--text", `${folder}/none.txt`], "there is no such file"],
      [["--text", folder], "it is a folder"],
      [["--text", latin], "not UTF-8"],
      [["--grid", grid], 'the nearest is "gamma" (in "'],
      [["--grid", wordy], 'found "a", expected a number in [0, 64] (in "'],
      [["--grid", broken], "it is not JSON"],
      [["--model", `${folder}/none.gguf`], "no such file"],
      [["--model", "tinny"], 'the nearest is "tiny"'],
      [["--backend", "gpu"], "expected one of cpu, cuda, reference, auto"],
      [["--threads", "0"], "--threads 0"],
      [["--wgmma"], "Cannot use --wgmma with --backend cpu"],
      [
        ["--wgmma", "--backend", "cuda"],
        "Cannot use --wgmma with a cache of f32: expected --cache-dtype f16",
      ],
      [["--dtype", "q5_1"], 'Cannot use --dtype "q5_1": expected one of f32, bf16, f16, q8_0, q4_0'],
      [["--cache-dtype", "f64"], 'Cannot use --cache-dtype "f64": expected one of f32, f16, bf16'],
      [["--matmul", "int4"], 'Cannot use --matmul "int4": expected one of exact, bf16'],
      // A study of an earlier version may contain this value.
      [["--matmul", "int16"], 'Cannot use --matmul "int16": expected one of exact, bf16'],
      [["--matmul", "bf16", "--backend", "reference"], "expected --backend cpu"],
      [["--resume"], "found no folder"],
      [["--resume", out], "found no study.db"],
      [["--out", `${folder}/used`], "it holds a study"],
      [["--out", `${short}/deeper`], "Cannot write to"],
      [["--out", "/proc/none/deeper"], "Cannot write to"],
    ];
    for (const [args, part] of cases) {
      const where = args.includes("--out") || args.includes("--resume") ? [] : ["--out", out];
      assertStringIncludes(await lineOf(sweep, [...args, ...where]), part, args.join(" "));
      assertEquals(listFolder(folder), before, args.join(" "));
    }
  }));

Deno.test("compare refuses the flags whose place --methods takes", async () => {
  for (const flags of [["--method", "key"], ["--invert"], ["--preset", "paper"]]) {
    const line = await lineOf(compare, [...flags, "--tokens", "2"]); // too few: other flags are refused later
    assertStringIncludes(line, `Cannot use ${flags[0]} in a comparison: expected`);
  }
});

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
      assertStringIncludes(await lineOf(compare, ["--methods", "shortgpt", ...args]), expected);
      assertStringIncludes(await lineOf(sweep, ["--method", "shortgpt", ...args]), expected);
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
        const [task, more] of [[sweep, []], [score, ["--text", import.meta.filename!]]] as const
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
    const cases: [typeof sweep, string[]][] = [
      [sweep, [...chunks, "--method", "key"]],
      [compare, [...chunks, "--methods", "key"]],
      [heads, chunks],
      [score, text],
      [score, [...text, "--method", "learned"]],
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
        const line = await lineOf(score, [flag!, path!, "--quiet"]);
        assertEquals(line, `Cannot read "${path}": found a pipe or a device, expected a file`);
      }
    }),
});

Deno.test("score names what is wrong with its input", () =>
  withFolder(async (folder) => {
    const file = (name: string, text: string) => {
      Deno.writeTextFileSync(`${folder}/${name}`, text);
      return `${folder}/${name}`;
    };
    const ids = file("ids.json", "[1, 2, 3]"), text = file("text.txt", "Some words.");
    const cases: [string[], string][] = [
      [[], "expected either --text FILE or --ids FILE.json"],
      [["--text", text, "--ids", ids], "expected either"],
      [["--ids", file("one.json", "[1]")], "found 1 ids, expected at least 2"],
      [["--ids", file("float.json", "[1, 2.5]")], "found 2.5 at 1"],
      [["--ids", file("minus.json", "[1, -2]")], "found -2 at 1"],
      [["--ids", file("object.json", "{}")], "expected a list of token ids"],
      [["--ids", file("high.json", "[1, 4096]")], "found id 4096 at 1, expected ids below the model's 4096"],
      [["--text", file("empty.txt", "")], "a text of 1 tokens"],
      [["--ids", ids, "--phase", "both"], "expected one of prefill, decode"],
      [["--ids", ids, "--chunk", "0"], "--chunk 0"],
      [["--ids", ids, "--method", "oracle", "--phase", "decode"], "is non-causal"],
      [["--ids", ids, "--threshold", "topk", "--chunk", "2"], "is non-causal"],
      [["--ids", ids, "--tail", "0.1"], "layer 9"],
      [["--ids", ids, "--method", "random,mean"], "found 2 values, expected one"],
    ];
    for (const [args, part] of cases) assertStringIncludes(await lineOf(score, args), part, args.join(" "));
  }));

Deno.test("filter names what is wrong with its input", () =>
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
    const good = dump("good", { keys: ones(4, 2, 3), values: ones(4, 2, 3) });
    const nan: Parameters<typeof hostTensor> = ["f32", [2, 1, 2], Float32Array.of(1, 2, NaN, 1)];
    const cases: [string[], string][] = [
      [[], "expected --kv DUMP.safetensors"],
      [["--kv", `${folder}/none`], "there is no such file"],
      [["--kv", dump("lacking", { keys: ones(2, 2, 3) })], '"values"'],
      [["--kv", dump("flat", { keys: ones(2, 6), values: ones(2, 6) })], "expected [T, H, d]"],
      [["--kv", dump("unlike", { keys: ones(2, 2, 3), values: ones(3, 2, 3) })], "expected both alike"],
      [["--kv", dump("nan", { keys: ones(2, 1, 2), values: nan })], "found NaN in values of token 1"],
      [["--kv", good, "--method", "learned"], "needs more than keys and values"],
      [["--kv", good, "--method", "oracle"], "needs more than keys and values"],
      [["--kv", good, "--skip-ratio", "1.5"], "--skip-ratio 1.5"],
      [["--kv", good, "--layer", "-1"], "--layer -1"],
      [["--kv", good, "--gamma", "1"], "--gamma: found 1, expected a number in [0, 1)"],
    ];
    for (const [args, part] of cases) assertStringIncludes(await lineOf(filter, args), part, args.join(" "));
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
        "Cannot write the results: found no space left on the device",
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
    assert(lines.length < 60, `${lines.length} lines`);
    assertEquals(lines.slice(examples, examples + 4).map((line) => line.startsWith(`  deno task ${task}`)), [
      ...[true, true, true, false],
    ]);
    assertStringIncludes(stdout, "\n\nMethod:\n  --method ");
    assertStringIncludes(stdout, "\n  --prune-ratio ");
    assert(!stdout.includes("--ridge"), "an option of one rule");
    for (const asked of [["--help", "all"], ["--help=all"], ["-h", "all"]]) {
      const { stdout: all } = await runTask(task, ...asked);
      assertStringIncludes(all, "--prune-ratio P");
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

Deno.test("heads refuses what decides keys and values, the oracle, and resamples without number", async () => {
  for (
    const [args, found] of [
      [["--side", "key"], "--kv-method variance: heads measures whose attention matters"],
      [["--resamples", "99999999999"], "--resamples 99999999999: expected an integer from 1 to 1000000"],
      [["--kv-method", "received"], "--kv-method received: heads measures whose attention matters"],
      [["--method", "oracle"], "--method oracle: the oracle is what the rules are measured against"],
    ] as const
  ) assertStringIncludes(await lineOf(heads, [...args]), found);
});
