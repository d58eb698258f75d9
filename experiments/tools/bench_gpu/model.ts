/** Races of a whole model on a GPU with llama.cpp: a prefill, and decode steps of one sequence. */
import { run } from "../../../ffi/build/command.ts";
import { BatchDecoder, type Model } from "../../../lib/model/mod.ts";
import type { Gpu } from "./device.ts";
import type { GpuBenchCase } from "./row.ts";

/** A model of a file, and what its file holds. */
export interface RacedModel {
  readonly model: Model;
  readonly name: string;
  readonly weights: { readonly values: number; readonly bytes: number };
  /** Tokens of a prefill, and of a decode. */
  readonly prefill: number;
  readonly decode: number;
}

/** A prefill and decode steps of the full model, with a cache of 16 bits as llama.cpp has one. */
export function modelCases({ backend }: Gpu, raced: RacedModel): GpuBenchCase[] {
  const { model, name, weights: { values, bytes }, prefill, decode } = raced;
  const { vocabSize } = model.config, cacheDType = "f16";
  const ids = Int32Array.from({ length: prefill }, (_, i) => (i * 37) % vocabSize);
  const expectFinite = (what: string, logits: ReturnType<typeof backend.read>) => {
    if (!(logits.data as Float32Array).every(Number.isFinite)) {
      throw new Error(`Cannot trust ${what}: found logits not finite`);
    }
  };
  const feed = () => {
    const sequence = model.start(undefined, { cacheDType }), hidden = sequence.feed(ids);
    return { hidden, [Symbol.dispose]: () => (backend.free(hidden), sequence.free()) };
  };
  const decoder = new BatchDecoder(model, undefined, { batch: 1, capacity: decode, cacheDType });
  let length = 0;
  const restart = () => {
    decoder.release(0);
    decoder.begin(0);
    length = 0;
  };
  const before = () => { // the slot begins again before it is full
    if (length === decode) restart();
  };
  const dtype = `${(8 * bytes / values).toFixed(1)} bits`; // a file mixes types
  const common = { impl: "tokenfilter", dtype, skip: 0, bytes };
  return [
    {
      ...common,
      op: "model_prefill",
      phase: "prefill",
      shape: `${name} T=${prefill}`,
      flops: 2 * prefill * values,
      run: () => feed()[Symbol.dispose](),
      verify() {
        using fed = feed();
        expectFinite("a prefill", backend.read(model.logits(fed.hidden)));
      },
    },
    {
      ...common,
      op: "model_decode",
      phase: "decode",
      shape: `${name} batch=1`,
      flops: 2 * values,
      before,
      run: () => {
        decoder.step();
        length++;
      },
      verify() {
        restart();
        length++;
        expectFinite("a decode step", backend.read(decoder.step(Int32Array.of(1))));
      },
    },
  ];
}

/** Times of llama.cpp on one model. */
export interface LlamaTimes {
  /** With its build. */
  readonly impl: string;
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** Standard deviations of the runs. */
  readonly spreads: readonly [prefill: number, decode: number];
}

/**
 * Times llama.cpp by its `llama-bench`, of `PATH` or `TOKENFILTER_LLAMA_BENCH`, all layers on the GPU.
 *
 * @param path A GGUF file.
 * @returns The times, or the reason why there are none.
 */
export async function timeLlama(path: string, prefill: number, decode: number): Promise<LlamaTimes | string> {
  const command = Deno.env.get("TOKENFILTER_LLAMA_BENCH") || "llama-bench";
  const args = ["-m", path, "-p", `${prefill}`, "-n", `${decode}`, "-ngl", "99", "-fa", "1", "-o", "json"];
  const { success, stdout, stderr } = await run(command, args);
  if (!success) return `${command} fails: ${stderr.trim().split("\n").at(-1)}`;
  type Test = Readonly<Record<"n_prompt" | "n_gen" | "avg_ns" | "stddev_ns" | "build_number", number>>;
  const tests = JSON.parse(stdout) as (Test & { readonly backends?: string })[];
  const [fed, made] = [tests.find(({ n_gen }) => n_gen === 0), tests.find(({ n_prompt }) => n_prompt === 0)];
  if (fed === undefined || made === undefined) return `${command} has no times of a prefill and of a decode`;
  if (!fed.backends?.includes("CUDA")) return `${command} is a build for ${fed.backends}, expected CUDA`;
  return {
    impl: `llama.cpp b${fed.build_number}`,
    prefillMs: fed.avg_ns / 1e6,
    decodeMs: made.avg_ns / decode / 1e6,
    spreads: [fed.stddev_ns / 1e6, made.stddev_ns / decode / 1e6],
  };
}
