/** `study repair`: copies the undamaged part of a study into a new one. */
import { UsageError } from "../../../lib/errors.ts";
import { plural } from "../../../lib/plural.ts";
import { digestConditions, finishedTrials, salvageStudy, StudyStore } from "../../../lib/sweep/mod.ts";
import { exists } from "../cli/files.ts";
import { conditionsOf, findWrongRecord } from "./files.ts";

/**
 * Copies the undamaged part of a study: its settings, trials, units of work, and unchanged results. A trial with a
 * damaged result waits again, and so does a trial at work.
 *
 * @returns A line about the copied part.
 * @throws {UsageError} If neither the conditions nor a result is sound, or the new file is there already.
 */
export async function repairStudy(from: string, to: string): Promise<string> {
  if (exists(to)) throw new UsageError(`Cannot write "${to}": it is there already`);
  const { settings, trials, records, units, lost } = salvageStudy(from), [first] = records;
  const conditions = settings.conditions ?? (first && conditionsOf(first));
  if (conditions === undefined) {
    throw new UsageError(`Cannot repair study "${from}": neither its conditions nor a result is sound`);
  }
  const runDigest = await digestConditions(conditions);
  const sound = records.filter((record) =>
    record?.runDigest === runDigest && findWrongRecord(record) === undefined
  );
  const { name = "repaired", flags = {}, command, dense, environment, race } = settings, part = `${to}.part`;
  {
    using store = StudyStore.create(part, { name, conditions, runDigest, flags });
    for (const [key, value] of Object.entries({ command, dense, environment, race })) {
      store.set(key as "command", value as string | undefined);
    }
    store.add(trials);
    store.take(finishedTrials(sound));
    for (const { kind, key, record } of units) {
      if (typeof record === "string") store.units(kind, () => key).append(JSON.parse(record));
      else store.writeBytes(kind, key, record);
    }
  }
  Deno.renameSync(part, to);
  const left = lost + records.length - sound.length;
  return `${plural(sound.length, "result")}, ${plural(trials.length, "trial")} and ${
    plural(units.length, "unit")
  } of ` +
    `work are sound, in ${to}; ${plural(left, "row")} left out`;
}
