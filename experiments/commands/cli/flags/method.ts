/** From flags to options of the method, for one trial or for a grid. */
import type { Backend } from "../../../../lib/backend.ts";
import { UsageError } from "../../../../lib/errors.ts";
import {
  type ResolvedOptions,
  resolveOptions,
  type TokenFilterOptions,
} from "../../../../lib/methods/bind/options.ts";
import { decidingMethods } from "../../../../lib/methods/bind/sides.ts";
import { bindRule } from "../../../../lib/methods/bind/substitute.ts";
import { isRule } from "../../../../lib/methods/protocol/method.ts";
import { DEFAULT_GRID, FULL_GRID } from "../../../../lib/sweep/default_grid.ts";
import { expandGrids, type Grid, readGrids } from "../../../../lib/sweep/space.ts";
import { readJson } from "../files.ts";
import type { Flag } from "./flag.ts";
import { METHOD } from "./method_flags.ts";
import { type FlagValues, textOf } from "./parse.ts";
import type { Progress } from "../output/progress.ts";
import { checkFlags, flagName } from "../task.ts";

/** Alternatives of every given option of the method. Files are read. */
export async function readAxes(values: FlagValues): Promise<Grid> {
  const axes: [string, unknown][] = [];
  for (const [name, flag] of Object.entries(METHOD)) {
    const given = values.get(name);
    if (given !== undefined) axes.push([flag.option!, await readAxis(flag, given)]);
  }
  return Object.fromEntries(axes);
}

async function readAxis(flag: Flag, given: readonly unknown[]): Promise<unknown> {
  if (flag.kind !== "ratios file") return given;
  const path = given[0] as string;
  const ratios = await readJson(path);
  if (!Array.isArray(ratios) || !ratios.every((ratio) => typeof ratio === "number")) {
    throw new UsageError(`Cannot use "${path}": expected a list of numbers, one a layer`);
  }
  return [ratios];
}

/** The given options of the method, in a command that takes no lists. */
export async function readOptions(values: FlagValues): Promise<TokenFilterOptions> {
  const axes = Object.entries(await readAxes(values));
  return Object.fromEntries(axes.map(([name, list]) => [name, (list as unknown[])[0]]));
}

/**
 * The method of a command that takes no lists.
 *
 * @returns Options with defaults filled in, or undefined without a flag of the method (full model).
 */
export async function readMethod(values: FlagValues): Promise<ResolvedOptions | undefined> {
  const options = await readOptions(values);
  if (Object.keys(options).length === 0) return undefined;
  return checkFlags(() => resolveOptions(options));
}

/**
 * The methods of a sweep. With `--grid`, they come from the file's grids, and axes of the flags replace its own.
 * Otherwise they come from the flags' axes, or from the default grid (`--full`: its long form).
 *
 * @throws {UsageError} If `--full` is given with another grid, or an axis or a combination cannot be.
 */
export async function readSweepMethods(values: FlagValues): Promise<readonly ResolvedOptions[]> {
  const axes = await readAxes(values);
  const path = textOf(values, "grid");
  const isDefault = path === undefined && Object.keys(axes).length === 0;
  if (isDefault) return expandGrids(values.has("full") ? FULL_GRID : DEFAULT_GRID);
  if (values.has("full")) {
    const other = path === undefined ? flagName(Object.keys(axes)[0]!) : "grid";
    throw new UsageError(
      `Cannot use --full with --${other}: it is the grid that runs without flags of the method`,
    );
  }
  if (path === undefined) return checkFlags(() => expandGrids([axes]));
  const file = await readJson(path);
  return checkFile(path, () => expandGrids(readGrids(file).map((grid) => ({ ...grid, ...axes }))));
}

/** As `checkFlags`; errors also name the file of the values, if there is one. */
export function checkFile<T>(path: string | undefined, check: () => T): T {
  try {
    return checkFlags(check);
  } catch (error) {
    if (path === undefined || !(error instanceof UsageError)) throw error;
    throw new UsageError(`${error.message} (in "${path}")`);
  }
}

/** Refuses a substitute for skipped outputs in a command that only computes scores, and skips nothing. */
export function expectNoSubstitute(command: string, { substitute }: ResolvedOptions): void {
  if (substitute === "none") return;
  throw new UsageError(
    `Cannot use --substitute ${substitute} in ${command}: expected none, since ${command} looks at scores, and skips nothing`,
  );
}

/** Reports the rules that run in TypeScript on the host because the backend has no kernels for them. */
export function tellHostRules(
  progress: Progress,
  backend: Backend,
  methods: readonly ResolvedOptions[],
): void {
  if (backend.name === "reference") return;
  const rules = methods.flatMap((options) =>
    decidingMethods(options).filter((method) => isRule(method)).flatMap((rule) => {
      if (bindRule(rule, options, backend).native !== undefined) return [];
      return [rule.native === undefined ? `"${rule.name}"` : `"${rule.name}" with a local substitute`];
    })
  );
  for (const rule of new Set(rules)) {
    progress.line(`${rule} decides in TypeScript on the host: the kernels do not have this rule.`);
  }
}
