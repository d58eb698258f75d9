/** `deno task sweep` with a space, a race, a limit of time; and Optuna in the lead. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { unless } from "../../../lib/testing.ts";
import { explainError } from "../cli/task.ts";
import { command as sweep } from "../sweep.ts";
import { listFolder, runTask, withFolder } from "../testing.ts";
import { lackOfPython, runPython } from "../../tools/testing_python.ts";

Deno.test("sweep --space searches, races, ends in time and goes on, to the same trials as at once", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(
      `${folder}/space.ts`,
      'export default { fusion: ["key", "value"], "prune-ratio": 0.3, warmup: 4, tail: { low: 0.4, high: 1 } };',
    );
    const search = (out: string, ...more: string[]) =>
      runTask(
        "sweep",
        ...[
          "--space",
          `${folder}/space.ts`,
          "--trials",
          "12",
          "--race",
          "--context",
          "16",
          "--tokens",
          "192",
        ],
        ...["--threads", "1", "--out", `${folder}/${out}`, "--json", ...more],
      );
    const whole = await search("whole"), first = await search("parts", "--time", "0.001s");
    assertEquals([whole.code, first.code], [0, 0], whole.stderr + first.stderr);
    const summary = JSON.parse(whole.stdout), cut = JSON.parse(first.stdout);
    assertEquals([cut.trials.length, cut.stopped.length], [1, 0]);
    const digests = ({ trials, stopped }: typeof summary) =>
      [...trials, ...stopped].map(({ trial }) => trial).sort();
    const { race, stopped, trials } = summary;
    assertEquals([summary.search.proposed, race.of], [12, 12 * (trials.length + stopped.length)]);
    assertEquals([race.order.length, new Set(race.order).size], [12, 12]);
    const read = stopped.reduce(
      (n: number, { chunkLosses }: { chunkLosses: number[] }) => n + chunkLosses.length,
      0,
    );
    assertEquals(race.read, 12 * trials.length + read);
    assert(trials.every((trial: object) => !("stopped" in trial)));
    // The best one has a random baseline of its own options; a search that is cut short runs none.
    const [{ trial, control }, ...others] = summary.search.winners;
    const best = trials.find((own: { trial: string }) => own.trial === trial);
    assertEquals([others.length, control.fusion, cut.search.winners], [0, "random", undefined]);
    for (const name of ["pruneRatio", "warmup", "tail", "seed", "runDigest"]) {
      assertEquals(control[name], best[name]);
    }
    assertEquals(trials.some(({ fusion }: { fusion: string }) => fusion === "random"), false);
    const rest = await search("parts", "--resume", `${folder}/parts`);
    assertEquals(rest.code, 0, rest.stderr);
    assertEquals(digests(JSON.parse(rest.stdout)), digests(summary));
  }));

Deno.test("a long search ends with its front and each winner's random baseline, not with a row a trial", () =>
  withFolder(async (folder) => {
    const range = JSON.stringify({ fusion: ["key", "value"], pruneRatio: { low: 0.2, high: 0.6 } });
    Deno.writeTextFileSync(`${folder}/range.json`, range);
    const { code, stdout, stderr } = await runTask(
      "sweep",
      ...["--space", `${folder}/range.json`, "--trials", "24", "--sampler", "sobol", "--context", "128"],
      ...["--tokens", "256", "--warmup", "4", "--threads", "1", "--quiet", "--out", `${folder}/out`],
    );
    assertEquals([code, stderr], [0, ""]);
    const [table, said] = stdout.split("\n\n") as [string, string];
    const { trials, search } = JSON.parse(Deno.readTextFileSync(`${folder}/out/summary.json`));
    const front = trials.filter(({ pareto }: { pareto: boolean }) => pareto);
    assertEquals([trials.length, table.split("\n").length], [24, 3 + front.length]);
    assert(front.length < 24 && search.winners.length > 1 && search.winners.length <= 5);
    const lines = said.split("\n");
    assertEquals(lines[0], "The best of 24 trials by loss, each at its ratio:");
    assertEquals(lines.filter((line) => line.includes("(random: ")).length, search.winners.length);
    assertStringIncludes(stdout, "The table has the best trials alone");
  }));

Deno.test("sweep names what is wrong with a space, a limit of time, a race, a queue, and writes nothing", () =>
  withFolder(async (folder) => {
    const file = (name: string, text: string) => {
      Deno.writeTextFileSync(`${folder}/${name}`, text);
      return `${folder}/${name}`;
    };
    const space = file("space.json", '{"tau": {"low": 1, "high": 2}}');
    const unknown = file("unknown.json", '{"gama": 1}'),
      empty = file("empty.json", '{"tau": {"low": 2, "high": 1}}');
    const lost = file("lost.json", '{"tau": {"low": 1, "high": 2, "when": {"fuson": "mean"}}}');
    const broken = file("broken.json", "{"), none = file("none.ts", "export const space = {};");
    const before = listFolder(folder), out = ["--out", `${folder}/out`];
    const cases: [string[], string][] = [
      [["--space", unknown], `axis "gama": no such option, the nearest is "gamma" (in "${unknown}")`],
      [["--space", empty], 'axis "tau": found the empty range [2, 1]'],
      [["--space", lost], 'axis "tau" when "fuson": no such option'],
      [["--space", broken], broken],
      [["--space", none], "found no default export"],
      [["--space", `${folder}/gone.json`], "gone.json"],
      [["--space", space, "--sampler", "grid"], `or another sampler (in "${space}")`],
      [["--space", space, "--sampler", "best"], '--sampler "best": expected one of grid, random, sobol, tpe'],
      [["--space", space, "--trials", "0"], "--trials 0: expected an integer of at least 1"],
      [["--space", space, "--grid", space], "Cannot use --grid with a search"],
      [["--space", space, "--full"], "Cannot use --full with a search"],
      [["--full", "--tau", "1"], "Cannot use --full with --tau"],
      [["--full", "--grid", space], "Cannot use --full with --grid"],
      [["--space", space, "--objectives", "los"], 'objective "los": expected some of loss'],
      [["--space", space, "--objectives", "loss,loss"], "found one twice"],
      [["--space", space, "--at-most", "pairs"], 'found "pairs", expected an objective and a number'],
      [["--space", space, "--shard", "1/2"], "Cannot use --shard with --sampler tpe"],
      [["--race", "--shard", "1/2"], "Cannot use --shard with --race"],
      [["--sampler", "tpe"], "Cannot use --sampler without axes"],
      [["--trials", "5"], "Cannot use --trials without a search"],
      [["--patience", "5"], "Cannot use --patience without --queue"],
      [["--race", "wild"], '--race "wild": expected one of sequential, halving'],
      [["--time", "0m"], "--time 0m: expected a time above 0 such as 20m"],
      [["--time", "soon"], "--time soon: expected a time above 0"],
    ];
    for (const [args, expected] of cases) {
      const error = await sweep.main([...args, ...out]).then(() => undefined, (error) => error);
      const line = explainError(error);
      assertStringIncludes(line ?? String(error), expected);
      assertEquals(line!.includes("\n"), false);
    }
    assertEquals(listFolder(folder), before);
  }));

Deno.test({
  ...unless(lackOfPython(["optuna"]), "an Optuna study chooses trials and knows their losses"),
  fn: () =>
    withFolder(async (folder) => {
      Deno.writeTextFileSync(
        `${folder}/text.txt`,
        "It was the best of times, it was the worst of times. ".repeat(6),
      );
      const script = fileURLToPath(new URL("../optuna_study.py", import.meta.url));
      const args = ["--text", `${folder}/text.txt`, "--tokens", "64", "--trials", "2", "--seed", "1"];
      await runPython(script, ...args, "--storage", `sqlite:///${folder}/study.db`);
      const code =
        "import optuna, sys; s = optuna.load_study(study_name='tokenfilter', storage=sys.argv[1]); " +
        "assert len(s.trials) == 2 and all(len(t.values) == 2 and t.values[0] > 0 and 0.3 < t.values[1] < 1 " +
        "and 'ratio' in t.constraints for t in s.trials), s.trials";
      await runPython("-c", code, `sqlite:///${folder}/study.db`);
      const lines = Deno.readTextFileSync(script).split("\n").length;
      assert(lines < 60, `${lines} lines`);
      assertMatch(Deno.readTextFileSync(script), /deno task score --json/);
    }),
});
