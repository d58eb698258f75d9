/** Flags of how tokens are chosen. */
import { Sampler, SAMPLING, type SamplingOptions } from "../../../../lib/model/mod.ts";
import type { FlagValues } from "./parse.ts";
import { checkFlags, flagName } from "../task.ts";

/** The options that were given. @throws {UsageError} If one is out of its range. */
export function readSampling(values: FlagValues): SamplingOptions {
  const given = Object.keys(SAMPLING).flatMap((name) => {
    const value = values.get(flagName(name))?.[0];
    return value === undefined ? [] : [[name, value] as const];
  });
  const options: SamplingOptions = Object.fromEntries(given);
  checkFlags(() => new Sampler(options));
  return options;
}
