/** Runs of the full model and of methods on one task, chunk by chunk in turns, and the progress of all of them. */
import type {
  ChunkRecord,
  DenseTaskResult,
  Evaluation,
  Filter,
  RunControl,
  TaskTypes,
} from "../../eval/task.ts";
import type { ResolvedOptions } from "../../methods/bind/options.ts";
import { type Retained, retainedOf } from "../budgets.ts";
import { digestTrialOptions } from "../trials/digest.ts";
import type { FinishedRuns } from "../trials/store_records.ts";
import type { NamedMethod } from "./compared_methods.ts";
import type { Budgeted, Match } from "./match.ts";
import type { MethodRun } from "./measured.ts";

/** The trial of the full model in a log, and its name. */
export const DENSE = "dense";

/** A finished chunk of the full model, or of one method and seed. */
export interface ComparedChunk extends ChunkRecord {
  /** Short digest of the options that have an effect, as of a trial; `dense`. */
  readonly trial: string;
  readonly method: string;
}

/** @internal What is run, and how. */
export interface RunArguments<T extends TaskTypes = TaskTypes> {
  /** Methods; those of one name are seeds of one. */
  readonly methods: readonly NamedMethod[];
  /** A task on model and data; the environment names the task. */
  readonly evaluation: Evaluation<T>;
  /** @throws {RangeError} If the model cannot have the method. */
  readonly createPruner: (method: ResolvedOptions) => Filter;
  /** The budget that methods are matched on; default: none, each runs at its given ratio. */
  readonly match?: Match;
  /** The retained fraction that all methods are given instead. */
  readonly budgeted?: Budgeted;
  /** Where chunks go as they end, and where finished ones are found; default: nowhere. */
  readonly log?: FinishedRuns<ComparedChunk>;
  readonly signal?: AbortSignal;
  /** Called at first, with `dense`, and after every chunk: the finished fraction of this call's work, and chunks of how many. */
  readonly onProgress?: (fraction: number, label: string) => void;
}

/** What tells two runs apart. */
type RunKey = string | ResolvedOptions;

/** Metrics of each scored unit by name. */
type UnitMetrics = { [name: string]: number[] };

/** The full model's run. */
export interface DenseRun {
  readonly result: DenseTaskResult;
  /** Losses of the scored units, one array for each chunk. */
  readonly chunks: readonly Float64Array[];
  readonly metrics: UnitMetrics;
}

/** Runs of methods on one task. A run that was asked for twice is made once, where ratios are searched. */
export class MethodRuns<T extends TaskTypes> {
  readonly #args: RunArguments<T>;
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;
  /** Chunks of the log by trial. */
  readonly #logged: ReadonlyMap<string, readonly ComparedChunk[]>;
  readonly #runs = new Map<RunKey, Promise<MethodRun>>();
  readonly #started = new Set<RunKey>();
  /** Runs that are to be made, as far as is known. */
  #expected: Set<RunKey>;
  #doneChunks = 0;
  #furthest = 0;
  /** Name of what progress counts. */
  readonly #counted: string;

  constructor(args: RunArguments<T>, counted: string) {
    this.#args = args;
    this.#counted = counted;
    this.#signal = AbortSignal.any([this.#failed.signal, ...args.signal ? [args.signal] : []]);
    this.#logged = Map.groupBy(args.log?.finished ?? [], ({ trial }) => trial);
    this.#expected = this.#openRuns(args.methods);
  }

  /** Runs the full model. */
  async runDense(): Promise<DenseRun> {
    const chunks: Float64Array[] = [], metrics: UnitMetrics = {};
    this.#args.onProgress?.(0, DENSE);
    const result = await this.#args.evaluation.dense({
      ...this.#control(DENSE, DENSE),
      onLosses: (_chunk, losses, _dense, others) => {
        chunks.push(losses);
        appendAll(metrics, others);
      },
    });
    return { result, chunks, metrics };
  }

  /** Runs a method. */
  async run(method: NamedMethod, filter = this.#args.createPruner(method.options)): Promise<MethodRun> {
    return await this.#runs.getOrInsertComputed(
      this.#keyOf(method),
      (key) => this.#runOnce(key, method, filter),
    );
  }

  /** What a method retains of the full model's work; undefined where the model cannot have it. */
  async measureRetained(method: NamedMethod): Promise<Retained | undefined> {
    const filter = bindAt(() => this.#args.createPruner(method.options));
    return filter && (await this.run(method, filter)).retained;
  }

  /** Runs all methods of each group. */
  async runGroups(groups: readonly (readonly NamedMethod[])[]): Promise<MethodRun[][]> {
    this.#expected = this.#started.union(this.#openRuns(groups.flat()));
    return await this.takeTurns(
      groups.map(async (methods) => await Promise.all(methods.map((method) => this.run(method)))),
    );
  }

  /**
   * Waits for all runs. Methods take turns chunk by chunk: the full model's logits of a chunk are then at hand for all
   * of them. If one fails, all end.
   */
  async takeTurns<V>(runs: readonly Promise<V>[]): Promise<V[]> {
    for (const run of runs) run.catch((error) => this.#failed.abort(error));
    await Promise.allSettled(runs);
    this.#signal.throwIfAborted();
    return await Promise.all(runs);
  }

  async #runOnce(key: RunKey, method: NamedMethod, filter: Filter): Promise<MethodRun> {
    const trial = digestTrialOptions(method.options), losses: number[] = [], metrics: UnitMetrics = {};
    const { onChunk, ...control } = this.#control(trial, method.name), isOpen = this.#isOpen(trial);
    if (isOpen) {
      this.#expected.add(key);
      this.#started.add(key);
    }
    const result = await this.#args.evaluation.run(filter, {
      ...control,
      ...(isOpen && { onChunk }),
      onLosses: (_chunk, chunkLosses, _dense, others) => {
        losses.push(...chunkLosses);
        appendAll(metrics, others);
      },
    });
    return { ...result, retained: retainedOf(result), losses, metrics };
  }

  #control(trial: string, name: string): RunControl {
    const { log, onProgress } = this.#args;
    return {
      signal: this.#signal,
      finished: new Map(this.#logged.get(trial)?.map((record) => [record.chunk, record])),
      onChunk: (_chunk, of) => {
        const all = of * (1 + this.#expected.size);
        this.#furthest = Math.max(this.#furthest, Math.min(1, ++this.#doneChunks / all));
        onProgress?.(this.#furthest, `${this.#doneChunks}/${all} ${this.#counted}`);
      },
      onRecord: (record) => log?.append({ trial, method: name, ...record }),
    };
  }

  /** Where ratios are searched, the same run is asked for twice. Otherwise a caller may tell equal options apart. */
  #keyOf({ options }: NamedMethod): RunKey {
    return this.#args.match || this.#args.budgeted ? digestTrialOptions(options) : options;
  }

  #openRuns(methods: readonly NamedMethod[]): Set<RunKey> {
    const open = methods.filter(({ options }) => this.#isOpen(digestTrialOptions(options)));
    return new Set(open.map((method) => this.#keyOf(method)));
  }

  /** Whether the log lacks chunks of a trial that it has of the full model. */
  #isOpen(trial: string): boolean {
    const chunks = (of: string) => this.#logged.get(of)?.length ?? 0;
    return chunks(DENSE) === 0 || chunks(trial) < chunks(DENSE);
  }
}

function appendAll(metrics: UnitMetrics, values: { readonly [name: string]: ArrayLike<number> }): void {
  for (const [name, added] of Object.entries(values)) (metrics[name] ??= []).push(...Array.from(added));
}

/** A method bound to the model; undefined where it cannot be. */
export function bindAt<F extends Filter>(create: () => F): F | undefined {
  try {
    return create();
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
