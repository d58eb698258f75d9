/**
 * The promise of docs/guides/write-a-rule.md: a new method is one file and one line, and every command has it. A copy
 * of the project takes in a rule with two options and a pruner with one; only `lib/methods/` differs from the project
 * itself.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeSafetensors } from "../../../lib/model/mod.ts";
import { type HostTensor, hostTensor } from "../../../lib/tensor.ts";
import { copyProject, finish, type Finished, moduleOf } from "../testing.ts";
import { ADDED, addMethods } from "./method_testing.ts";

const copy = copyProject("lib/methods");
addMethods(copy, ADDED);

const deno = (...args: string[]): Promise<Finished> =>
  finish(new Deno.Command(Deno.execPath(), { args, cwd: copy, stdout: "piped", stderr: "piped" }).spawn());
const run = (task: string, line: string) =>
  deno("run", "-A", moduleOf(task), ...line.split(" "), "--threads", "1");

const SMALL = "--context 48 --tokens 96 --warmup 8 --tail 0.5 --prune-ratio 0.25";

Deno.test("a new method's own options follow into types, and the contract holds it", async () => {
  const use = `import { createPruner, resolveOptions } from "./mod.ts";
const ratio: number = resolveOptions({ fusion: "toy", toyA: 2 }).toyA;
createPruner("even", { numLayers: 1, numHeads: 1, numKvHeads: 1, headDim: 1, hiddenSize: 1 }, { evenShift: ratio });
// @ts-expect-error an option of another type
resolveOptions({ toyA: "2" });
`;
  Deno.writeTextFileSync(`${copy}/lib/methods/use.ts`, use);
  const { code, stderr } = await deno("check", "lib/methods/use.ts");
  assertEquals(code, 0, stderr);
  const contract = "lib/methods/contract_test.ts";
  const tested = await deno("test", "-A", "--no-check", contract, "--filter", "/^(toy|even) /");
  assertEquals(tested.code, 0, tested.stdout);
  assertMatch(tested.stdout, /toy \{"toyA":0.25\} decides the same in any chunks .*ok/);
  assertMatch(tested.stdout, /even \{"evenShift":2\} forks into independent sequences .*ok/);
});

Deno.test("sweep, its help, its grid and its report know a new method", async () => {
  const { stdout: help } = await run("sweep", "--help all");
  assertMatch(help, /--method \S+\|toy\|even\|attention-drop/);
  assertStringIncludes(help, "      toy: keys less values\n");
  assertStringIncludes(help, "  --toy-a X\n      toy: weight of the values, [0, 2] (0.5)\n");
  assertStringIncludes(help, "  --toy-squared\n      toy: square it (off)\n");
  assertStringIncludes(help, "  --even-shift N\n      even: tokens by which all is shifted (1)\n");

  const out = `${copy}/sweep_out`;
  const { code, stdout, stderr } = await run(
    "sweep",
    `${SMALL} --method toy,even,key --toy-a 1,2 --json --out ${out}`,
  );
  assertEquals(code, 0, stderr);
  assertStringIncludes(stderr, '"toy" decides in TypeScript on the host: the kernels do not have this rule.');
  const trials: Record<string, unknown>[] = JSON.parse(stdout).trials;
  assertEquals(trials.map(({ fusion, toyA }) => `${fusion} ${toyA}`).sort(), [
    "even 1",
    "key 1",
    "toy 1",
    "toy 2",
  ]);
  assertEquals(new Set(trials.map(({ trial }) => trial)).size, 4);
  const names = Object.keys(trials[0]!);
  const at = names.indexOf("anchor"); // options of scores come before it
  assertEquals(names.slice(at - 2, at), ["toyA", "toySquared"]);
  assert(trials.every(({ achievedRatio }) => Math.abs(achievedRatio as number - 0.25) < 0.05));
  const report = Deno.readTextFileSync(`${out}/report.html`);
  for (const curve of ["toy · toyA 1", "toy · toyA 2", "even"]) {
    assertStringIncludes(report, `"name":"${curve}"`);
  }

  const refused = await run("sweep", `${SMALL} --method toy --toy-a 3`);
  assertEquals(refused.code, 2);
  assertEquals(
    refused.stderr,
    "Cannot use --toyA: found 3, expected a number in [0, 2]\n".replace("toyA", "toy-a"),
  );
});

Deno.test("compare, score and heads know a new method", async () => {
  const compared = await run(
    "compare",
    `${SMALL} --methods toy,even,random --seeds 1 --json --quiet --out ${copy}/c`,
  );
  assertEquals(compared.code, 0, compared.stderr);
  const methods: { name: string }[] = JSON.parse(compared.stdout).methods;
  assertEquals(methods.map(({ name }) => name).sort(), ["dense", "even", "random", "toy"]);

  Deno.writeTextFileSync(`${copy}/ids.json`, JSON.stringify(Array.from({ length: 40 }, (_, i) => 300 + i)));
  for (const fusion of ["toy --toy-squared", "even --even-shift 3"]) {
    const scored = await run("score", `--ids ${copy}/ids.json --method ${fusion} --warmup 8 --json --quiet`);
    assertEquals(scored.code, 0, scored.stderr);
    assert(JSON.parse(scored.stdout).keep.some((mask: number[]) => mask.includes(0)), fusion);
  }

  const heads = await run("heads", `${SMALL} --method toy --resamples 20 --json --quiet --out ${copy}/h`);
  assertEquals(heads.code, 0, heads.stderr);
  const { overall, options } = JSON.parse(heads.stdout);
  assertEquals([options.method.fusion, options.method.toyA], ["toy", 0.5]);
  assert(
    overall.rules.some(({ rule, auroc }: { rule: string; auroc: number }) => rule === "toy" && auroc > 0),
  );
  const refused = await run("heads", `${SMALL} --method even --out ${copy}/none`);
  assertMatch(refused.stderr, /^Cannot use --method even: expected a rule/);
});

Deno.test("filter knows a new rule", async () => {
  const rows = (seed: number): HostTensor =>
    hostTensor("f32", [20, 2, 4], Float32Array.from({ length: 160 }, (_, i) => Math.sin(seed * i * i) + 0.5));
  const dump = `${copy}/dump.safetensors`;
  Deno.writeFileSync(dump, writeSafetensors(new Map([["keys", rows(1)], ["values", rows(2)]])));
  const { code, stdout, stderr } = await run(
    "filter",
    `--kv ${dump} --method toy --toy-a 0 --warmup 4 --json --quiet`,
  );
  assertEquals(code, 0, stderr);
  const { redundancy, muK, wK } = JSON.parse(stdout);
  assertEquals(redundancy, muK); // nothing is taken off
  assertEquals(wK, Array(20).fill(null));
});
