import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { PlaceLostError, UsageError } from "../../../../lib/errors.ts";
import { type StudyConditions, StudyStore } from "../../../../lib/sweep/mod.ts";
import { listFolder, resumeArguments, runTask, withFolder } from "../../testing.ts";
import { lockFolder } from "../files.ts";
import { Interrupt } from "./interrupt.ts";
import type { FlagValues } from "../flags/parse.ts";
import { claimFolder, endEarly, makeResultsFolder, readDestination, resumeCommand } from "./resume.ts";

const RESULT = "compare.json";

/** Where other values do not matter. */
const facts = (more: object) => ({
  ...{ name: "mine", runDigest: "d", flags: {} },
  conditions: { version: "0", model: "smollm2-135m", ...more } as StudyConditions,
});

const flags = (values: { readonly [name: string]: string }): FlagValues =>
  new Map(Object.entries(values).map(([name, value]) => [name, [value]]));
const step = () => new Promise((resolve) => setTimeout(resolve, 0));

interface Unit {
  readonly at: number;
  readonly writer: number;
}
const unitsOf = (store: StudyStore) => store.units<Unit>("unit", ({ at }) => String(at));

/** A run of four units, as a command does it. @returns The refusal, if there was one. */
async function run(values: FlagValues, writer: number): Promise<string> {
  try {
    const destination = readDestination(values);
    await step(); // the model is loaded, the backend built
    using claimed = claimFolder(destination);
    using store = StudyStore.create(`${claimed.folder}/study.db`, facts({}));
    const units = unitsOf(store);
    for (let at = 0; at < 4; at++) {
      await step();
      units.append({ at, writer });
    }
    return "";
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message;
  }
}

Deno.test("of two runs in one folder one is refused, and the other's units are all there, 100 times", () =>
  withFolder(async (parent) => {
    const folders = Array.from({ length: 100 }, (_, pair) => `${parent}/${pair}`);
    const refusals = await Promise.all(folders.map(async (out) => {
      const [first, second] = await Promise.all([0, 1].map((writer) => run(flags({ out }), writer)));
      using store = StudyStore.open(`${out}/study.db`);
      assertEquals(unitsOf(store).finished.map(({ writer }) => writer), Array(4).fill(first === "" ? 0 : 1));
      return [first, second].filter((line) => line !== "");
    }));
    assertEquals(
      refusals,
      folders.map((out) => [
        `Cannot write to "${out}": another run is at work there (wait for its end, or take another --out)`,
      ]),
    );
  }));

Deno.test("claimFolder() looks again at what the folder holds, and lets go of one that it refuses", () =>
  withFolder((out) => {
    const first = readDestination(flags({ out }), RESULT), second = readDestination(flags({ out }), RESULT);
    const refuse = (message: string) => assertThrows(() => claimFolder(second), UsageError, message);
    {
      using claimed = claimFolder(first);
      assertEquals(claimed.folder, out);
      refuse("another run is at work there");
      Deno.writeTextFileSync(`${out}/study.db`, "");
    }
    refuse("it holds a study (go on with --resume");
    Deno.renameSync(`${out}/study.db`, `${out}/compare.json`);
    refuse("it holds compare.json, a finished run");
    Deno.renameSync(`${out}/compare.json`, `${out}/study.db`);
    claimFolder(readDestination(flags({ resume: out }), RESULT))[Symbol.dispose]();
    return Promise.resolve();
  }));

Deno.test("readDestination() takes one folder, and writes nothing", () =>
  withFolder((folder) => {
    const out = `${folder}/a/b`, result = undefined;
    assertEquals(readDestination(flags({ out })), { result, named: out, resumes: false });
    assertEquals(readDestination(flags({})).named, undefined);
    assertEquals(listFolder(folder), []);
    const refuse = (values: { readonly [name: string]: string }, message: string) =>
      assertThrows(() => readDestination(flags(values)), UsageError, message);
    refuse({ resume: "" }, "Cannot use --resume: found no folder");
    refuse({ resume: folder, out }, "expected one folder");
    refuse({ resume: "", out: folder }, "found no study.db there");
    Deno.writeTextFileSync(`${folder}/study.db`, "");
    assertEquals(readDestination(flags({ resume: "", out: folder })), {
      result,
      named: folder,
      resumes: true,
    });
    return Promise.resolve();
  }));

Deno.test("readDestination() refuses what an older version has not finished, and says what to do", () =>
  withFolder((folder) => {
    const said = { "trials.jsonl": "take it into a study by deno task study import" };
    for (const name of ["trials.jsonl", "methods.jsonl", "items.jsonl", "chunks"]) {
      Deno.writeTextFileSync(`${folder}/${name}`, "");
      for (const flag of ["out", "resume"]) {
        assertThrows(
          () => readDestination(flags({ [flag]: folder }), RESULT),
          UsageError,
          `Cannot use "${folder}": it holds ${name}, which an older version wrote (${
            said[name as "trials.jsonl"] ?? "finish with that version"
          }, or take another --out)`,
        );
      }
      Deno.removeSync(`${folder}/${name}`);
    }
    return Promise.resolve();
  }));

Deno.test("runs that begin in one second have folders of their own", () =>
  withFolder((parent) => {
    const now = new Date("2026-01-02T03:04:05.678Z");
    const made = Array.from({ length: 20 }, () => makeResultsFolder(`${parent}/results`, now));
    assertEquals(
      made.slice(0, 3),
      ["", "-2", "-3"].map((end) => `${parent}/results/2026-01-02T03-04-05${end}`),
    );
    assertEquals(new Set(made).size, 20);
    Deno.writeTextFileSync(`${parent}/file`, "");
    assertThrows(() => makeResultsFolder(`${parent}/file`), UsageError);
    return Promise.resolve();
  }));

Deno.test("a lock leaves no file, and one whose file is gone keeps nobody out", () =>
  withFolder((folder) => {
    const path = `${folder}/.lock`,
      refuse = () => assertThrows(() => lockFolder(folder), UsageError, "another run is at work there");
    /** How often this process has the file open, removed or not. */
    const countOpen = () =>
      Deno.build.os !== "linux" ? 0 : [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
        try {
          return Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith(path);
        } catch {
          return false; // closed since
        }
      }).length;
    {
      using _lock = lockFolder(folder);
      assertEquals((Deno.statSync(path)).isFile, true);
      const before = countOpen();
      refuse();
      assertEquals(countOpen(), before, "the refused run's file stays open");
    }
    assertEquals([[...Deno.readDirSync(folder)], countOpen()], [[], 0]);
    // A second run opens the file, the first one ends, and a third begins before the second has its lock.
    const openSync = Deno.openSync;
    const first = lockFolder(folder);
    let third: Disposable | undefined;
    try {
      Deno.openSync = (...args) => {
        Deno.openSync = openSync;
        const file = openSync(...args);
        first[Symbol.dispose]();
        third = lockFolder(folder);
        return file;
      };
      refuse();
    } finally {
      Deno.openSync = openSync;
    }
    third![Symbol.dispose]();
    assertEquals([[...Deno.readDirSync(folder)], countOpen()], [[], 0]);
    return Promise.resolve();
  }));

Deno.test("a process that is killed lets go of its folder", () =>
  withFolder(async (folder) => {
    const files = new URL("../files.ts", import.meta.url);
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        "--no-config",
        `const { lockFolder } = await import("${files}");
        const file = lockFolder(${JSON.stringify(folder)});
        console.log("locked");
        setTimeout(() => file[Symbol.dispose](), 60_000);`,
      ],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    assertEquals(new TextDecoder().decode((await reader.read()).value), "locked\n");
    assertThrows(() => lockFolder(folder), UsageError, "another run is at work there");
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    lockFolder(folder)[Symbol.dispose]();
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("resumeCommand() is the command as it was, with the folder in place of --out and --resume", () => {
  const of = (...args: string[]) => resumeCommand("sweep", args, "a b");
  assertEquals(of(), "deno task sweep --resume 'a b'");
  assertEquals(of("--out", "x", "--seed", "1"), "deno task sweep --seed 1 --resume 'a b'");
  assertEquals(of("--out=x", "--quiet"), "deno task sweep --quiet --resume 'a b'");
  assertEquals(of("--resume", "--quiet"), "deno task sweep --quiet --resume 'a b'");
  assertEquals(of("--text", "it's", "--out"), "deno task sweep --text 'it'\\''s' --resume 'a b'");
});

Deno.test("resumeCommand() quotes what a shell would take apart, and control characters as bash has them", () => {
  const args = ["--out", "x", "--text", "it's a.txt", "--grid", "a\x1b'\\.json", "--quiet"];
  assertEquals(
    resumeCommand("sweep", args, "my out"),
    "deno task sweep --text 'it'\\''s a.txt' --grid $'a\x1b\\'\\\\.json' --quiet --resume 'my out'",
  );
});

Deno.test("--resume refuses other conditions before it downloads a model", () =>
  withFolder(async (folder) => {
    const path = `${folder}/study.db`;
    StudyStore.create(path, facts({ context: 256 }))[Symbol.dispose]();
    for (const task of ["sweep", "compare", "heads"]) {
      const args = ["--model", "smollm2-135m", "--context", "128", "--resume", folder, "--quiet"];
      const { code, stderr } = await runTask(task, ...args);
      assertEquals([code, stderr], [
        2,
        `Cannot go on with "${path}": its runs ran with context 256, expected the same, found 128 ` +
        "(repeat those flags, or take another --out)\n",
      ]);
    }
  }));

Deno.test("no command goes on with the study of another one", () =>
  withFolder(async (folder) => {
    const small = ["--context", "64", "--tokens", "64", "--threads", "1", "--quiet"], out = `${folder}/out`;
    assertEquals((await runTask("sweep", ...small, "--method", "key", "--out", out)).code, 0);
    const { code, stderr } = await runTask("compare", ...small, "--methods", "key", "--resume", out);
    assertEquals([code, stderr], [
      2,
      `Cannot use study "${out}/study.db" here: it is of deno task sweep, expected one of deno task compare\n`,
    ]);
    assertEquals(
      (await runTask("compare", ...small, ...["--methods", "key", "--match", "none", "--out", `${out}/own`]))
        .code,
      0,
    );
    for (const [task, ...args] of [["worker", "--study"], ["study", "show"], ["study", "best"]]) {
      const refused = await runTask(task!, ...args, `${out}/own`);
      assertEquals([refused.code, refused.stderr], [
        2,
        `Cannot use study "${out}/own/study.db" here: it is of deno task compare, expected one of deno task sweep\n`,
      ]);
    }
    assertEquals(
      (await runTask("study", "export", `${out}/own`, "--out", `${folder}/units.jsonl`)).code,
      0,
    );
    const lines = Deno.readTextFileSync(`${folder}/units.jsonl`).trimEnd().split("\n");
    assertEquals(
      lines.map((line) => JSON.parse(line)).map(({ kind, method, chunk }) => [kind, method, chunk]),
      [["chunk", "dense", 0], ["chunk", "key", 0]],
    );
  }));

Deno.test("--dtype and --matmul are conditions of a study: they are recorded, and no run goes on with others", () =>
  withFolder(async (folder) => {
    const small = ["--context", "64", "--tokens", "64", "--warmup", "8", "--threads", "1", "--quiet"];
    const products = "int8", rounded = ["--matmul", products]; // every processor has it
    const args = [...small, "--dtype", "q4_0", ...rounded, "--out", folder];
    assertEquals((await runTask("sweep", ...args)).code, 0);
    const { environment } = JSON.parse(Deno.readTextFileSync(`${folder}/summary.json`));
    assertEquals([environment.dtype, environment.products], ["q4_0", products]);
    using store = StudyStore.open(`${folder}/study.db`);
    const { conditions, facts: { flags } } = store;
    assertEquals([conditions.dtype, conditions.products], ["q4_0", products]);
    assertEquals([flags.dtype, flags.matmul], ["q4_0", products]);
    const cases: [other: string[], ran: string, found: string][] = [
      [rounded, "dtype q4_0", "stored"],
      [[...rounded, "--dtype", "q8_0"], "dtype q4_0", "q8_0"],
      [["--dtype", "q4_0"], "products int8", "exact"],
    ];
    for (const [other, ran, found] of cases) {
      const { code, stderr } = await runTask("sweep", ...small, ...other, "--resume", folder);
      assertEquals([code, stderr.split(" (")[0]], [
        2,
        `Cannot go on with "${folder}/study.db": its runs ran with ${ran}, expected the same, found ${found}`,
      ]);
    }
  }));

Deno.test("results that cannot be written leave the table, what was finished, and the way on", () =>
  withFolder(async (folder) => {
    const small = ["--context", "64", "--tokens", "64", "--warmup", "8", "--threads", "1"];
    const runs = [
      ["sweep", "summary.json", "2 finished trials are in OUT/study.db", ["--method", "key,mean"]],
      ["compare", "compare.html", "2 finished chunks are in OUT/study.db", [
        "--methods",
        "key",
        "--match",
        "none",
      ]],
      ["heads", "heads.html", "1 finished chunk is in OUT/study.db", ["--resamples", "9"]],
    ] as const;
    for (const [task, blocked, kept, flags] of runs) {
      const out = `${folder}/${task}`;
      await Deno.mkdir(`${out}/${blocked}.part`, { recursive: true });
      const { code, stdout, stderr } = await runTask(task, ...small, ...flags, "--out", out, "--quiet");
      assertEquals(code, 2);
      assertMatch(stdout, /^ *(ratio +rule|method|rule) /);
      assertEquals(stdout.includes("Report:"), false);
      assertEquals(
        stderr,
        `Cannot write "${out}/${blocked}": it is a folder: ${kept.replace("OUT", out)}. To go on: ` +
          `deno task ${task} ${[...small, ...flags].join(" ")} --quiet --resume ${out}\n`,
      );
      const again = await runTask(task, ...resumeArguments(task, stderr));
      assertEquals([again.code, again.stderr], [0, ""]);
      assertEquals((await Deno.stat(`${out}/${blocked}`)).isFile, true);
      assertEquals([...Deno.readDirSync(out)].filter(({ name }) => name.startsWith(".")), []);
    }
  }));

Deno.test("endEarly() keeps what a full disk or a lost place leaves, and throws what it does not know", () => {
  using interrupt = new Interrupt();
  const kept = { name: "sweep", args: [], folder: "a", finished: 1, noun: "trial" } as const;
  const full = Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" });
  assertEquals(endEarly(full, interrupt, () => kept), 2);
  assertEquals(endEarly(new UsageError("Cannot write", { cause: full }), interrupt, () => kept), 2);
  const lost = new PlaceLostError("Cannot use study");
  assertEquals(endEarly(lost, interrupt, () => kept), 2);
  const gone = () => {
    throw new Error("gone");
  };
  assertThrows(() => endEarly(lost, interrupt, gone), PlaceLostError, "Cannot use study");
  assertThrows(() => endEarly(new UsageError("other"), interrupt, () => kept), UsageError, "other");
});

Deno.test("resumeCommand() leaves the queue's password out, whatever it is made of", () => {
  const of = (...args: string[]) => resumeCommand("sweep", args, "a");
  for (const password of ["secret", "p@ss/w?o#rd", "a:b"]) {
    assertEquals(
      of("--queue", `redis://default:${password}@host:1`),
      "deno task sweep --queue 'redis://default@host:1' --resume a",
    );
    assertEquals(
      of(`--queue=rediss://:${password}@host`),
      "deno task sweep '--queue=rediss://host' --resume a",
    );
  }
  assertEquals(of("--queue", "redis://host:1/2"), "deno task sweep --queue 'redis://host:1/2' --resume a");
});
