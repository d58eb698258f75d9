/** The skeleton of commands that keep units of work in a study as they end, so that they can be interrupted. */
import type { StudyStore } from "../../lib/sweep/trials/store.ts";
import type { StudyConditions } from "../../lib/sweep/trials/store_records.ts";
import type { Command } from "./cli/command.ts";
import { readTable } from "./cli/output/table.ts";
import { Interrupt } from "./cli/run/interrupt.ts";
import { MemoryWatch } from "./cli/run/memory.ts";
import { claimFolder, endEarly, readDestination, saveResults, tellKept } from "./cli/run/resume.ts";
import { openStudyIn, releaseEnded, removeStudy } from "./cli/run/study_store.ts";
import { EXIT, giveUp, type Permission, writeLine } from "./cli/task.ts";
import { type Asked, printResult, readCommandLine, type TableCommand, writeResult } from "./run.ts";

/** Resources of a run that can be interrupted. */
export interface Running extends Asked {
  readonly folder: string;
  /** The study that keeps units of work as they end. */
  readonly store: StudyStore;
  readonly interrupt: Interrupt;
  readonly memory: MemoryWatch;
}

/** The description of a run, which is shown before it begins. */
interface Planned {
  /** Conditions that all its numbers depend on. */
  readonly conditions: StudyConditions;
  /** The trials and the backend, in words. */
  readonly line: string;
}

interface StudyCommand<F, P extends Planned, R> extends TableCommand<F, P, R> {
  /** Whether a finished run may be continued; else the file of its result marks its end. */
  readonly grows?: boolean;
  /** Permissions for programs and the network that the work still needs; default: none. */
  needs?(plan: P): readonly Permission[];
  /** Whether results hold all that the study does, which is then removed. */
  readonly dropsStudy?: boolean;
  work(plan: P, running: Running): Promise<R>;
  /** Number of finished units in the study, and the name of a unit. */
  kept(store: StudyStore): { readonly finished: number; readonly noun: string };
  /** The fault of a run that came to nothing, which ends with exit code 1. */
  findFailure?(result: R): string | undefined;
  /** Called when results are written, or could not be. @param place A line that names the report, if it is written. */
  ended?(plan: P, place: string | undefined): Promise<void>;
}

/** A command that resumes after an interruption. */
export function studyCommand<F, P extends Planned, R>(command: StudyCommand<F, P, R>): Command {
  const { name } = command;
  const main = async (args: readonly string[]): Promise<number> => {
    await using held = new AsyncDisposableStack();
    const before = { ...await readCommandLine(command, args), held }, { values, progress } = before;
    const flags = await command.read(before), table = readTable(values, command.columns(flags));
    const destination = readDestination(values, command.grows ? undefined : command.file),
      asked = { ...before, named: destination.named };
    const bundle = values.has("bundle")
      ? await (await import("./bundle/pack.ts")).openBundle(command, args, values)
      : undefined;
    const plan = await command.plan(flags, asked);
    // Listens before the first line is out: a reader of that line may stop the command.
    using interrupt = new Interrupt();
    using memory = new MemoryWatch();
    progress.line(plan.line);
    progress.start();
    using claimed = claimFolder(destination);
    const { folder } = claimed;
    using store = await openStudyIn(folder, name, plan.conditions, values);
    const kept = () => ({ name, args, folder, ...command.kept(store) });
    await interrupt.ready;
    releaseEnded(store);
    const needed = command.needs?.(plan) ?? [];
    await giveUp(...(["run", "net"] as const).filter((name) => !needed.includes(name)));
    try {
      const result = await command.work(plan, { ...asked, folder, store, interrupt, memory });
      const { saved, failure } = await saveResults(() => writeResult(command, folder, result, plan));
      const bundled = saved && await bundle?.close(folder, saved.names, store.conditions);
      const place = saved && [saved.place, ...bundled === undefined ? [] : [bundled]].join("\n");
      progress.clear();
      if (place !== undefined && command.dropsStudy) removeStudy(store);
      await command.ended?.(plan, place);
      await printResult(command, table, result, plan, place);
      const came = command.findFailure?.(result);
      if (came !== undefined) writeLine(Deno.stderr, came);
      if (failure === undefined) return came === undefined ? EXIT.ok : EXIT.failed;
      tellKept(failure, kept());
      return EXIT.usage;
    } catch (error) {
      progress.clear();
      return endEarly(error, interrupt, kept);
    }
  };
  return { ...command, main };
}
