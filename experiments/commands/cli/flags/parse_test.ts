import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors.ts";
import { command as filter } from "../../filter.ts";
import { command as generate } from "../../generate.ts";
import { command as report } from "../../report.ts";
import { command as reproduce } from "../../reproduce.ts";
import { command as score } from "../../score.ts";
import { command as sweep } from "../../sweep.ts";
import { command as worker } from "../../worker.ts";
import type { Command } from "../command.ts";
import { describeFlags } from "./help.ts";
import { parseArguments } from "./parse.ts";
import { readNamedText } from "./text.ts";
import { withFolder } from "../../testing.ts";

const parse = (command: Command, ...args: string[]) =>
  Object.fromEntries(parseArguments(command, args).values);

Deno.test("parseArguments() reads lists, numbers, and values that look like flags", () => {
  assertEquals(parse(sweep, "--tau", "0,0.5,1e1", "--method=mean,key", "--theta", "-0.5,-.25"), {
    tau: [0, 0.5, 10],
    method: ["mean", "key"],
    theta: [-0.5, -0.25],
  });
  assertEquals(parse(sweep, "--seed", "18446744073709551615"), { seed: [18446744073709551615n] });
  assertEquals(parse(sweep, "--features", "norm,similarity+norm"), {
    features: [["norm"], ["similarity", "norm"]],
  });
  assertEquals(parse(sweep, "--whole", "none,auto,heads,7+18"), {
    whole: ["none", "auto", "heads", [7, 18]],
  });
});

Deno.test("parseArguments() reads flags whose value may be left out", () => {
  assertEquals(parse(sweep, "--invert", "--json", "--resume"), {
    invert: [true],
    json: [true],
    resume: [""],
  });
  assertEquals(parse(sweep, "--invert", "true,false", "--resume", "a,b"), {
    invert: [true, false],
    resume: ["a,b"],
  });
  assertEquals(parse(score, "--cache-skipped=false", "-h"), { "cache-skipped": [false], help: [true] });
});

Deno.test("parseArguments() keeps commas and spaces of paths", () => {
  assertEquals(parse(sweep, "--out", "a,b", "--model", "x,y.gguf"), { out: ["a,b"], model: ["x,y.gguf"] });
  assertEquals(parse(sweep, "--out", " ", "--method", "key, mean"), {
    out: [" "],
    method: ["key", "mean"],
  });
});

Deno.test("parseArguments() names the flag and the fix", () => {
  const cases: [Command, string[], string][] = [
    [sweep, ["--gama", "1"], 'flag "--gama": "sweep" has no such flag, the nearest is "--gamma"'],
    [sweep, ["--prune_ratio=0.5"], 'nearest is "--prune-ratio"'],
    [sweep, ["--no-json"], 'nearest is "--json"'],
    [sweep, ["-x"], 'flag "-x"'],
    [score, ["--grid", "a.json"], '"score" has no such flag'],
    [sweep, ["--fusion", "key"], 'Cannot use flag "--fusion": use --method instead'],
    [sweep, ["--kv-fusion", "key"], 'Cannot use flag "--kv-fusion": use --kv-method instead'],
    [sweep, ["--window=9"], 'Cannot use flag "--window": use --threshold-window instead'],
    [score, ["--products=bf16"], 'Cannot use flag "--products": use --matmul instead'],
    [sweep, ["--whole-share", "0.5"], 'Cannot use flag "--whole-share": use --whole-fraction instead'],
    [sweep, ["--beside"], '"sweep" has no such flag'],
    [generate, ["--beside"], 'Cannot use flag "--beside": use --full-model instead'],
    [score, ["--tau", "1,2"], "found 2 values, expected one"],
    [score, ["text.txt"], 'argument "text.txt": expected only flags'],
    [sweep, ["--tau"], "--tau: found no value, expected --tau X"],
    [sweep, ["--tau", "--json"], "--tau: found no value"],
    [sweep, ["--tau", ""], "--tau: found no value"],
    [sweep, ["--tau", "0,,1"], '--tau: found "", expected a number'],
    [sweep, ["--tau", "NaN"], 'found "NaN", expected a number'],
    [sweep, ["--tau", "0x10"], 'found "0x10", expected a number'],
    [sweep, ["--warmup", "1.5"], 'found "1.5", expected an integer'],
    [sweep, ["--whole", "all"], 'found "all", expected none, auto, heads, or layers as in 7+18+20'],
    [sweep, ["--invert=yes"], 'found "yes", expected true or false'],
    [sweep, ["--json=no"], '--json: found "no", expected --json without a value'],
    [score, ["--quiet=1"], '--quiet: found "1"'],
    [sweep, ["--", "text.txt"], 'argument "--": expected only flags'],
    [sweep, ["--tau", "1", "--tau", "2"], "--tau 2 times: expected once"],
  ];
  for (const [command, args, message] of cases) {
    assertThrows(() => parseArguments(command, args), UsageError, message, args.join(" "));
  }
});

Deno.test("parseArguments() never shows the value of an unknown flag, which may be a secret", () => {
  const secret = () => parseArguments(worker, ["--studi=redis://user:secret@host"]);
  const { message } = assertThrows(
    secret,
    UsageError,
    'Cannot use flag "--studi": "worker" has no such flag',
  );
  assertEquals([message.includes("secret"), message.includes('the nearest is "--study"')], [false, true]);
});

Deno.test("parseArguments() counts words, and takes a word as the value of a flag where one is declared", () => {
  assertEquals(parseArguments(report, ["a", "--out", "b", "c"]).words, ["a", "c"]);
  const none = "Cannot run report with 0 names: expected deno task report DIR… [flags] (see --help)";
  assertThrows(() => parseArguments(report, []), UsageError, none);
  assertEquals(parse(reproduce, "paper", "--plan"), { recipe: ["paper"], plan: [true] });
  assertEquals(parseArguments(reproduce, ["--plan", "paper"]).words, []);
  const twice = () => parseArguments(reproduce, ["paper", "--recipe", "quick"]);
  assertThrows(twice, UsageError, 'Cannot use "paper" with --recipe: expected one of them');
});

Deno.test("commands that filter take the flags that they share", () => {
  const shared =
    "method gamma tau lambda alpha prune-ratio warmup threshold threshold-window theta eta anchor absorb invert " +
    "block preset side kv-method kv-ratio recent backend threads tokens seed out columns csv markdown latex json quiet " +
    "help";
  const modelsOwn =
    "model tail schedule skip-ratios slope key-state cache-skipped kv-tail context ridge projections features";
  for (const command of [sweep, score, filter]) {
    const help = describeFlags(command, true);
    for (const name of `${shared} ${modelsOwn}`.split(" ")) {
      const isTaken = command !== filter || shared.split(" ").includes(name);
      assertEquals(new RegExp(`^  --${name}( |$)`, "m").test(help), isTaken, `${command.name} --${name}`);
    }
  }
});

Deno.test("describeFlags() lists for a dump the methods that run on one, and no options of others", () => {
  const names = (command: Command) =>
    describeFlags(command, true).match(/--[\w-]+|[\w-]+(?=[:|])|(?<=\|)[\w-]+/g)!;
  const others = [
    "oracle",
    "flap",
    "duo-attention",
    "--compensation",
    "--barrier",
    "--features",
  ];
  for (const name of others) {
    assertEquals([name, names(filter).includes(name), names(score).includes(name)], [
      name,
      false,
      true,
    ]);
  }
  for (const name of ["variance", "h2o", "received", "cur", "random-protected", "foresight", "--tau"]) {
    assertEquals([name, names(filter).includes(name)], [name, true]);
  }
  assertThrows(() => parse(filter, "--compensation", "false"), UsageError);
});

Deno.test("readNamedText() names a text by its file, without the folders", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/own.txt`, "words");
    assertEquals(await readNamedText(`${folder}/own.txt`), { name: "own.txt", text: "words" });
    assertEquals((await readNamedText()).name, "built-in prose");
  }));
