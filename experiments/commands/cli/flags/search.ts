/** Flags of a search, of a race and of a limit of time: `--space`, `--sampler`, `--race`, `--time`. */
import { UsageError } from "../../../../lib/errors.ts";
import { type RaceName, RACES } from "../../../../lib/search/race.ts";
import { type SamplerName, SAMPLERS } from "../../../../lib/search/sampler.ts";
import type { ObjectiveName, SearchRequest } from "../../../../lib/sweep/trial.ts";
import { OBJECTIVE_NAMES, readObjective } from "../../../../lib/sweep/trials/search.ts";
import { readSearchSpace } from "../../../../lib/sweep/trials/search_space.ts";
import { TrialRace } from "../../../../lib/sweep/trials/trial_race.ts";
import { sha256 } from "../../../../lib/sha256.ts";
import { importFile, readBytes, readJson } from "../files.ts";
import { checkFile, readAxes } from "./method.ts";
import { expectChoice, type FlagValues, textOf } from "./parse.ts";
import { checkFlags } from "../task.ts";
import { choice, choicesOf, type Flags, integer, onOff, optional, rarely, text, under } from "./flag.ts";
import { readCount } from "./text.ts";

/** Flags of grids, searches and races. */
export const SEARCH = {
  ...under("What runs", {
    full: onOff("the long form of the grid that runs by default: 81 trials"),
    space: text(
      "FILE.json|FILE.ts",
      "axes of a search: values, lists, ranges and conditions (docs/guides/sweep-and-search.md)",
    ),
  }),
  race: {
    ...optional(
      `[${Object.keys(RACES).join("|")}]`,
      "stop trials early that will not be the best at their ratio, on shared chunks in a shuffled order (sequential)",
    ),
    choices: [
      { name: "sequential", help: "once significantly worse than the best, at level 0.01" },
      { name: "halving", help: "outside the best third at 1/27, 1/9 and 1/3 of the chunks" },
    ],
  },
  ...rarely({
    grid: text("FILE.json", "axes as in the flags, {option: [values]}, or a list of such objects"),
    sampler: choice(choicesOf(SAMPLERS), "algorithm that proposes the trials of a search (tpe)"),
    trials: integer("proposals of a search (50; grid: all)"),
    "sampler-seed": integer("seed of a search's proposals and of a race's order of chunks (0)"),
    objectives: text(
      "A,B,…",
      `quantities that a search minimizes, of ${
        OBJECTIVE_NAMES.join(", ")
      } (loss; where a ratio varies loss,attentionFlops)`,
    ),
    "at-most": text("A=X,…", "upper limits of objectives for a trial: attentionFlops=0.6"),
    time: text("TIME", "start no trial once a time is over: 20m, 90s, 1h30m"),
    shard: text("I/N", "run only every Nth trial from the Ith on; the parts' studies can be joined"),
  }),
} satisfies Flags;

/** Default number of proposals, except for a grid. */
const DEFAULT_TRIALS = 50;

/** Flags without a meaning outside of a search. */
const OF_SEARCH = ["trials", "objectives", "at-most"];

/** The options that request a ratio: if they vary, the loss would always prefer the smallest. */
const SHARES = ["pruneRatio", "kvRatio", "skipRatios", "theta", "threshold"];

/**
 * The request for a search. Its axes are those of `--space`, where flags of the method replace axes of the same name.
 * Without `--space`, they are the flags' axes. Undefined without `--space` and `--sampler`.
 *
 * @throws {UsageError} If a flag or the file is wrong.
 */
export async function readSearch(values: FlagValues): Promise<SearchRequest | undefined> {
  const path = textOf(values, "space"), sampler = textOf(values, "sampler");
  if (path === undefined && sampler === undefined) {
    const idle = OF_SEARCH.find((name) => values.has(name));
    if (idle !== undefined) {
      throw new UsageError(`Cannot use --${idle} without a search: expected --space or --sampler too`);
    }
    return undefined;
  }
  if (values.has("grid")) {
    throw new UsageError("Cannot use --grid with a search: expected --space, which takes lists as well");
  }
  if (values.has("full")) throw new UsageError("Cannot use --full with a search: expected one of them");
  const name = expectChoice("sampler", sampler ?? "tpe", Object.keys(SAMPLERS) as SamplerName[]);
  const file = path === undefined ? {} : await readSpaceFile(path), axes = await readAxes(values);
  if (path === undefined && Object.keys(axes).length === 0) {
    throw new UsageError("Cannot use --sampler without axes: expected --space FILE, or flags with lists");
  }
  const isRecord = typeof file === "object" && file !== null && !Array.isArray(file);
  const space = checkFile(path, () => readSearchSpace(isRecord ? { ...file, ...axes } : file));
  const trials = readCount(values, "trials", 1) ?? (name === "grid" ? Infinity : DEFAULT_TRIALS);
  const varies = space.some((axis) =>
    SHARES.includes(axis.name) && !("choices" in axis && axis.choices.length === 1)
  );
  const objectives = readObjectives(values) ?? (varies ? ["loss", "attentionFlops"] : ["loss"]);
  const request = {
    space,
    sampler: name,
    seed: samplerSeed(values),
    trials,
    objectives,
    limits: readLimits(values),
  };
  checkFile(path, () => SAMPLERS[name].create(space, 0));
  return request;
}

/** The content of a file of axes: JSON, or the default export of a TypeScript module. */
async function readSpaceFile(path: string): Promise<unknown> {
  if (!path.endsWith(".ts")) return await readJson(path);
  const { default: space } = await importFile(path, await sha256(await readBytes(path)));
  if (space !== undefined) return space;
  throw new UsageError(`Cannot use "${path}": found no default export, expected an object of axes`);
}

const samplerSeed = (values: FlagValues) => readCount(values, "sampler-seed", 0) ?? 0;

function readObjectives(values: FlagValues): ObjectiveName[] | undefined {
  const text = textOf(values, "objectives");
  if (text === undefined) return undefined;
  const names = checkFlags(() => text.split(",").map((name) => readObjective(name.trim())));
  if (new Set(names).size < names.length) {
    throw new UsageError(`Cannot use --objectives ${text}: found one twice, expected each once`);
  }
  return names;
}

function readLimits(values: FlagValues): SearchRequest["limits"] {
  const text = textOf(values, "at-most");
  if (text === undefined) return {};
  return Object.fromEntries(
    text.split(",").map((part) => {
      const [, name, most] = part.trim().match(/^([\w-]+)=([-+.\de]+)$/) ?? [];
      if (name === undefined || !Number.isFinite(Number(most))) {
        throw new UsageError(
          `Cannot use --at-most ${text}: found "${part.trim()}", expected an objective and a number such as attentionFlops=0.6`,
        );
      }
      return [checkFlags(() => readObjective(name)), Number(most)];
    }),
  );
}

const UNITS = [["h", 3_600_000], ["m", 60_000], ["s", 1000]] as const;

/** Milliseconds of `--time`: `20m`, `90s`, `1h30m`. @throws {UsageError} If it is no time, or none at all. */
export function readTime(values: FlagValues): number | undefined {
  const text = textOf(values, "time");
  if (text === undefined) return undefined;
  const parts = text.match(/^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$/);
  const ms = UNITS.reduce((sum, [, unit], i) => sum + Number(parts?.[i + 1] ?? 0) * unit, 0);
  if (ms > 0) return ms;
  throw new UsageError(`Cannot use --time ${text}: expected a time above 0 such as 20m, 90s or 1h30m`);
}

/** The race of `--race`; undefined = none. @throws {UsageError} If there is no such race. */
export function readRace(values: FlagValues): TrialRace | undefined {
  const text = textOf(values, "race");
  if (text === undefined) return undefined;
  const kind = expectChoice("race", text === "" ? "sequential" : text, Object.keys(RACES) as RaceName[]);
  return new TrialRace(kind, samplerSeed(values));
}

/** Part I of N: every Nth trial from the Ith on, the same on every machine. @throws {UsageError} If there is no such part. */
export function shardOf<T>(trials: readonly T[], values: FlagValues): readonly T[] {
  const text = textOf(values, "shard");
  if (text === undefined) return trials;
  const [part, parts] = text.match(/^([1-9]\d*)\/([1-9]\d*)$/)?.slice(1).map(Number) ?? [];
  if (part === undefined || part > parts!) {
    throw new UsageError(`Cannot use --shard ${text}: expected I/N with I from 1 to N`);
  }
  if (parts! > trials.length) {
    throw new UsageError(
      `Cannot use --shard ${text}: expected at most as many parts as trials, ${trials.length}`,
    );
  }
  return trials.filter((_, i) => i % parts! === part - 1);
}

/** Refuses `--shard` where each trial depends on the results of the others. @throws {UsageError} Naming the flags. */
export function expectNoParts(values: FlagValues, flags: { readonly [flag: string]: boolean }): void {
  const flag = Object.keys(flags).find((name) => flags[name]);
  if (flag === undefined || !values.has("shard")) return;
  throw new UsageError(
    `Cannot use --shard with --${flag}: each trial looks at those before it (--jobs and --queue share them out)`,
  );
}
