/** The fixed list of runs. */
import { THRESHOLD_POLICIES } from "../../../lib/filter/mod.ts";
import { METHOD_NAMES, OFFLINE } from "../../../lib/methods/mod.ts";
import { BAD_LINES } from "./bad_lines.ts";
import type { Machine } from "./machine.ts";
import { line, type Run, taskRun, words } from "./run.ts";
import { listScores, score } from "./scores.ts";

const HELPS = [
  ...[
    "sweep",
    "worker",
    "study",
    "score",
    "eval",
    "generate",
    "serve",
    "heads",
    "filter",
    "compare",
    "diff",
    "report",
    "reproduce",
    "table",
  ],
  ...["bench", "bench:gpu", "test:gpu", "pack:gpu", "notebooks", "build", "digest"],
  ...["check", "size", "verified", "docs", "doctor", "release"],
];

const SMALL = "--context 48 --tokens 96 --warmup 8 --threads 1 --out TMP/";

/** Methods that alter the model, and the text that they are fitted on. */
const ALTERING = OFFLINE.map(({ name }) => name).join();
const CALIBRATED = "--calibration TMP/text.txt --calibration-domain same --calibration-tokens 200";

/** Commands that leave a folder of results, by its name. */
const STUDIES = Object.entries({
  sweep_rules: `sweep --json --quiet --method ${METHOD_NAMES.join()} --prune-ratio 0.25,0.5`,
  sweep_grid: "sweep --grid TMP/grid.json --cache-dtype bf16",
  sweep_reference: "sweep --json --quiet --backend reference --method learned,random",
  heads: "heads",
  heads_learned: "heads --json --quiet --resamples 20 --method learned --threshold window --prune-ratio 0.25",
  compare: "compare --seeds 2",
  compare_altering: `compare --json --quiet --methods ${ALTERING} ${CALIBRATED}`,
  compare_shuffled: "compare --json --quiet --methods variance,keys,shuffled --seeds 2",
  compare_few: "compare --json --quiet --methods variance,learned,random --cache-dtype bf16",
}).map(([output, command]): Run => {
  const [task, ...args] = command.split(" ");
  return taskRun(task!, line(...args, `${SMALL}${output}`), { name: command, output });
});

/** `sweep` runs its own grid where no flag of the method is given, and a longer one with `--full`. */
const OWN_GRIDS = [["sweep", "sweep_default"], ["sweep --full", "sweep_own"]].map(([name, output]): Run => {
  const small = "--context 64 --tokens 64 --threads 1 --quiet";
  return taskRun("sweep", line(...words(name!).slice(1), small, `--out TMP/${output}`), { name, output });
});

const TRACES = ["--method learned", "--preset paper --phase decode", "--method oracle"].map((asked, i) =>
  score(`${asked} --trace TMP/trace${i}.parquet`, { output: `trace${i}.parquet` })
);

const DUMP = "--kv TMP/dump.safetensors";
const FILTERS = [
  ...METHOD_NAMES.map((rule) => `${DUMP} --method ${rule}`),
  ...THRESHOLD_POLICIES.map((policy) => `${DUMP} --threshold ${policy}`),
  DUMP,
  `${DUMP} --invert --skip-ratio 0.25 --layer 3 --method random`,
  `${DUMP} --backend reference`,
  `${DUMP} --backend reference --method product --threshold window`,
  "--kv TMP/bf16.safetensors --warmup 4",
].map((args) => taskRun("filter", `--json --quiet --threads 1 ${args}`));

const TABLES = [
  taskRun("score", "--text TMP/text.txt --method mean --tokens 40 --warmup 8 --threads 1 --out TMP/score", {
    output: "score",
  }),
  taskRun("filter", `${DUMP} --tokens 24 --warmup 4 --threads 1 --out TMP/filter`, { output: "filter" }),
];

const AFTERWARDS = [
  ...[
    ...TRACES.map(({ output }) => output!),
    "heads/trace.parquet",
    "heads_learned/trace.parquet --cache-dtype bf16",
  ].map((trace) => score(`--replay TMP/${trace}`)),
  taskRun("diff", "TMP/sweep_rules TMP/sweep_reference --json"),
  taskRun("report", "TMP/sweep_rules TMP/heads TMP/compare --out TMP/site", { output: "site" }),
  taskRun("sweep", `--grid TMP/grid.json --cache-dtype bf16 --resume ${SMALL}sweep_grid`),
  taskRun("heads", `${SMALL}heads`),
  taskRun("compare", "--resume TMP/compare"),
];

/** All runs in two stages: those of the second one read outputs of the first one. */
export function listRuns(machine: Pick<Machine, "blas" | "blasEnv">): readonly [Run[], Run[]] {
  const library = new URL("library_testing.ts", import.meta.url);
  const first = [
    ...OWN_GRIDS,
    ...STUDIES,
    { name: "library", target: { script: library }, args: [] },
    ...listScores(machine),
    ...TRACES,
    ...FILTERS,
    ...TABLES,
    ...HELPS.map((task) => taskRun(task, "--help")),
    ...BAD_LINES.map(([task, args]) => taskRun(task, args, { name: line("refused:", task, args) })),
  ];
  const names = [...first, ...AFTERWARDS].map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new Error(`Cannot run "${twice}" twice: expected names that differ`);
  return [first, AFTERWARDS];
}
