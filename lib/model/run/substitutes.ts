/** What a layer adds to the residual stream for kept and skipped tokens: which queries that takes, and the addition. */
import type { Backend } from "../../backend.ts";
import { firstOutcome } from "../../filter/outcome.ts";
import type { Substitute } from "../../methods/protocol/pruner.ts";
import { f32Data, hostTensor, type Tensor } from "../../tensor.ts";
import type { Addend, ForwardPass } from "./forward_pass.ts";
import type { OutputMemory } from "./cache/output_memory.ts";
import { indicesOf, merged, range, type Rows } from "./cache/row_indices.ts";

/** Consecutive rows of a layer's input that are decided together. */
export interface Piece {
  readonly start: number;
  /** 1 = attention is computed, 0 = it is skipped. */
  readonly keep: Uint8Array<ArrayBuffer>;
  /** The rows that are kept. */
  readonly kept: Rows;
  /** Position of the layer's first row. */
  readonly first: number;
}

/** Queries of a piece that are computed, R rows of the layer's input, ascending. */
export interface QueryRows {
  /** A row that is computed fully and locally comes twice, full first. */
  readonly rows: Rows;
  /** Places of the full queries among them, one for each kept row. */
  readonly full: Rows;
  /** Places of local queries next to the last of the full ones; empty where no outputs are compared. */
  readonly compared: Rows;
  /** Places of the rows whose outputs are added, where these are not all. */
  readonly added?: Rows;
  /** Where some are local: the window of each, negative for a full one, and how many first tokens they see. */
  readonly limits?: { readonly windows: Int32Array<ArrayBuffer>; readonly sinks: number };
}

/** The residual stream of a layer, T rows, and the pass that runs it. */
export interface Stream {
  readonly backend: Backend;
  readonly pass: ForwardPass;
  /** [T, hiddenSize] f32. */
  readonly residual: Tensor;
}

/** Outputs of a piece, before they are added. */
export interface Outcome {
  /** norm(o) of the kept rows, or how far o is from its substitute, [kept rows] f64. */
  norms(): Float64Array<ArrayBuffer>;
  /** Adds outputs and substitutes to the residual stream. @returns An addition that is left to do. */
  add(): Addend | undefined;
}

/** How skipped outputs are replaced. */
export interface SubstituteStrategy {
  /** Queries to compute. @param compares Whether the method learns from the distance of outputs to substitutes. */
  select(piece: Piece, compares: boolean): QueryRows;
  /** What follows from the outputs of those queries, [R, hiddenSize] f32; undefined where R = 0. */
  settle(stream: Stream, piece: Piece, queries: QueryRows, output: Tensor | undefined): Outcome;
}

/** The strategy of a substitute. @param memory That of the substitutes `mean` and `last`. */
export function strategyOf(
  substitute: Substitute | undefined,
  recent: number,
  memory: OutputMemory | undefined,
): SubstituteStrategy {
  if (memory !== undefined) return replaceFrom(memory);
  return substitute?.kind === "local" ? replaceLocally(substitute, recent) : REPLACE_NONE;
}

const NO_ROWS = range(0, 0);
const selectKept = ({ kept }: Piece): QueryRows => ({
  rows: kept,
  full: range(0, kept.length),
  compared: NO_ROWS,
});

/** Skipped tokens get nothing. */
const REPLACE_NONE: SubstituteStrategy = {
  select: selectKept,
  settle: (stream, _, { rows }, output) => ({
    norms: () => stream.backend.rowNorms(output!),
    add: () => output && addRows(stream, rows, output),
  }),
};

/** Skipped tokens get what computed outputs before them led to. */
function replaceFrom(memory: OutputMemory): SubstituteStrategy {
  return {
    select: selectKept,
    settle({ backend, pass, residual }, { start, keep, first }, { rows }, output) {
      const outputs = output === undefined ? new Float32Array(0) : f32Data(backend.read(output)).slice();
      const { substitutes, errors } = memory.take(first + start, keep, outputs);
      const add = () => {
        if (output !== undefined && rows.length === residual.shape[0]) backend.add(residual, output);
        else if (output !== undefined) backend.scatterAddRows(residual, pass.i32(rows), output);
        const skips = indicesOf(keep, 0, start);
        if (skips.length === 0) return undefined;
        const replaced = hostTensor("f32", [skips.length, residual.shape[1]!], substitutes);
        backend.scatterAddRows(residual, pass.i32(skips), backend.upload(replaced));
        return undefined;
      };
      return { norms: () => errors, add };
    },
  };
}

/** Skipped tokens get attention over the first tokens and the last ones. */
function replaceLocally({ sinks }: Substitute, recent: number): SubstituteStrategy {
  const firstCompared = firstOutcome({ substitute: "local", sinks, recent });
  const limit = (count: number, full: Rows): Pick<QueryRows, "limits"> => {
    if (count === full.length) return {};
    const windows = new Int32Array(count).fill(recent);
    for (const place of full) windows[place] = -1;
    return { limits: { windows, sinks } };
  };
  return {
    select({ start, keep, kept, first }, compares) {
      const rows = range(start, keep.length), full = indicesOf(keep, 1, 0);
      if (!compares) return { rows, full, compared: NO_ROWS, ...limit(rows.length, full) };
      // Full rows that the method learns from are computed once more, as if they were local.
      const { all, ofFirst, ofSecond } = merged(rows, kept.filter((row) => first + row >= firstCompared));
      const places = full.map((row) => ofFirst[row]!);
      return { rows: all, full: places, compared: ofSecond, added: ofFirst, ...limit(all.length, places) };
    },
    settle(stream, { start, keep }, { full, compared, added }, output) {
      const { backend, pass } = stream, width = output!.shape[1]!;
      return {
        norms: () =>
          added === undefined
            ? backend.rowNorms(output!)
            : distances(f32Data(backend.read(output!)), width, full, compared),
        add: () => {
          const outputs = added === undefined ? output! : pass.gather("addedOutputs", output!, added);
          return addRows(stream, range(start, keep.length), outputs);
        },
      };
    },
  };
}

/** Adds outputs to rows of the residual stream. @returns The addition, where these are all rows: it is left to do. */
function addRows({ backend, pass, residual }: Stream, rows: Rows, output: Tensor): Addend | undefined {
  if (rows.length === residual.shape[0]) return { delta: output };
  backend.scatterAddRows(residual, pass.i32(rows), output);
  return undefined;
}

/** How far full outputs are from local ones of the last of these rows; 0 of rows whose outcome does not count. */
function distances(
  outputs: Float32Array,
  columns: number,
  full: Rows,
  local: Rows,
): Float64Array<ArrayBuffer> {
  const errors = new Float64Array(full.length), uncounted = full.length - local.length;
  for (let i = 0; i < local.length; i++) {
    const at = full[uncounted + i]! * columns, from = local[i]! * columns;
    let sum = 0;
    for (let a = 0; a < columns; a++) sum += (outputs[at + a]! - outputs[from + a]!) ** 2;
    errors[uncounted + i] = Math.sqrt(sum);
  }
  return errors;
}
