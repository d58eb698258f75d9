/**
 * `deno task worker`: runs trials of a study that another process has begun. See `deno task worker --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { binderOf, openStudy } from "../../lib/sweep/study.ts";
import { runSweep } from "../../lib/sweep/trials/runner.ts";
import { Search } from "../../lib/sweep/trials/search.ts";
import { StudyStore } from "../../lib/sweep/trials/store.ts";
import { TrialRace } from "../../lib/sweep/trials/trial_race.ts";
import { StudyTrials } from "../../lib/sweep/trials/trial_source.ts";
import { tryMethod } from "./cli/machine/retrieval.ts";
import { Interrupt } from "./cli/run/interrupt.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { integer, onOff, pick, rarely, text, under } from "./cli/flags/flag.ts";
import { MODEL, QUEUE, QUIET } from "./cli/flags/flags.ts";
import { type FlagValues, textOf } from "./cli/flags/parse.ts";
import { readCount } from "./cli/flags/text.ts";
import { Progress } from "./cli/output/progress.ts";
import { tellSilence } from "./cli/run/jobs.ts";
import { openStudyOf } from "./cli/run/study.ts";
import { expectSweep, hasEnded, ownerName, releaseEnded } from "./cli/run/study_store.ts";
import { EXIT, giveUp, runCommand } from "./cli/task.ts";
import { loadWork, readQueue } from "./queue/load.ts";
import { workOnRecipe } from "./reproduce/work.ts";
import { type Asked, plainCommand } from "./run.ts";
import { pathOfStudy } from "./study/open.ts";

/** Default seconds until a silent worker's trial waits again. */
const LEASE_S = 60;

/** Aborts when stdin ends, which happens when the worker's sweep has ended in any way. */
async function endsWithInput(controller: AbortController): Promise<void> {
  for await (const _ of Deno.stdin.readable);
  controller.abort();
}

/** Flags of a queue alone. */
const OF_QUEUE = [...Object.keys(QUEUE), "lease"].filter((name) => name !== "queue");
/** Flags that replace those of a study. */
const OWN = ["model", "text", "data", "threads"];

/** Reads the command line. @throws {UsageError} If it names no place to take trials from, or two. */
function readFlags({ values }: Asked) {
  if (values.has("study") === values.has("queue")) {
    throw new UsageError("Cannot begin: expected --study FILE, or --queue redis://HOST (see --help)");
  }
  const queued = OF_QUEUE.find((name) => values.has(name));
  if (!values.has("queue") && queued !== undefined) {
    throw new UsageError(`Cannot use --${queued} without --queue`);
  }
  readCount(values, "threads", 1);
  return Object.fromEntries(
    OWN.flatMap((name) => values.has(name) ? [[name, String(values.get(name)![0])]] : []),
  );
}

/** Flags that replace those of a study on this worker. */
type OwnFlags = { readonly [flag: string]: string };

/** Runs trials of a queue until a signal comes. @returns The exit code. */
async function workOnQueue(values: FlagValues, own: OwnFlags, progress: Progress): Promise<number> {
  using interrupt = new Interrupt();
  const leaseS = readCount(values, "lease", 2) ?? LEASE_S;
  const address = await readQueue(values), { workOnQueue } = await loadWork();
  await workOnQueue(address!, { own, leaseS, signal: interrupt.signal, progress });
  return EXIT.ok;
}

/** Runs trials until none is left. @returns The exit code. */
async function work(own: OwnFlags, asked: Asked): Promise<number> {
  const { values } = asked, isAttached = values.has("attached");
  const progress = isAttached ? new Progress(undefined) : asked.progress;
  if (values.has("queue")) return await workOnQueue(values, own, progress);
  using store = StudyStore.open(pathOfStudy(textOf(values, "study")!));
  const isRecipe = store.get("command") === "reproduce", ownFlags = { ...store.flags, jobs: "1", ...own };
  const study = isRecipe ? undefined : await openStudyOf(store.path, expectSweep(store), ownFlags, progress);
  const attached = new AbortController();
  if (isAttached) void endsWithInput(attached);
  using interrupt = new Interrupt();
  const signal = AbortSignal.any([attached.signal, interrupt.signal]);
  progress.start();
  await interrupt.ready;
  const owner = ownerName();
  releaseEnded(store);
  if (study !== undefined) await giveUp("run", "net");
  try {
    if (study === undefined) {
      await workOnRecipe(store, own, { signal, progress });
      progress.clear();
      return EXIT.ok;
    }
    const { config } = study.model, asked = store.get("search"), race = store.get("race");
    const search = asked && new Search(asked, (method) => void tryMethod(config, method));
    const onSilence = tellSilence(progress);
    const source = new StudyTrials(store, {
      owner,
      isDead: hasEnded,
      ...(search && { search }),
    });
    if (source.isOver()) return EXIT.ok;
    await runSweep({
      ...{
        source,
        evaluation: openStudy(study),
        createPruner: binderOf(study),
        conditions: expectSweep(store),
      },
      ...(race && { race: new TrialRace(race.kind, race.seed) }),
      signal,
      onSilence,
      onProgress: ({ fraction, done, total }) => progress.step(fraction, `${done}/${total} trials`),
    });
    progress.clear();
    return EXIT.ok;
  } catch (error) {
    progress.clear();
    if (!signal.aborted || error !== signal.reason) throw error;
    return attached.signal.aborted ? EXIT.ok : interrupt.code;
  }
}

export const command = plainCommand({
  name: "worker",
  summary: "Runs trials of a study, together with other workers, until none is left.",
  usage: "--study FILE | --queue redis://HOST [flags]",
  about: `The study is the study.db in a folder of results, and defines the trials. A worker that is killed
loses its current trial, which another one takes.

With --queue it takes trials of any study from a queue on Redis or Valkey, on any machine. After Ctrl-C or
SIGTERM it ends its current trial and stops. Trials whose model, data or code have another digest than here
stay for other workers. A second signal ends it at once.

A study and a queue are to be trusted like code: they name files that run here, a rule or a task, once their
digests are as expected.`,
  examples: [
    "--study results/mine/study.db",
    "--study results/mine/study.db --threads 1",
    "--queue redis://192.0.2.1:6379",
  ],
  flags: {
    ...rarely({
      ...QUEUE,
      lease: integer(`seconds until the queue gives a silent worker's trial away (${LEASE_S})`),
    }),
    ...under("What runs", {
      study: text("FILE", "the study"),
      queue: QUEUE.queue,
      model: text("FILE", "where the model is (where the study has it)"),
      text: text("FILE", "where the text is (where the study has it)"),
      data: text("DIR", "where the data are (where the study has them)"),
    }),
    ...pick(MODEL, "threads"),
    ...QUIET,
    ...rarely({ attached: onOff("end when stdin ends, as the command that started it does") }),
  },
  permissions: `${RUNS_MODEL},hostname`,
  v8: "--max-semi-space-size=4",
  read: readFlags,
  work,
});

if (import.meta.main) await runCommand(command);
