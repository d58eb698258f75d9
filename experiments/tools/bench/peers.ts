/** A model end to end next to llama.cpp and PyTorch: engines take turns on the same ids, and must agree on their losses. */
import { UsageError } from "../../../lib/errors.ts";
import { mean } from "../../../lib/math/mean.ts";
import type { Pruner } from "../../../lib/methods/mod.ts";
import { locateModel, locatePath, type Model } from "../../../lib/model/mod.ts";
import type { PeerRow } from "../../../lib/plot/mod.ts";
import { hostTensor, rowsOf } from "../../../lib/tensor.ts";
import type { Backend } from "../../../lib/backend.ts";
import { isFolder } from "../../commands/cli/files.ts";
import type { Progress } from "../../commands/cli/output/progress.ts";
import { bindMethods, DECODES, type LengthPlan, openRaced, readIds } from "./lengths.ts";
import { startPython } from "./python.ts";
import { median } from "./run.ts";

/** Default lengths. */
export const PEER_LENGTHS: readonly number[] = [128, 512, 2048, 4096, 16384];

/** Other engines, with the Python packages that each needs. */
const ENGINES = { "llama.cpp": "llama_cpp (llama-cpp-python)", "PyTorch": "torch and transformers" } as const;

/** Largest difference of an engine's losses from ours, in nats per token: 4-bit weights times 8-bit states differ. */
const TOLERANCE = 0.2;

/** One run: a prefill, and tokens after it one by one. */
interface PeerRun {
  readonly prefillMs: number;
  /** One per token. */
  readonly decodeMs: readonly number[];
  /** -ln p of each id after the prefill, nats. */
  readonly losses: readonly number[];
}

/** An engine that runs a model. */
export interface PeerEngine {
  /** The engine, with its version. */
  readonly engine: string;
  /** The method that decides whose attention is skipped; `dense`: none. */
  readonly method: string;
  /** Prefills the first `tokens` of the ids, and feeds the others but the last one by one. */
  run(ids: Int32Array<ArrayBuffer>, tokens: number): PeerRun | Promise<PeerRun>;
  /** Ends it. */
  close?(): Promise<void>;
}

/** The file or folder that another engine reads, and how it runs. */
interface PeerPlan {
  readonly path: string;
  readonly device: "cpu" | "cuda";
  readonly threads: number;
  /** Tokens of the longest run. */
  readonly positions: number;
}

/** Starts another engine on a model. @returns It, or the reason why it is not there. */
export async function startPeer(
  engine: keyof typeof ENGINES,
  { path, device, threads, positions }: PeerPlan,
  python?: string,
): Promise<PeerEngine | string> {
  const args = [engine, path, device, `${threads}`, `${positions}`];
  type Answer = PeerRun & { readonly name: string; readonly error?: string };
  const process = await startPython<Answer>("peers.py", args, ENGINES[engine], python);
  if (typeof process === "string") return process;
  return {
    engine: process.hello.name,
    method: "dense",
    run: (ids, tokens) => process.ask({ ids: [...ids], tokens }),
    close: process.close,
  };
}

/** This project's model as an engine. */
export function ownEngine(model: Model, method: string, pruner?: Pruner): PeerEngine {
  const { backend } = model;
  return {
    engine: "tokenfilter",
    method,
    run(ids, tokens) {
      const sequence = model.start(pruner), losses: number[] = [], times: number[] = [];
      for (let at = 0; at < ids.length - 1;) {
        const end = at === 0 ? tokens : at + 1, begin = performance.now();
        const hidden = sequence.feed(ids.slice(at, end));
        const last = backend.upload(rowsOf(backend.read(hidden), end - at - 1, end - at));
        const logits = model.logits(last),
          target = backend.upload(hostTensor("i32", [1], ids.slice(end, end + 1)));
        backend.read(logits);
        times.push(performance.now() - begin);
        losses.push(...backend.nll(logits, target));
        for (const tensor of [hidden, last, logits, target]) backend.free(tensor);
        at = end;
      }
      sequence.free();
      return { prefillMs: times[0]!, decodeMs: times.slice(1), losses };
    },
  };
}

/**
 * Lets engines take turns at each length. Each runs the shortest length once before, without counting it.
 *
 * @param engines The first one is the reference for the losses and times of the others.
 * @throws {Error} If a dense engine's losses are not the first one's: it computes something else.
 */
export async function racePeers(
  engines: readonly PeerEngine[],
  ids: Int32Array<ArrayBuffer>,
  lengths: readonly number[],
  { turns, onProgress }: { readonly turns: number; readonly onProgress?: (fraction: number) => void },
): Promise<PeerRow[]> {
  const ascending = [...new Set(lengths)].sort((a, b) => a - b), rows: PeerRow[] = [];
  const run = (engine: PeerEngine, tokens: number) => engine.run(ids.slice(0, tokens + DECODES), tokens);
  for (const engine of engines) await run(engine, ascending[0]!);
  const total = turns * engines.length * ascending.reduce((sum, length) => sum + length, 0);
  let done = 0;
  for (const tokens of ascending) {
    const runs = engines.map((): PeerRun[] => []);
    for (let turn = 0; turn < turns; turn++) {
      for (const [i, engine] of engines.entries()) {
        runs[i]!.push(await run(engine, tokens));
        onProgress?.((done += tokens) / total);
      }
    }
    const truth = mean(runs[0]![0]!.losses);
    for (const [i, { engine, method }] of engines.entries()) {
      const found = mean(runs[i]![0]!.losses);
      if (method === "dense" && !(Math.abs(found - truth) <= TOLERANCE)) {
        throw new Error(
          `Cannot trust ${engine}: found a loss of ${found.toFixed(3)} nats per token behind ${tokens}, ` +
            `expected ${truth.toFixed(3)} within ${TOLERANCE}`,
        );
      }
      const prefillMs = median(runs[i]!.map(({ prefillMs }) => prefillMs));
      rows.push({
        engine,
        method,
        tokens,
        prefillMs,
        decodeMs: median(runs[i]!.flatMap((run) => run.decodeMs)),
      });
    }
  }
  return rows;
}

/** Races a model, dense and with the presets, against the engines that are there. @throws {UsageError} If none is. */
export async function measurePeers(
  backend: Backend,
  progress: Progress,
  plan: Omit<LengthPlan, "dtype"> & { readonly threads: number; readonly turns: number },
  start = startPeer,
): Promise<PeerRow[]> {
  const { model: name, lengths, threads, turns } = plan, loaded = await openRaced(plan, backend);
  const ids = await readIds(loaded.tokenizer, plan), named = await locatePath(name, {});
  const path = isFolder(named) ? named : (await locateModel(name, {})).path;
  const device = backend.name === "cuda" ? "cuda" : "cpu", peers: PeerEngine[] = [];
  try {
    for (const engine of Object.keys(ENGINES) as (keyof typeof ENGINES)[]) {
      const peer = await start(engine, { path, device, threads, positions: ids.length });
      if (typeof peer === "string") progress.line(`no ${engine} to compare with: ${peer}`);
      else peers.push(peer);
    }
    if (peers.length === 0) {
      const install = "pip install llama-cpp-python, or torch transformers";
      throw new UsageError(`Cannot race: found no other engine (${install})`);
    }
    const own = bindMethods(loaded).map(({ name, pruner }) => ownEngine(loaded.model, name, pruner));
    const others = peers.map(({ engine }) => engine).join(" and ");
    progress.line(`${name} at ${lengths.join(", ")} tokens, compared with ${others}`);
    progress.start();
    const onProgress = (fraction: number) => progress.bar(fraction, "engines");
    return await racePeers([own[0]!, ...peers, ...own.slice(1)], ids, lengths, { turns, onProgress });
  } finally {
    progress.clear();
    for (const peer of peers) await peer.close!();
  }
}
