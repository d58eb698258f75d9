/** The fixed list of runs. `TMP/` in an argument stands for the folder of inputs and results. */
import { BAD_LINES } from "./bad_lines.ts";
import type { Env, Target } from "./execute.ts";

/** One run. */
export interface Run {
  /** Unique. */
  readonly name: string;
  readonly target: Target;
  readonly args: readonly string[];
  readonly env?: Env;
  /** What the machine must have, one of `Machine.has`. */
  readonly needs?: string;
  /** Folder or file to look at afterwards. */
  readonly output?: string;
}

/** What the list depends on. */
export interface RunConditions {
  /** The BLAS that rounds alike on all machines, as `Machine.has` names it. */
  readonly blas: string | undefined;
  readonly blasEnv: Env;
}

const HELPS = [
  ...["sweep", "score", "heads", "filter", "compare", "report"],
  ...["bench", "bench:gpu", "test:gpu", "pack:gpu", "notebooks", "lab"],
];
const RULES = [
  ...["variance", "mean", "static", "key", "value", "min", "max", "product", "random", "learned"],
  "oracle",
];
const POLICIES = ["budget", "window", "robbins-monro", "fixed", "topk"];

/** Flags of one option each, which must change what is decided. */
const OPTIONS = [
  "--preset paper",
  "--fusion variance --tau 4",
  "--lambda 1",
  "--eps 0.01",
  "--fusion static --alpha 0.2",
  "--anchor mean",
  "--gamma 0.5",
  "--absorb kept",
  "--key-state pre-rope",
  "--prune-ratio 0.25",
  "--tail 1",
  "--schedule ramp",
  "--schedule ramp --slope 1",
  "--skip-ratios TMP/ratios.json",
  "--warmup 8",
  "--threshold window --window 24",
  "--threshold budget --window 24",
  "--threshold fixed --theta 0.6",
  "--threshold robbins-monro --eta 0.5",
  "--cache-skipped",
  "--recent 0",
  "--recent 3",
  "--fusion learned --block 8",
  "--fusion learned --ridge 100",
  "--fusion learned --projections 4",
  "--fusion learned --features norm+query",
  "--fusion learned --seed 5",
  "--fusion random --seed 18446744073709551615",
];

/** A run of `score` on the common text; its name is what it asks for. */
function score(asked: string, more: Partial<Run> & { readonly on?: string } = {}): Run {
  const { on, ...rest } = more;
  const source = /--(ids|replay|text) /.test(asked) ? [] : ["--text", "TMP/text.txt"];
  return {
    name: `score ${asked || "(dense)"}${on === undefined ? "" : ` on ${on}`}`,
    target: { task: "score" },
    args: ["--json", "--quiet", "--threads", "1", ...source, ...words(asked)],
    ...rest,
  };
}

function words(text: string): string[] {
  return text === "" ? [] : text.split(" ");
}

/** Joins parts of a command line, of which some are empty. */
function line(...parts: string[]): string {
  return parts.filter((part) => part !== "").join(" ");
}

function cross(...axes: readonly (readonly string[])[]): string[] {
  return axes.reduce<string[]>(
    (lines, axis) => lines.flatMap((head) => axis.map((tail) => line(head, tail))),
    [""],
  );
}

const ON_REFERENCE = "--backend reference --tokens 64 --warmup 12";
const ON_CUDA = "--backend cuda --tokens 40 --warmup 10";

function scores({ blas, blasEnv }: RunConditions): Run[] {
  const rules = RULES.map((rule) => `--fusion ${rule}`),
    dense = ["", ...["variance", "learned"].map((r) => `--fusion ${r}`)];
  const feeds = ["--chunk 7", "--phase decode"], half = "--cache-dtype bf16";
  return [
    ...cross(["", ...rules], ["", half]),
    ...cross(["", ...rules].filter((rule) => !rule.includes("oracle")), [...feeds, `${half} --phase decode`]),
    ...rules.map((rule) => `${rule} --invert`),
    ...cross(["--fusion variance", "--fusion mean"], [
      ...cross(["window", "robbins-monro", "fixed"].map((policy) => `--threshold ${policy}`), ["", ...feeds]),
      "--threshold topk",
    ]),
    ...cross(["--fusion learned --threshold window"], ["", ...feeds]),
    ...OPTIONS,
    ...cross(["--cache-dtype f16"], dense),
    "--ids TMP/ids.json",
    "--ids TMP/ids.json --preset paper --warmup 8 --tokens 40",
    ...cross([ON_REFERENCE], ["", ...rules]),
    ...cross([ON_REFERENCE], dense, [...feeds, half]),
    ...cross(
      [ON_REFERENCE, ON_CUDA],
      ["--fusion variance"],
      ["window", "robbins-monro"].map((p) => `--threshold ${p}`),
    ),
    ...cross([ON_CUDA], ["", ...rules]),
    ...cross([ON_CUDA], dense, [...feeds, half, `${half} --phase decode`, "--cache-dtype f16 --wgmma"]),
  ].map((asked) => score(asked, asked.includes("--backend cuda") ? { needs: "emulated CUDA" } : {})).concat(
    ["base", "avx512"].flatMap((level) =>
      cross(dense, ["", "--phase decode", half]).map((asked) =>
        score(asked, { on: level, needs: `level ${level}`, env: { TOKENFILTER_LEVEL: level } })
      )
    ),
    dense.map((asked) =>
      score(`--threads 2 ${asked}`.trimEnd(), {
        args: ["--json", "--quiet", "--text", "TMP/text.txt", "--threads", "2", ...words(asked)],
      })
    ),
    blas === undefined ? [] : dense.map((asked) => score(asked, { on: "BLAS", needs: blas, env: blasEnv })),
  );
}

/** Commands that write a folder. */
const SMALL = "--context 48 --tokens 96 --warmup 8 --threads 1 --out TMP/";
/** Without a flag of the method: `sweep` then runs its own grid. */
const OWN_GRID: Run = {
  name: "sweep",
  target: { task: "sweep" },
  args: words("--context 64 --tokens 64 --threads 1 --quiet --out TMP/sweep_default"),
  output: "sweep_default",
};
const studies = (list: readonly (readonly [folder: string, task: string, args: string])[]): Run[] =>
  list.map(([folder, task, args]) => ({
    name: `${task} ${args}`.trim(),
    target: { task },
    args: words(line(args, `${SMALL}${folder}`)),
    output: folder,
  }));

const FIRST_STUDIES = studies([
  ["sweep_rules", "sweep", `--json --quiet --fusion ${RULES.join(",")} --prune-ratio 0.25,0.5`],
  ["sweep_grid", "sweep", "--grid TMP/grid.json --cache-dtype bf16"],
  ["sweep_reference", "sweep", "--json --quiet --backend reference --fusion learned,random"],
  ["heads", "heads", "--resamples 50"],
  [
    "heads_learned",
    "heads",
    "--json --quiet --resamples 20 --fusion learned --threshold window --prune-ratio 0.25",
  ],
  ["compare", "compare", "--seeds 2"],
  ["compare_few", "compare", "--json --quiet --methods variance,learned,random --seeds 2 --cache-dtype bf16"],
]);

const TRACES = ["--fusion learned", "--preset paper --phase decode", "--fusion oracle"].map((asked, i) =>
  score(`${asked} --trace TMP/trace${i}.parquet`, { output: `trace${i}.parquet` })
);

const REPLAYS = [
  ...TRACES.map((_, i) => `TMP/trace${i}.parquet`),
  "TMP/heads/trace.parquet",
  "TMP/heads_learned/trace.parquet --cache-dtype bf16",
].map((args) => score(`--replay ${args}`));

const FILTERS = [
  ...RULES.map((rule) => `--fusion ${rule}`),
  ...POLICIES.map((policy) => `--threshold ${policy}`),
  "",
  "--invert --skip-ratio 0.25 --layer 3 --fusion random",
  "--backend reference",
  "--backend reference --fusion product --threshold window",
  "--kv TMP/bf16.safetensors --warmup 4",
].map((asked): Run => ({
  name: `filter ${asked || "(defaults)"}`,
  target: { task: "filter" },
  args: words(
    line(asked.includes("--kv") ? "" : "--kv TMP/dump.safetensors", "--json --quiet --threads 1", asked),
  ),
}));

const TABLES: Run[] = [
  ["score", "--text TMP/text.txt --fusion mean --tokens 40 --warmup 8 --threads 1 --out TMP/score"],
  ["filter", "--kv TMP/dump.safetensors --tokens 24 --warmup 4 --threads 1 --out TMP/filter"],
].map(([task, args]) => ({
  name: `${task} ${args}`,
  target: { task: task! },
  args: words(args!),
  output: task!,
}));

const AFTERWARDS: Run[] = [
  ...REPLAYS,
  {
    name: "report",
    target: { task: "report" },
    args: words("TMP/sweep_rules TMP/heads TMP/compare --out TMP/site"),
    output: "site",
  },
  {
    name: "sweep --resume",
    target: { task: "sweep" },
    args: words(line("--grid TMP/grid.json --cache-dtype bf16 --resume", `${SMALL}sweep_grid`)),
  },
  {
    name: "heads over a finished run",
    target: { task: "heads" },
    args: words(`--resamples 50 ${SMALL}heads`),
  },
  { name: "compare over a finished run", target: { task: "compare" }, args: words(`--resume TMP/compare`) },
];

/** All runs in two stages: those of the second one read what the first one left. */
export function listRuns(conditions: RunConditions): readonly [Run[], Run[]] {
  const first = [
    OWN_GRID,
    ...FIRST_STUDIES,
    ...HELPS.map((task): Run => ({ name: `${task} --help`, target: { task }, args: ["--help"] })),
    { name: "library", target: { script: new URL("library_testing.ts", import.meta.url) }, args: [] },
    ...scores(conditions),
    ...TRACES,
    ...FILTERS,
    ...TABLES,
    ...BAD_LINES.map(([task, args]): Run => ({
      name: `refused: ${task} ${args}`.trim(),
      target: { task },
      args: words(args),
    })),
  ];
  const names = [...first, ...AFTERWARDS].map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new Error(`Cannot run "${twice}" twice: expected names that differ`);
  return [first, AFTERWARDS];
}
