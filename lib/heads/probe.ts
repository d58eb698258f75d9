/** Observes every attention block of a dense run: the filter's input, and the attention's output. */
import type { Backend } from "../backend.ts";
import {
  definePruner,
  type LayerView,
  type Need,
  type Outcomes,
  type Pruner,
} from "../methods/protocol/pruner.ts";
import { hostTensor, type Tensor } from "../tensor.ts";

/** T consecutive tokens of one sequence in one layer. */
export interface ProbedRows
  extends
    Required<Pick<LayerView, "values" | "residual" | "normed">>,
    Pick<LayerView, "layer" | "count" | "queries" | "tokens">,
    Outcomes {
  /** Position of the first token in its sequence. */
  readonly start: number;
  /** Keys by their form, before and after rotary embedding, [T, numKvHeads, headDim] f32. */
  readonly keys: { readonly "post-rope": Tensor; readonly "pre-rope": Tensor };
}

interface ProbeOptions {
  readonly layers: readonly number[];
  /** The table for `Backend.rope` in a layer. */
  readonly turnsOf: (layer: number) => Tensor | undefined;
  readonly wantsQueries: boolean;
  /** Whether a sequence is to come as one piece. */
  readonly whole: boolean;
  /** Called with each piece of each layer, in order; its tensors last until it returns. */
  readonly onRows: (rows: ProbedRows) => void;
}

/**
 * A method that skips nothing and shows rows of layers.
 *
 * @throws {RangeError} If a sequence is forked.
 */
export function createProbe(backend: Backend, options: ProbeOptions): Pruner {
  const { layers, turnsOf, wantsQueries, whole, onRows } = options;
  const needs: readonly Need[] = ["pre-rope keys", "outputs", ...wantsQueries ? ["queries" as const] : []];
  return definePruner({
    name: "probe",
    layers,
    needs,
    at: whole ? "prefill" : "arrival",
    start() {
      const seen = new Map<number, number>();
      let view: LayerView | undefined;
      return {
        decide(next) {
          view = next;
          return { keep: new Uint8Array(next.count).fill(1) };
        },
        observe(layer, { outputNorms, residualNorms }) {
          const { count, keys, values, residual, normed, queries, tokens } = view!;
          const start = seen.get(layer) ?? 0;
          seen.set(layer, start + count);
          const rotated = backend.resizeRows(keys, count);
          const positions = backend.upload(
            hostTensor("i32", [count], Int32Array.from({ length: count }, (_, i) => start + i)),
          );
          const turns = turnsOf(layer);
          if (turns !== undefined) backend.rope(rotated, positions, turns);
          backend.free(positions);
          onRows({
            layer,
            start,
            count,
            tokens,
            keys: { "pre-rope": keys, "post-rope": rotated },
            values,
            residual: residual!,
            normed: normed!,
            ...(queries && { queries }),
            outputNorms,
            residualNorms,
          });
          backend.free(rotated);
        },
        fork(): never {
          throw new RangeError("Cannot branch a sequence that is being looked at: expected one run");
        },
      };
    },
  });
}
