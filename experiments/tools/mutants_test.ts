/** `deno task mutants`: its operators, its draw, and its report on a small tree. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { testSlow } from "../../lib/testing.ts";
import { UsageError } from "../../lib/errors.ts";
import { main, tellSample } from "./mutants.ts";
import { findKernelTests, findTests } from "./mutants/dependents.ts";
import { drawMutants, findStale, isMutableTypeScript, listMutants, SCOPES } from "./mutants/draw.ts";
import { listMutations } from "./mutants/operators.ts";
import { findMistyped } from "./mutants/run.ts";
import { drawSample, testSample } from "./mutants/tree.ts";
import { makeWorkplace, type Workplace } from "./mutants/workplace.ts";
import { readStdFlags } from "../commands/cli/machine/deno.ts";
import { capture, listFolder, runTask, withFolder } from "../commands/testing.ts";

/** `before → after` of all mutations of a text. Each must make the text that it announces. */
async function changes(path: string, source: string): Promise<string[]> {
  const mutations = await listMutations(path, source);
  for (const { start, end, text, after, line } of mutations) {
    const mutated = source.slice(0, start) + text + source.slice(end);
    assert(mutated.replaceAll(/\s+/g, " ").includes(after === ";" ? ";" : after), mutated);
    assertEquals(source.slice(0, start).split("\n").length, line);
  }
  return mutations.map(({ before, after }) => `${before} → ${after}`);
}

Deno.test("listMutations() puts each fault into TypeScript, and leaves types and messages alone", async () => {
  assertEquals(
    await changes("a.ts", "const x: 1 | 2 = a < 3 ? b : c;"),
    ["a < 3 → true", "a < 3 → false", "a < 3 → a <= 3", "a < 3 → a >= 3", "a < 3 → a < 4"],
  );
  assertEquals(
    await changes(
      "a.ts",
      'if (!x) throw new RangeError(`Cannot: found ${x + 1}`);\nonProgress(1);\nf("a" + b);',
    ),
    [
      "if (!x) → if (true)",
      "if (!x) → if (false)",
      "!x → x",
      "throw new RangeError(`Cannot: found ${x + 1}`); → ;",
      'f("a" + b); → ;',
    ],
  );
  assertEquals(
    await changes("a.ts", "function f(): number[] { for (let i = 0; i < n; i++) a[i] += -b; return a; }"),
    [
      ...[
        "i = 0 → i = 1",
        "i < n → i <= n",
        "i < n → i >= n",
        "a[i] += -b; → ;",
        "a[i] += -b → a[i] -= -b",
        "-b → b",
      ],
      "return a; → return [];",
    ],
  );
  assertEquals(
    await changes("a.ts", "const f = (): boolean => { i--; return Math.min(a ?? 1e-3, 0x0f) > 1; };"),
    [
      "i--; → ;",
      "i-- → i++",
      "return Math.min(a ?? 1e-3, 0x0f) > 1; → return !(Math.min(a ?? 1e-3, 0x0f) > 1);",
      "Math.min(a ?? 1e-3, 0x0f) → Math.max(a ?? 1e-3, 0x0f)",
      "a ?? 1e-3 → 1e-3",
      "a ?? 1e-3 → a ?? 1e-2",
      "Math.min(a ?? 1e-3, 0x0f) → Math.min(a ?? 1e-3, 0x10)",
      "Math.min(a ?? 1e-3, 0x0f) > 1 → Math.min(a ?? 1e-3, 0x0f) >= 1",
      "Math.min(a ?? 1e-3, 0x0f) > 1 → Math.min(a ?? 1e-3, 0x0f) <= 1",
      "Math.min(a ?? 1e-3, 0x0f) > 1 → Math.min(a ?? 1e-3, 0x0f) > 2",
    ],
  );
});

Deno.test("listMutations() leaves the sizes of figures alone, not their conditions, and those of other code", async () => {
  const source = "f({ height: 40 + 2 * n, marker: { size: a ? 1 : 2 }, x: 1 });";
  assertEquals(await changes("lib/plot/a.ts", source), [
    `${source} → ;`,
    "a → true",
    "a → false",
    "x: 1 → x: 2",
  ]);
  assertEquals((await changes("lib/a.ts", source)).length, 10);
});

Deno.test("listMutations() puts the same faults into C++, and leaves the preprocessor alone", async () => {
  assertEquals(
    await changes(
      "a.cpp",
      "#if LEVEL > 1\nbool f(int a) {\n  call(a);\n  return std::max(a, -1) && true;\n}\n#endif\n",
    ),
    [
      "call(a); → ;",
      "return std::max(a, -1) && true; → return !(std::max(a, -1) && true);",
      "std::max(a, -1) → std::min(a, -1)",
      "std::max(a, -1) → std::max(a, -2)",
      "std::max(a, -1) && true → std::max(a, -1) || true",
      "std::max(a, -1) && true → std::max(a, -1) && false",
    ],
  );
});

Deno.test("drawMutants() takes one a line, by the seed, and the same ones after a change elsewhere", async () => {
  const source = Array.from({ length: 40 }, (_, i) => `export const x${i} = a${i} + ${i} * b;`).join("\n");
  const draw = async (text: string, seed: string, count = 10) =>
    drawMutants(await listMutants(["lib/a.ts"], ["lib/a.ts"], () => Promise.resolve(text)), seed, count);
  const drawn = await draw(source, "1");
  assertEquals(drawn.length, 10);
  assertEquals(new Set(drawn.map(({ line }) => line)).size, 10);
  const texts = (mutants: typeof drawn) => mutants.map(({ source, after }) => `${source} ${after}`);
  assertEquals(texts(await draw(`// One line more.\n${source}`, "1")), texts(drawn));
  assert(texts(await draw(source, "2")).join() !== texts(drawn).join());
  assertEquals((await draw(source, "1", Infinity)).length, 40);
  await assertRejects(
    () => listMutants(["lib/b.ts"], ["lib/a.ts"], () => Promise.resolve(source)),
    UsageError,
    "lib/b.ts",
  );

  const entry = { ...drawn[0]!, reason: "" };
  assertEquals(findStale([entry, { ...entry, source: "gone" }], drawn).map(({ source }) => source), ["gone"]);
});

Deno.test("isMutableTypeScript() takes neither tests nor their helpers, nor what is run by hand", () => {
  const paths = [
    "lib/a.ts",
    "lib/a_test.ts",
    "ffi/testing.ts",
    "ffi/b_testing.ts",
    "kernels/a/cases.ts",
    "mod.ts",
    "experiments/tools/attack/queue.ts",
    "experiments/tools/bench/serve.ts",
    "experiments/studies/comparison/measure.ts",
    "experiments/studies/retrieval/gemma.ts",
    "experiments/tools/verify/score_chunks.ts",
  ];
  assertEquals(paths.filter(isMutableTypeScript), ["lib/a.ts"]);
});

Deno.test("findTests() puts the nearest first, and findKernelTests() those of the folder", () => {
  const importers = new Map([
    ["lib/a.ts", new Set(["lib/b.ts", "ffi/a_test.ts", "lib/c_test.ts", "lib/a_test.ts"])],
    ["lib/b.ts", new Set(["lib/b_test.ts"])],
    ["ffi/a.ts", new Set(["ffi/b.ts", "lib/c_test.ts"])],
    ["ffi/b.ts", new Set(["kernels/a_test.ts", "kernels/testing/emulator/emulator_test.ts"])],
  ]);
  assertEquals(findTests("ffi/a.ts", importers, 9), ["kernels/a_test.ts", "lib/c_test.ts"]);
  assertEquals(findTests("lib/a.ts", importers, 9), [
    "lib/a_test.ts",
    "lib/c_test.ts",
    "lib/b_test.ts",
    "ffi/a_test.ts",
  ]);
  assertEquals(
    findTests("lib/a.ts", importers, 9, new Map([["lib/c_test.ts", 60]])),
    ["lib/a_test.ts", "lib/b_test.ts", "ffi/a_test.ts", "lib/c_test.ts"],
  );
  assertEquals(findTests("lib/a.ts", importers, 2, new Map([["lib/a_test.ts", 60]])), [
    "lib/a_test.ts",
    "lib/c_test.ts",
  ]);
  const paths = [
    "ffi/x_test.ts",
    "kernels/a/a_test.ts",
    "kernels/b/b_test.ts",
    "kernels/b/b_cuda_test.ts",
    "kernels/testing/emulator/emulator_test.ts",
    "ffi/y_test.ts",
  ];
  assertEquals(findKernelTests("kernels/b/b.cpp", paths, 3), [
    "kernels/b/b_test.ts",
    "kernels/a/a_test.ts",
    "ffi/x_test.ts",
  ]);
  assertEquals(findKernelTests("kernels/b/b.cu", paths, 2, new Map(), "emulated"), [
    "kernels/b/b_cuda_test.ts",
    "kernels/b/b_test.ts",
  ]);
  const slow = new Map([["kernels/a/a_test.ts", 9], ["ffi/x_test.ts", 2]]);
  assertEquals(findKernelTests("kernels/common/simd.h", paths, 4, slow), [
    "kernels/b/b_test.ts",
    "kernels/a/a_test.ts",
    "ffi/y_test.ts",
    "ffi/x_test.ts",
  ]);
});

/** A checkout with one function, half tested, and a list of equivalent mutants. */
async function makeTree(root: string, listed: unknown): Promise<void> {
  const own: Record<string, string> = {};
  for (
    const path of ["deno.json", "imports.json", ".std/npm.json", ".std/npm.lock", ".std/strict_assert.ts"]
  ) {
    own[path] = await Deno.readTextFile(new URL(`../../${path}`, import.meta.url));
  }
  const files: Record<string, string> = {
    ...own,
    "experiments/tools/mutants/equivalent.json": JSON.stringify(listed),
    "lib/a.ts": `/** Both: what lies between, and a limit that nothing asks for. */
export function clip(x: number): number {
  if (x < 0) return 0;
  if (x > 100) return 100;
  return x;
}
`,
    "lib/a_test.ts": `import { clip } from "./a.ts";
Deno.test("clip()", () => {
  if (clip(-5) !== 0 || clip(7) !== 7) throw new Error("wrong");
});
`,
  };
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(`${root}/${path.replace(/[^/]*$/, "")}`, { recursive: true });
    await Deno.writeTextFile(`${root}/${path}`, text);
  }
  for (const args of [["init", "-q"], ["add", "."]]) {
    assert((await new Deno.Command("git", { args, cwd: root }).output()).success);
  }
}

Deno.test("each mutant that is listed as equivalent is one of the tree's", async () => {
  const root = new URL("../..", import.meta.url).pathname;
  const { stale } = await drawSample({ scope: SCOPES, seed: "1", count: 0 }, root);
  assertEquals(stale, []);
});

Deno.test("mutants that a test fails on are noticed, others are told; listed ones are not counted", () =>
  withFolder(async (root) => {
    const equivalent = { file: "lib/a.ts", source: "if (x < 0) return 0;", before: "x < 0", after: "x <= 0" };
    await makeTree(root, [equivalent, { ...equivalent, source: "gone" }]);
    const asked = { scope: ["lib/a.ts:3", "lib/a.ts:4"], seed: "1", count: 9, limit: 60, jobs: 2, tests: 9 };
    const found = new Map<string, string>(), lines: string[] = [];
    const sample = await drawSample(asked, root);
    assertEquals([sample.equivalent, sample.stale.length], [1, 0]);
    const { signal } = new AbortController();
    using stdout = capture(Deno.stdout);
    const { outcomes, broken } = await tellSample(sample, { ...asked, quiet: true, json: false }, signal);
    for (const { mutant: { line, before, after }, result, by } of outcomes) {
      found.set(`${before} → ${after}`, result);
      assertEquals(by, result === "noticed" ? "lib/a_test.ts" : "");
      if (result === "survived") lines.push(`survived: lib/a.ts:${line}: ${before} → ${after}\n`);
    }
    assertEquals(stdout.text(), lines.join(""));
    assertEquals(broken, new Map());
    assertEquals(found.get("return x; → return (x) + 1;"), undefined); // of another line
    assertEquals(found.get("x < 0 → x >= 0"), "noticed");
    assertEquals(found.get("if (x < 0) → if (false)"), "noticed");
    assertEquals(found.get("x < 0 → x <= 0"), undefined);
    assertEquals(found.get("x > 100 → x >= 100"), "survived");
    assertEquals(found.get("if (x > 100) → if (false)"), "survived");
    assertEquals((await drawSample({ ...asked, scope: ["ts"] }, root)).stale.map(({ source }) => source), [
      "gone",
    ]);
  }));

testSlow(
  "a test that fails without a mutant notices nothing, and one that does not end notices the mutant",
  () =>
    withFolder(async (root) => {
      await makeTree(root, []);
      await Deno.writeTextFile(
        `${root}/lib/b_test.ts`,
        `import "./a.ts"; Deno.test("b", () => { throw 1; });`,
      );
      await Deno.writeTextFile(
        `${root}/lib/a_test.ts`,
        `import { clip } from "./a.ts"; Deno.test("clip()", () => { for (let i = 0; clip(i) !== 100; i += 70); });`,
      );
      assert((await new Deno.Command("git", { args: ["add", "."], cwd: root }).output()).success);
      const asked = { scope: ["lib/a.ts:4"], seed: "1", count: 9, limit: 5, jobs: 1, tests: 9 };
      const found = new Map<string, string>();
      const sample = await drawSample(asked, root), { signal } = new AbortController();
      const mutants = ["if (true)", "return 101;"].map((text) =>
        sample.mutants.findLast(({ after }) => after === text)!
      );
      const broken = await testSample(
        { ...sample, mutants },
        asked,
        signal,
        ({ mutant: { after }, result }) => {
          found.set(after, result);
        },
      );
      assertEquals(found, new Map([["if (true)", "survived"], ["return 101;", "noticed"]]));
      assertEquals(broken, new Map([["lib/b_test.ts", "b"]]));
    }),
);

Deno.test("findMistyped() finds what does not type-check, not what is left unused", () =>
  withFolder(async (root) => {
    await makeTree(root, []);
    const source = `import { clip } from "./a.ts";
export function f(x: number | string): number {
  if (typeof x === "string") return 0;
  clip(x);
  return x;
}
`;
    await Deno.writeTextFile(`${root}/lib/c.ts`, source);
    const place = await makePlace(root, [
      "deno.json",
      "lib/a.ts",
      "lib/c.ts",
      "imports.json",
      ".std/npm.json",
      ".std/npm.lock",
    ]);
    const mutants = await listMutants(["lib/c.ts"], ["lib/c.ts"], () => Promise.resolve(source));
    const mistyped = await findMistyped(mutants, place, await readStdFlags());
    assertEquals([...mistyped].map(({ after }) => after), [
      ...["if (true)", "if (false)", 'typeof x !== "string"'],
    ]);
  }));

/** A copy of some files, in the same folder. */
function makePlace(
  root: string,
  paths: readonly string[],
  { signal } = new AbortController(),
): Promise<Workplace> {
  const tree = paths.map((to) => ({ from: `${root}/${to}`, to }));
  return makeWorkplace(`${root}/place`, { tree, cache: root, denoDir: root, signal });
}

Deno.test("a workplace runs commands in its copy, and ends all that they have started", () =>
  withFolder(async (root) => {
    await Deno.writeTextFile(`${root}/a.txt`, "text");
    const stop = new AbortController(), place = await makePlace(root, ["a.txt"], stop);
    const { success, output, timedOut, seconds } = await place.run([
      "sh",
      "-c",
      "cat a.txt; sleep 0.3; cat b.txt",
    ], 60);
    assert(!success && !timedOut);
    assertMatch(output, /^text.*b\.txt/s);
    assert(seconds >= 0.3 && seconds < 60, `${seconds}`);

    const slow = await place.run(["sh", "-c", "(sleep 2; touch late) & wait"], 0.5);
    assert(!slow.success && slow.timedOut);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    assert(!listFolder(place.root).includes("late"));

    const stopped = place.run(["sleep", "50"], 60);
    stop.abort();
    assertEquals((await stopped).timedOut, false);
    assert((await stopped).seconds < 40);
  }));

Deno.test("a workplace's compiler compiles the level that is asked for, and takes the others as they were", () =>
  withFolder(async (root) => {
    await Deno.writeTextFile(`${root}/a.cpp`, "int level = TKF_LEVEL;");
    const place = await makePlace(root, ["a.cpp"]);
    const compile = async (level: string) => {
      const objects: string[] = [];
      for (const code of [1, 2]) {
        const args = [`-DTKF_LEVEL=${code}`, "-c", "a.cpp", "-o", `${code}.o`];
        const { success, output } = await place.run([place.compiler, ...args], 60, { MUTANT_LEVEL: level });
        assert(success, output);
        objects.push(String(await Deno.readFile(`${place.root}/${code}.o`)));
      }
      return objects;
    };
    const [one, two] = await compile("none");
    await Deno.writeTextFile(`${place.root}/a.cpp`, "int level = TKF_LEVEL + 2;");
    const changed = await compile("all");
    assert(one !== two && one !== changed[0] && two !== changed[1]);
    assertEquals(await compile("1"), [changed[0]!, two!]);
    assertEquals(await compile("2"), [one!, changed[1]!]);
  }));

Deno.test("mutants --list says which it would make", async () => {
  const { code, stdout } = await runTask(
    "mutants",
    "--list",
    "--scope",
    "lib/nearest.ts:11",
    "--least",
    "0.5",
  );
  assertEquals(code, 0);
  assertMatch(stdout, /^lib\/nearest\.ts:11: i \* width → i \/ width$/m);
});

Deno.test("mutants refuses what it does not know, in one line", async () => {
  for (
    const [args, words] of [
      [["--count", "0"], "--count"],
      [["--count", "1.5"], "--count"],
      [["--least", "2"], "--least"],
      [["--all", "--count", "3"], "--all"],
      [["--scope", "nowhere"], "nowhere"],
      [["--sed", "1"], "--seed"],
    ] as const
  ) await assertRejects(() => main(args), UsageError, words);
});
