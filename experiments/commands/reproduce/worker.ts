/** A further process on the study of a recipe: `deno task worker --study`. */
import type { StudyStore } from "../../../lib/sweep/mod.ts";
import { exists } from "../cli/files.ts";
import { type FlagValues, parseFlags, textOf } from "../cli/flags/parse.ts";
import { readBackend } from "../cli/machine/backend.ts";
import type { Progress } from "../cli/output/progress.ts";
import { expectSameStudy } from "../cli/run/study_store.ts";
import { planParts } from "./parts.ts";
import { readRecipe, RECIPES } from "./recipe.ts";
import { runJobs } from "./work.ts";

/** Flags of a recipe that its study does not keep otherwise. */
const OWN = ["recipe", "methods", "ratios", "seeds"] as const;

/** Keeps the flags in a study with which its workers plan the same recipe. */
export function keepRecipe(store: StudyStore, values: FlagValues): void {
  const own = OWN.filter((name) => values.has(name)).map((name) => {
    const text = String(values.get(name)![0]);
    return [name, name === "recipe" && exists(text) ? Deno.realPathSync(text) : text];
  });
  store.set("flags", { ...store.flags, ...Object.fromEntries(own) });
}

/** Runs jobs of a recipe's study until none is left. @param own Flags that differ here. */
export async function workOnRecipe(
  store: StudyStore,
  own: { readonly [flag: string]: string },
  { signal, progress }: { readonly signal: AbortSignal; readonly progress: Progress },
): Promise<void> {
  const args = Object.entries({ ...store.flags, ...own })
    .flatMap(([name, text]) => text === "true" ? [`--${name}`] : [`--${name}`, text]);
  const values = parseFlags("reproduce", args, false);
  const recipe = await readRecipe(textOf(values, "recipe") ?? RECIPES[0]);
  const { parts, conditions } = await planParts(recipe, { values, progress, request: readBackend(values) });
  expectSameStudy(store, conditions);
  await runJobs(store, parts, { signal, progress });
}
