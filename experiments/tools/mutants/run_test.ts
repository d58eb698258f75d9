/** Jobs of mutants in a workplace with invented commands. */
import { assertEquals, assertRejects } from "@std/assert";
import { NativeLibraryError } from "../../../lib/errors.ts";
import { withFolder } from "../../commands/testing.ts";
import type { Mutant } from "./draw.ts";
import { createTester, findUntestable, type Run } from "./run.ts";
import type { Workplace } from "./workplace.ts";

/** The output of an invented command, which fails if its text contains a failure. */
type Answer = (command: string, env: Readonly<Record<string, string>>, source: string) => string;

const FAILED = "\n FAILURES \n\nadds ... a step => ./a_test.ts:3:1\n\nFAILED | 0 passed | 1 failed (2ms)\n";

/** Tests `a + b → a - b` of a file in a tree of its own. @returns The outcome, and the commands in short. */
async function test(file: string, known: Partial<Run>, answer: Answer) {
  const said: string[] = [];
  let outcome = "";
  await withFolder(async (root) => {
    await Deno.mkdir(`${root}/${file}`.replace(/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${root}/${file}`, "a + b");
    const place: Workplace = {
      root,
      compiler: "cxx",
      async run([_, ...words], limit, env = {}) {
        const source = await Deno.readTextFile(`${root}/${file}`);
        const output = answer(words.join(" "), env, source), timedOut = output === "too long";
        const filter = words.find((word) => word.startsWith("--filter=")) ?? "";
        said.push(
          [words[0] === "test" ? words.at(-1) : `build ${env.MUTANT_LEVEL}`, filter, source, limit].join(),
        );
        return { success: !timedOut && !/FAILED|failed on/.test(output), output, timedOut, seconds: 2 };
      },
    };
    const run: Run = {
      ...{ paths: ["kernels/a/a_test.ts", "kernels/a/b_test.ts"], flags: [], limit: 50, tests: 9 },
      ...{ importers: new Map([["lib/a.ts", new Set(["lib/a_test.ts", "lib/b_test.ts"])]]), level: 2 },
      untestable: new Set(),
      ...{ seconds: new Map(), sound: new Set(), broken: new Map(), whole: {} },
      signal: new AbortController().signal,
      ...known,
    };
    const mutant = { file, line: 1, source: "a + b", before: "a + b", after: "a - b" };
    const change: Mutant = { ...mutant, start: 0, end: 5, text: "a - b" };
    const { result, by } = (await createTester(place, run)(change))!;
    assertEquals(await Deno.readTextFile(`${root}/${file}`), "a + b");
    outcome = `${result} ${by}`.trim();
  });
  return [outcome, ...said];
}

Deno.test("a test that fails is run alone without the mutant, once", async () => {
  const answer: Answer = (command, _, source) =>
    command.endsWith("b_test.ts") && source === "a - b" ? FAILED : "ok | 1 passed";
  const run = { sound: new Set<string>(), seconds: new Map([["lib/b_test.ts", 20]]) };
  assertEquals(await test("lib/a.ts", run, answer), [
    "noticed lib/b_test.ts",
    "lib/a_test.ts,,a - b,50",
    "lib/b_test.ts,,a - b,100", // known to take 20 s
    "lib/b_test.ts,--filter=adds,a + b,100",
  ]);
  assertEquals((await test("lib/a.ts", run, answer)).length, 3);
  const noted = { limit: 300, seconds: new Map([["lib/a_test.ts", 2]]) };
  assertEquals((await test("lib/a.ts", noted, answer)).slice(1, 3), [
    "lib/a_test.ts,,a - b,90", // noted, but not yet run here
    "lib/b_test.ts,,a - b,300",
  ]);
});

Deno.test("a test that fails without the mutant too, or is not there any more alone, is run whole, and notices nothing", async () => {
  const broken = new Map<string, string>();
  assertEquals(
    await test(
      "lib/a.ts",
      { broken },
      (command) => command.includes("--filter") ? "ok | 0 passed | 0 failed" : FAILED,
    ),
    [
      "survived",
      ...["lib/a_test.ts", "lib/b_test.ts"].flatMap((test) => [
        `${test},,a - b,50`,
        `${test},--filter=adds,a + b,50`,
        `${test},,a + b,50`,
      ]),
    ],
  );
  assertEquals([...broken], [["lib/a_test.ts", "adds"], ["lib/b_test.ts", "adds"]]);

  broken.clear();
  await test(
    "lib/a.ts",
    { broken },
    (command) => command.endsWith("a_test.ts") ? "too long" : "FAILED\nno types",
  );
  assertEquals([...broken], [["lib/a_test.ts", "takes more than 50 s"], ["lib/b_test.ts", "no types"]]);
});

Deno.test("a test that takes too long is run whole without the mutant, and again with it", async () => {
  assertEquals(
    await test("lib/a.ts", {}, (_, __, source) => source === "a - b" ? "too long" : "ok | 1 passed"),
    [
      "noticed lib/a_test.ts",
      "lib/a_test.ts,,a - b,50",
      "lib/a_test.ts,,a + b,50",
      "lib/a_test.ts,,a - b,30",
    ],
  );
});

Deno.test("a mutant of the CPU library is in one level for the nearest tests, then in all", async () => {
  const answer =
    (failing: string): Answer => (command, { MUTANT_LEVEL, TOKENFILTER_TEST_DEVICE }, source) => {
      if (command.includes("build.ts")) return `built ${MUTANT_LEVEL}`;
      assertEquals(TOKENFILTER_TEST_DEVICE, "cpu");
      return command.endsWith(failing) && source === "a - b" ? FAILED : "ok | 1 passed";
    };
  assertEquals(await test("kernels/a/a.cpp", {}, answer("a_test.ts")), [
    "noticed kernels/a/a_test.ts",
    ...["build none,,a + b,600", "build 2,,a - b,600"],
    ...["kernels/a/a_test.ts,,a - b,50", "kernels/a/a_test.ts,--filter=adds,a + b,50"],
  ]);
  const paths = ["a", "b", "c", "d"].map((name) => `kernels/a/${name}_test.ts`);
  const far = await test("kernels/a/a.cpp", { paths }, answer("d_test.ts"));
  assertEquals([far[0], far[6]], ["noticed kernels/a/d_test.ts", "build all,,a - b,600"]);
  assertEquals(far.filter((line) => line.startsWith("kernels/a/c_test.ts")).length, 2);
  assertEquals(far.filter((line) => line.startsWith("kernels/a/d_test.ts")).length, 3); // from afar: once more
  assertEquals((await test("kernels/a/a.cpp", {}, answer("no_test.ts")))[0], "survived");

  const built = (library: (level: string) => string) =>
    test(
      "kernels/a/a.cpp",
      {},
      (command, { MUTANT_LEVEL }, source) =>
        command.includes("build.ts") ? library(MUTANT_LEVEL!) : source === "a - b" ? FAILED : "ok | 1 passed",
    );
  assertEquals((await built(() => "built whole"))[0], "invalid");
  assertEquals((await built((level) => `built ${level === "all"}`))[0], "noticed kernels/a/a_test.ts");
  assertEquals(
    (await built((level) => level === "2" ? "the compiler failed on it" : "built it"))[0],
    "invalid",
  );
});

Deno.test("a mutant of what the machine cannot run is not tested, and no survivor", async () => {
  const file = "kernels/linear/bf16.h";
  const untestable = await findUntestable(() => Promise.reject(new NativeLibraryError("no AMX")));
  const files = ["kernels/linear/bf16.h", "kernels/linear/bf16_dots.h"];
  const of = (unit: string) =>
    findUntestable(() => Promise.resolve({ description: `cpu: in bf16 by ${unit}`, [Symbol.dispose]() {} }));
  assertEquals([...untestable], files);
  assertEquals([...await of("AMX")], files.slice(1));
  assertEquals([...await of("AVX512-BF16")], files.slice(0, 1));
  assertEquals(await test(file, { untestable }, () => "built whole"), ["untested"]);
  assertEquals((await test("kernels/a/a.cpp", { untestable }, () => "built whole"))[0], "invalid");
  await assertRejects(() => findUntestable(() => Promise.reject(new Error("broken"))), Error, "broken");
  for (const path of files) await Deno.stat(new URL(`../../../${path}`, import.meta.url));
});
