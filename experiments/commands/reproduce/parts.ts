/** Parts of a recipe on a model: each a comparison by one protocol, all of one model on one backend. */
import { UsageError } from "../../../lib/errors.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { sha256 } from "../../../lib/sha256.ts";
import type { NamedMethod } from "../../../lib/sweep/compare/compared_methods.ts";
import type { Match } from "../../../lib/sweep/compare/match.ts";
import { digestConditions, digestTrialOptions } from "../../../lib/sweep/trials/digest.ts";
import type { StudyConditions } from "../../../lib/sweep/trials/store_records.ts";
import { command as compare, readMatch, readMethods } from "../compare.ts";
import { encodeCalibration, takeCalibration } from "../cli/flags/calibration.ts";
import { type FlagValues, parseArguments, textOf } from "../cli/flags/parse.ts";
import type { BackendRequest } from "../cli/machine/backend.ts";
import { readModel } from "../cli/machine/model.ts";
import { readPlan, startStudy } from "../cli/run/study.ts";
import type { Asked } from "../run.ts";
import { HUB } from "../task/data.ts";
import { hasDigest, readRecipeText } from "./data.ts";
import { findProtocol, type Protocol, type Recipe } from "./recipe.ts";

export interface PlannedPart {
  /** Its protocol's name. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly methods: readonly NamedMethod[];
  readonly match: Match | undefined;
  /** Whether all of the protocol's data are used. */
  readonly isWhole: boolean;
  /** Whether its data come from a folder, and have no digest that they were compared with. */
  readonly isUnchecked: boolean;
  readonly study: Awaited<ReturnType<typeof startStudy>>["study"];
  /** Digest of all that its numbers depend on. */
  readonly digest: string;
}

/** Inputs of the plan of parts. */
type Asking = Pick<Asked, "values" | "progress"> & { readonly request: BackendRequest };

/** The folder of data, or `hub` where none was named. */
export const dataOf = (values: FlagValues): string => textOf(values, "data") ?? HUB;

/** Flags of a part for deno task compare: those of the recipe, then those of the user. */
export function flagsOfPart(
  recipe: Recipe,
  name: string,
  protocol: Protocol,
  values: FlagValues,
): FlagValues {
  const { methods, ratios, flags, parts } = recipe, { task, context, tokens } = protocol;
  const own: { readonly [flag: string]: string } = {
    ...{ methods, ratios, ...flags },
    ...(task !== undefined && { task }),
    ...(context !== undefined && { context: String(context) }),
    ...(tokens !== undefined && { tokens: String(tokens) }),
    ...parts[name],
  };
  const left = context === undefined ? "tokens" : "items";
  const given = [...values].filter(([flag]) => Object.hasOwn(compare.flags, flag) && flag !== left);
  const args = Object.entries(own).flatMap(([flag, text]) => [`--${flag}`, text]);
  return new Map([...parseArguments(compare, args).values, ["data", [dataOf(values)]], ...given]);
}

/** Whether flags limit a protocol's data. */
const isCut = (flags: FlagValues, { tokens, items }: Protocol) =>
  flags.get("tokens")?.[0] !== tokens || items !== undefined && flags.has("items");

const isUnchecked = (folder: string, { data, items, sha256 }: Protocol) =>
  folder !== HUB && (data === undefined ? items !== undefined && sha256 === undefined : !hasDigest(data));

/**
 * Reads the model and the data of all parts, and puts the model on its backend.
 *
 * @throws {UsageError} If anything cannot be run, or data have another digest than the recipe asks for.
 */
export async function planParts(recipe: Recipe, { values, progress, request }: Asking) {
  const data = dataOf(values);
  const hub = values.has("offline") ? { offline: true } : {}, { calibration } = recipe;
  if (calibration !== undefined) {
    const { data: name, domain, tokens } = calibration, { text } = await readRecipeText(name, data, hub);
    const flags = { calibration: name, "calibration-domain": domain, "calibration-tokens": tokens };
    await takeCalibration(new Map(Object.entries(flags).map(([flag, value]) => [flag, [value]])), text);
  }
  const named: FlagValues = new Map([["model", [recipe.model]], ...values]);
  const file: ModelFile = await readModel(named, progress, values.has("jobs"));
  encodeCalibration(file);
  const parts: PlannedPart[] = [];
  let first: Awaited<ReturnType<typeof startStudy>> | undefined;
  for (const name of Object.keys(recipe.parts)) {
    const protocol = findProtocol(recipe.published, name)!,
      flags = flagsOfPart(recipe, name, protocol, named);
    const text = protocol.data === undefined ? undefined : await readRecipeText(protocol.data, data, hub);
    const methods = await readMethods({ values: flags, progress }), match = readMatch(flags);
    const options = methods.map(({ options }) => options), names = methods.map(({ name }) => name);
    const plan = await readPlan(flags, options, progress, undefined, names, { file, ...(text && { text }) });
    const found = await sha256(plan.text);
    if (protocol.sha256 !== undefined && found !== protocol.sha256) {
      throw new UsageError(
        `Cannot use ${plan.textName} for ${name}: found SHA-256 ${found}, expected ${protocol.sha256} of the recipe`,
      );
    }
    const opened = first && { backend: first.backend, model: first.study.model.model };
    const started = await startStudy(plan, request, options, progress, () => {}, {}, opened);
    first ??= started;
    const digests = options.map(digestTrialOptions);
    const digest = await digestConditions({ ...started.conditions, methods: digests.join(), match });
    const count = started.conditions.items;
    const isWhole = !isCut(flags, protocol) && (protocol.items === undefined || count === protocol.items);
    const own = { isWhole, isUnchecked: isUnchecked(data, protocol), digest };
    parts.push({ name, protocol, methods, match, study: started.study, ...own });
  }
  return { parts, file, conditions: conditionsOf(recipe, parts, first!.conditions), backend: first!.backend };
}

/** Conditions of a recipe's study: the model, and of each part the digest of its own conditions. */
function conditionsOf(
  { name, version }: Recipe,
  parts: readonly PlannedPart[],
  { version: code, model, modelSha256, backend, cacheDType, products, dtype }: StudyConditions,
): StudyConditions {
  const digests = Object.fromEntries(parts.map(({ name, digest }) => [name, digest.slice(0, 12)]));
  return {
    ...{ version: code, model, modelSha256, backend, cacheDType },
    ...(products && { products }),
    ...(dtype && { dtype }),
    options: { recipe: `${name} ${version}`, ...digests },
  };
}
