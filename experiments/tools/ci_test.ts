/**
 * `.ci/run` and `.ci/verify` with stand-ins for their steps: every failure of a step is reported, and makes them fail.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { NEEDS_LINUX, unless } from "../../lib/testing.ts";
import { withFolder } from "../commands/testing.ts";

const TESTED = "ok | 12 passed (3 steps) | 0 failed | 2 ignored (1s)";

/** A stand-in for a step. `GOES` contains lines `COMMAND: SHELL COMMAND`: it runs those of its own command. */
const STEP = `#!/bin/sh
step="$(basename "$0") $*"
printf '%s\\n' "$step" >> steps
what=$(printf '%s\\n' "$GOES" | while IFS= read -r line; do
  case "$step" in *"\${line%%: *}"*) printf '%s\\n' "\${line#*: }" ;; esac
done)
case "$step" in *"task test "*) [ -n "$what" ] || echo "${TESTED}" ;; esac
eval "$what"
`;
const PROGRAMS = [
  "bin/npx",
  ...["chromium", "redis", "emulated", "fused", "mutants", "sanitize", "cuda", "notebook", "packages"].map((
    name,
  ) => `.ci/${name}`),
];
/** No script of `.ci/` was verified with the sources as they are. */
const ALL_NEW = "task verified: case $step in *note*) echo noted > artifacts/verified.json ;; " +
  "*) printf '%s\\n' cuda emulated mutants notebook packages sanitize ;; esac";

interface Ended {
  readonly code: number;
  readonly lines: readonly string[];
  /** The commands of steps that have begun. */
  readonly steps: readonly string[];
}

/**
 * Registers a test of `.ci/run`, or of another script, with stand-ins for its steps. `goes` has lines
 * `COMMAND: SHELL COMMAND`.
 */
function testRun(
  name: string,
  goes: readonly string[],
  check: (ended: Ended) => void,
  meanwhile: (child: Deno.ChildProcess, folder: string) => Promise<void> = () => Promise.resolve(),
  script = "run",
): void {
  const fn = () =>
    withFolder(async (folder) => {
      for (const part of [".ci", "bin", "artifacts"]) await Deno.mkdir(`${folder}/${part}`);
      await Deno.copyFile(new URL(`../../.ci/${script}`, import.meta.url), `${folder}/.ci/${script}`);
      for (const program of PROGRAMS) await Deno.writeTextFile(`${folder}/${program}`, STEP, { mode: 0o755 });
      const child = new Deno.Command(`${folder}/.ci/${script}`, {
        env: {
          ...{ PATH: `${folder}/bin:${Deno.env.get("PATH")}`, GOES: goes.join("\n") },
          ...{ TOKENFILTER_TEST_DEVICE: "", TOKENFILTER_TEST_EMULATED: "", TOKENFILTER_TEST_ORDERS: "" }, // .ci/run sets these itself
        },
        stdin: "null",
        stdout: "piped",
        stderr: "null",
      }).spawn();
      const [{ code, stdout }] = await Promise.all([child.output(), meanwhile(child, folder)]);
      const linesOf = (text: string) => text.trim().split("\n");
      const steps = linesOf(await Deno.readTextFile(`${folder}/steps`));
      check({ code, lines: linesOf(new TextDecoder().decode(stdout)), steps });
    });
  Deno.test({ ...unless(NEEDS_LINUX, name), fn });
}

/** The part of the output about failures, and the last line. */
function failuresOf({ lines }: Ended): string[] {
  const first = lines.findIndex((line) => line.startsWith("failed: "));
  return first < 0 ? [lines.at(-1)!] : lines.slice(first);
}

testRun(".ci/run prints each step apart, two at once, and counts the tests", [
  ALL_NEW,
  'task test: echo one; while [ ! -e done ]; do sleep 0.05; done; sleep 1; echo two; echo times > "${5#*=}"; echo "' +
  TESTED + '"',
  "sanitize: echo three; sleep 0.1; echo four; touch done",
], (ended) => {
  assertEquals([ended.code, failuresOf(ended)], [0, ["12 passed, 0 failed, 2 skipped"]]);
  const text = ended.lines.join("\n");
  assertMatch(text, /^== tests\none\ntwo\n.*\n== tests: \d+ s$/m);
  assertMatch(text, /^== sanitizers\nthree\nfour\n== sanitizers: \d+ s$/m);
  assert(text.indexOf("== sanitizers\n") < text.indexOf("== tests\n"), "one step waits for the other");
  const begun = (words: string) => ended.steps.findIndex((step) => step.includes(words));
  assert(begun("task test --junit-path=") > 0);
  assert(begun("task gates") < begun("task mutants"), "the sampled mutants do not wait for the tests");
  assertMatch(ended.steps[begun("task digest")]!, /task digest --against \S+$/);
  assertMatch(ended.steps[begun("task mutants")]!, /--count 24 --seed 20261126 --limit 300 --times \S+$/);
  assertEquals(ended.steps.length, 18);
  assertMatch(
    text,
    /\nverified: cuda emulated mutants notebook packages sanitize; to note it: cp [^\n]*\nnoted\n== steps\n/,
  );
  assert(
    ended.steps[begun("--note")]!.endsWith(
      "--note cuda emulated mutants notebook packages sanitize --out artifacts/verified.json",
    ),
  );
  const table = ended.lines.slice(ended.lines.indexOf("== steps") + 1, -1);
  assertEquals(table.map((line) => line.replace(/ {2,}\d+ s$/, "")), [
    ...["programs", "build", "gates", "tests", "sanitizers", "notebooks", "digest", "docs", "packages"],
    ...["sampled mutants", "fused products", "CUDA mutants", "cuda", "notebook 01, ten times", "all"],
  ]);
});

testRun(
  ".ci/run leaves out what was verified with the same sources, and builds for one architecture",
  [],
  (ended) => {
    assertEquals([ended.code, failuresOf(ended)], [0, ["12 passed, 0 failed, 2 skipped"]]);
    assertEquals(ended.steps.length, 12);
    assert(ended.steps.includes("cuda 90a"));
    assert(ended.steps.some((step) => step.endsWith("task build --all")));
    assert(ended.steps.some((step) => /task digest .*--cpu$/.test(step)));
    assert(!ended.steps.some((step) => /^(fused|mutants|sanitize|notebook) |--note/.test(step)));
    const text = ended.lines.join("\n");
    assertMatch(
      text,
      /^sanitizers +not run: the sources of \.ci\/sanitize are those of \.ci\/verified\.json$/m,
    );
    assert(!text.includes("to note it"));
  },
);

testRun(".ci/run runs scripts of kernels for the ops that are new, and notes these", [
  "task verified: case $step in *note*) echo noted > artifacts/verified.json ;; " +
  "*) printf '%s\\n' cuda:linear emulated:linear emulated:others mutants:linear sanitize:linear sanitize:others ;; esac",
  'task test: echo "on $TOKENFILTER_TEST_EMULATED, $TOKENFILTER_TEST_ORDERS, $TOKENFILTER_TEST_DEVICE"; ' +
  `echo "${TESTED}"`,
], (ended) => {
  assertEquals([ended.code, failuresOf(ended)], [0, ["12 passed, 0 failed, 2 skipped"]]);
  for (const step of ["cuda 90a linear", "fused linear others", "mutants linear", "sanitize linear others"]) {
    assert(ended.steps.includes(step), step);
  }
  assert(ended.steps.some((step) => step.endsWith("task build --emulated")));
  assert(ended.lines.includes("on linear,others, ascending,descending,interleaved,reversed, "));
  assert(!ended.steps.some((step) => /^(packages|notebook) /.test(step)));
  const noted = ended.steps.find((step) => step.includes("--note"))!;
  const scripts =
    "cuda:linear emulated:linear emulated:others mutants:linear sanitize:linear sanitize:others";
  assert(noted.endsWith(`--note ${scripts} --out artifacts/verified.json`), noted);
});

testRun(".ci/run runs everything where it cannot tell what was verified", [
  "task verified: echo no digest >&2; exit 1",
], (ended) => {
  assertEquals(ended.code, 1);
  assert(failuresOf(ended).includes("failed: sources, whose last lines were:"));
  assertEquals(failuresOf(ended).at(-1), "12 passed, 1 failed, 2 skipped");
  assertEquals(ended.steps.length, 18);
});

testRun(".ci/run tells of every step that fails, is killed or cannot be started, and runs the others", [
  ALL_NEW,
  "task mutants: seq 100; echo survived; exit 1",
  "sanitize: echo dying; kill -9 $$",
  "cuda: exec ./no_such_program",
  "task digest: echo without; kill -9 $PPID",
], (ended) => {
  assertEquals(ended.code, 1);
  const told = failuresOf(ended);
  for (
    const [step, last] of [["sampled mutants", "survived"], ["sanitizers", "dying"], [
      "cuda",
      "no_such_program",
    ]]
  ) {
    const at = told.indexOf(`failed: ${step}, whose last lines were:`);
    assert(at >= 0, step);
    assert(told.slice(at + 1, at + 41).some((line) => line.includes(last!)), step);
  }
  assert(!told.includes("60") && told.includes("62"), "not the last 40 lines");
  assertEquals(told.at(-1), "12 passed, 4 failed, 2 skipped");
  assertEquals(ended.steps.length, 18);
  for (const [step, script] of [["sanitizers", "sanitize"], ["cuda", "cuda"]]) {
    assert(
      ended.lines.includes(
        `not verified: the sources of .ci/${script} are not those of .ci/verified.json, and it fails`,
      ),
    );
    assert(told.some((line) => new RegExp(`^${step} +\\d+ s, failed$`).test(line)), step);
  }
  assert(ended.steps.some((step) => step.includes("--note emulated mutants notebook packages --out")));
});

testRun(".ci/run counts failed tests, not their step once more", [
  `task test: echo "FAILED | 10 passed | 2 failed (1s)"; exit 1`,
  "task digest: exit 3",
], (ended) => {
  assertEquals([ended.code, failuresOf(ended).at(-1)], [1, "10 passed, 3 failed, 0 skipped"]);
  assert(ended.steps.every((step) => !step.includes("--times")));
});

/** Output of a test run of which two fail, one with a name that is no plain regular expression. */
const TWO_FAIL = String
  .raw`printf 'one\n\n FAILURES \n\na (b) c/d => ./x_test.ts:1:2\n\nFAILED | 10 passed | 2 failed\n'`;

for (
  const [passes, last, told] of [[true, "12 passed, 0 failed, 0 skipped", 1], [
    false,
    "10 passed, 2 failed, 0 skipped",
    0,
  ]] as const
) {
  testRun(`.ci/run runs a few failed tests again, alone, which ${passes ? "pass" : "fail"}`, [
    `task test --junit: ${TWO_FAIL.replace("a (b)", "e => ./lib/testing.ts:3:4\\na (b)")}; exit 1`,
    `task test --filter: ${
      passes ? 'echo "ok | 2 passed | 0 failed | 2800 ignored"' : TWO_FAIL + "; exit 1"
    }`,
  ], ({ code, lines, steps }) => {
    assertEquals([code, lines.at(-1)], [passes ? 0 : 1, last]);
    assertEquals(steps.at(-1), "npx -y deno@2.9.6 task test --filter /^(e|a \\(b\\) c\\/d)$/");
    const beside = "failed beside other steps, and passed alone: e;a (b) c/d";
    assertEquals(lines.filter((line) => line === beside).length, told);
    assertEquals(lines.some((line) => line.startsWith("failed: tests,")), !passes);
  });
}

testRun(
  ".ci/run fails where the tests came to no end",
  ["task test: kill -9 $$"],
  (ended) => assertEquals([ended.code, failuresOf(ended).at(-1)], [1, "0 passed, 1 failed, 0 skipped"]),
);

testRun(
  ".ci/run ends what it has started where it is interrupted",
  ["task test: (sleep 3; touch late) & wait"],
  ({ code, steps }) => {
    assertEquals(code, 130);
    assert(!steps.some((step) => /^mutants|task mutants/.test(step)), "later steps begin");
  },
  async (child, folder) => {
    while (!(await Deno.readTextFile(`${folder}/steps`).catch(() => "")).includes("task test")) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    child.kill("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 3500));
    assertEquals(await Deno.stat(`${folder}/late`).catch(() => "not there"), "not there");
  },
);

/** Registers a test of `.ci/verify`. */
const testVerify = (name: string, goes: readonly string[], check: (ended: Ended) => void) =>
  testRun(name, goes, check, undefined, "verify");

testVerify(".ci/verify runs what is due, and notes what passes", [ALL_NEW, "sanitize: exit 3"], (ended) => {
  assertEquals(ended.code, 1);
  assertEquals(ended.lines, [
    ...["cuda", "emulated", "mutants", "notebook", "packages"].map((script) =>
      `verified: ${script}; commit .ci/verified.json`
    ),
    "not verified: .ci/sanitize fails",
  ]);
  const noted = ended.steps.filter((step) => step.includes("--note"));
  assertEquals(noted.map((step) => step.split(" ").at(-1)), [
    "cuda",
    "emulated",
    "mutants",
    "notebook",
    "packages",
  ]);
});

testVerify(".ci/verify runs a script once for all of its ops that are due", [
  "task verified: case $step in *note*) ;; *) printf '%s\\n' cuda:nll mutants:linear mutants:nll ;; esac",
], (ended) => {
  assertEquals(ended.code, 0);
  const steps = ended.steps.map((step) => step.replace("npx -y deno@2.9.6 ", ""));
  assertEquals(steps, [
    ...["task verified", "cuda 90a nll", "task verified --note cuda:nll"],
    ...["mutants linear nll", "task verified --note mutants:linear mutants:nll"],
  ]);
});

testVerify(".ci/verify says where nothing is due", [], (ended) => {
  assertEquals([ended.code, ended.lines.length, ended.steps.length], [0, 1, 1]);
  assertMatch(ended.lines[0]!, /^nothing is due/);
});

testVerify(".ci/verify fails where it cannot tell what is due", ["task verified: exit 4"], (ended) => {
  assertEquals([ended.code, ended.steps.length], [4, 1]);
});
