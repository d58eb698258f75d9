/** Runs of `score`: every rule, policy, option, feed, type of cache, backend and level. */
import { THRESHOLD_POLICIES } from "../../../lib/filter/mod.ts";
import { METHOD_NAMES } from "../../../lib/methods/mod.ts";
import type { Machine } from "./machine.ts";
import { line, type Run, words } from "./run.ts";

/** Flags that change one option each. */
const OPTIONS = [
  "--preset paper",
  "--method variance --tau 4",
  "--lambda 1",
  "--eps 0.01",
  "--method static --alpha 0.2",
  "--anchor mean",
  "--gamma 0.5",
  "--absorb kept",
  "--key-state pre-rope",
  "--prune-ratio 0.25",
  "--tail 1",
  "--schedule ramp --prune-ratio 0.3",
  "--schedule ramp --slope 0.1",
  "--skip-ratios TMP/ratios.json",
  "--warmup 8",
  "--threshold window --threshold-window 24",
  "--threshold budget --threshold-window 24",
  "--threshold fixed --theta 0.6",
  "--threshold robbins-monro --eta 0.5",
  "--cache-skipped",
  "--recent 0",
  "--recent 3",
  "--side key --warmup 16 --recent 4",
  "--side query",
  "--kv-method received --warmup 16 --recent 4 --block 8",
  "--kv-method keydiff --kv-ratio 0.75 --kv-tail 0.8 --warmup 16",
  "--method learned --block 8",
  "--method learned --ridge 100",
  "--method learned --projections 4",
  "--method learned --features norm+query",
  "--method learned --seed 5",
  "--method random --seed 18446744073709551615",
];

/** A run on the common text, named by its flags. */
export function score(asked: string, more: Partial<Run> & { readonly on?: string } = {}): Run {
  const { on, ...rest } = more;
  const source = /--(ids|replay|text) /.test(asked) ? "" : "--text TMP/text.txt";
  const threads = asked.includes("--threads ") ? "" : "--threads 1";
  return {
    name: line("score", asked || "(dense)", on === undefined ? "" : `on ${on}`),
    target: { task: "score" },
    args: words(line("--json --quiet", threads, source, asked)),
    ...(asked.includes("--backend cuda") && { needs: "emulated CUDA" }),
    ...rest,
  };
}

/** All combinations of one part from each list. */
function cross(...lists: readonly (readonly string[])[]): string[] {
  return lists.reduce<string[]>(
    (heads, list) => heads.flatMap((head) => list.map((part) => line(head, part))),
    [""],
  );
}

const flags = (flag: string, values: readonly string[]) => values.map((value) => `--${flag} ${value}`);

const RULES = flags("method", METHOD_NAMES), FEW = flags("method", ["variance", "learned"]);
const LOOKS_AHEAD = /oracle|topk/;
const HALF = "--cache-dtype bf16", DECODE = "--phase decode";
/** Other ways to feed a sequence than all at once. */
const FEEDS = ["--chunk 7", DECODE];

/** All of them but those that leave or need a trace. */
export function listScores({ blas, blasEnv }: Pick<Machine, "blas" | "blasEnv">): Run[] {
  const online = RULES.filter((rule) => !LOOKS_AHEAD.test(rule));
  const policies = cross(flags("method", ["variance", "mean"]), flags("threshold", THRESHOLD_POLICIES))
    .filter((asked) => !asked.endsWith("budget"));
  const asked = [
    ...cross(["", ...RULES], ["", HALF]),
    ...cross(["", ...online], [...FEEDS, line(HALF, DECODE)]),
    ...cross(RULES, ["--invert"]),
    ...policies,
    ...cross(policies.filter((policy) => !LOOKS_AHEAD.test(policy)), FEEDS),
    ...cross(["--method learned --threshold window"], ["", ...FEEDS]),
    ...OPTIONS,
    ...cross(["--cache-dtype f16", "--threads 2"], ["", ...FEW]),
    "--ids TMP/ids.json",
    "--ids TMP/ids.json --preset paper --warmup 8 --tokens 40",
    ...listSlow("--backend reference --tokens 64", "--warmup 12", [...FEEDS, HALF]),
    ...listSlow("--backend cuda --tokens 40", "--warmup 10", [FEEDS[0]!, HALF, "--cache-dtype f16 --wgmma"]),
    // A recorded step takes the emulator half a second.
    ...cross(["--backend cuda --tokens 16"], ["", ...FEW.map((method) => line("--warmup 10", method))], [
      DECODE,
      line(HALF, DECODE),
    ]),
  ];
  const levels = ["base", "avx512"].flatMap((level) =>
    cross(["", ...FEW], ["", DECODE, HALF]).map((asked) =>
      score(asked, { on: level, needs: `level ${level}`, env: { TOKENFILTER_LEVEL: level } })
    )
  );
  const withBlas = blas === undefined
    ? []
    : ["", ...FEW].map((asked) => score(asked, { on: "BLAS", needs: blas, env: blasEnv }));
  return [...asked.map((each) => score(each)), ...levels, ...withBlas];
}

/** Every rule, and other feeds for a few, on a slow backend. A flag of the method would prune the full model. */
function listSlow(backend: string, warmup: string, others: readonly string[]): string[] {
  const moving = flags("threshold", ["window", "robbins-monro"]);
  return [
    ...cross([backend], ["", ...others]),
    ...cross([line(backend, warmup)], RULES),
    ...cross([line(backend, warmup)], FEW, others),
    ...cross([line(backend, warmup)], ["--method variance"], moving),
  ];
}
