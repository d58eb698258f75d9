/**
 * `deno task worker`: runs trials of a study that another process has begun. See `deno task worker --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import {
  binderOf,
  openStudy,
  runSweep,
  Search,
  StudyStore,
  StudyTrials,
  TrialRace,
} from "../../lib/sweep/mod.ts";
import { tryMethod } from "./cli/machine/retrieval.ts";
import { Interrupt } from "./cli/run/interrupt.ts";
import { parseOwnFlags, readInteger, valuesOf } from "./cli/flags/parse.ts";
import { Progress } from "./cli/output/progress.ts";
import { tellSilence } from "./cli/run/jobs.ts";
import { openStudyOf } from "./cli/run/study.ts";
import { expectSweep, hasEnded, ownerName } from "./cli/run/study_store.ts";
import { EXIT, runTask } from "./cli/task.ts";
import { loadWork, readQueue } from "./queue/load.ts";
import { workOnRecipe } from "./reproduce/work.ts";
import { pathOfStudy } from "./study/open.ts";

export const USAGE = `Usage: deno task worker --study FILE | --queue redis://HOST [flags]

Runs trials of a study, together with other workers, until none is left. The
study is the study.db in a folder of deno task sweep or reproduce, and defines
the trials. A worker that is killed loses its current trial, which another one
takes.

With --queue it takes trials of any study from a queue on Redis or Valkey, which
deno task sweep or reproduce --queue fills, on any machine. After Ctrl-C or
SIGTERM it ends its current trial and stops. Trials whose model, data or code
have another digest than here stay for other workers. A second signal ends it
at once.

A study and a queue are to be trusted like code: they name files that run here,
a rule or a task of --rule and --task-file, once their digests are as expected.

Examples:
  deno task worker --study results/mine/study.db
  deno task worker --study results/mine/study.db --threads 1
  deno task worker --queue redis://192.0.2.1:6379

  --study FILE   the study
  --queue URL    the queue: redis://[user@]host[:port][/database], rediss:// for TLS
  --queue-password-file F  its password (TOKENFILTER_QUEUE_PASSWORD, else none)
  --queue-prefix TEXT  prefix of its keys (tokenfilter)
  --patience N   seconds that the queue may be away (120)
  --lease N      seconds until the queue gives a silent worker's trial away (60)
  --model FILE   where the model is (where the study has it)
  --text FILE    where the text is (where the study has it)
  --data DIR     where the data are (where the study has them)
  --threads N    threads of the native code (all cores)
  --quiet        no progress on stderr
  --version      print the version
  --help         print this`;

/** Aborts when stdin ends, which happens when the worker's sweep has ended in any way. */
async function endsWithInput(controller: AbortController): Promise<void> {
  for await (const _ of Deno.stdin.readable);
  controller.abort();
}

const QUEUE_TEXTS = ["queue-prefix", "queue-password-file", "patience", "lease"] as const;
const TEXTS = ["study", "queue", ...QUEUE_TEXTS, "model", "text", "data", "threads"] as const;
type Flags = ReturnType<typeof parseOwnFlags<(typeof TEXTS)[number], "quiet" | "attached">>;

/** Reads the command line. @throws {UsageError} If it names no place to take trials from, or two. */
function readFlags(args: readonly string[]): Flags {
  const flags = parseOwnFlags(args, TEXTS, ["quiet", "attached"]);
  if ((flags.study === undefined) === (flags.queue === undefined)) {
    throw new UsageError("Cannot begin: expected --study FILE, or --queue redis://HOST (see --help)");
  }
  const queued = QUEUE_TEXTS.find((name) => flags[name] !== undefined);
  if (flags.queue === undefined && queued !== undefined) {
    throw new UsageError(`Cannot use --${queued} without --queue`);
  }
  if (flags.threads !== undefined) readInteger("threads", flags.threads, 1);
  return flags;
}

/** Flags that replace those of a study on this worker. */
type OwnFlags = { readonly [flag: string]: string };

/** Runs trials of a queue until a signal comes. @returns The exit code. */
async function workOnQueue(flags: Flags, own: OwnFlags, progress: Progress): Promise<number> {
  using interrupt = new Interrupt();
  const leaseS = readInteger("lease", flags.lease ?? "60", 2);
  const address = await readQueue(valuesOf(flags)), { workOnQueue } = await loadWork();
  await workOnQueue(address!, { own, leaseS, signal: interrupt.signal, progress });
  return EXIT.ok;
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const flags = readFlags(args);
  const progress = new Progress(flags.quiet || flags.attached ? undefined : Deno.stderr);
  const own = Object.fromEntries(
    (["model", "text", "data", "threads"] as const).flatMap((name) =>
      flags[name] === undefined ? [] : [[name, flags[name]]]
    ),
  );
  if (flags.queue !== undefined) return await workOnQueue(flags, own, progress);
  using store = StudyStore.open(pathOfStudy(flags.study!));
  const isRecipe = store.get("command") === "reproduce", ownFlags = { ...store.flags, jobs: "1", ...own };
  const study = isRecipe ? undefined : await openStudyOf(store.path, expectSweep(store), ownFlags, progress);
  const attached = new AbortController();
  if (flags.attached) void endsWithInput(attached);
  using interrupt = new Interrupt();
  const signal = AbortSignal.any([attached.signal, interrupt.signal]);
  progress.start();
  await interrupt.ready;
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
      owner: ownerName(),
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

if (import.meta.main) await runTask(main, USAGE);
