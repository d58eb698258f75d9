/** Several sequences fed at once: weights are read once for the tokens of all, whatever each one's method does. */
import { expectIds, type Tensor } from "../../../tensor.ts";
import { expectInstance } from "../../../errors.ts";
import { createForwardPass } from "../../architectures/mod.ts";
import {
  type Addend,
  asMatrix,
  type ForwardPass,
  type LayerRows,
  type RunModel,
  type Tokens,
} from "../forward_pass.ts";
import { range, type Rows } from "../cache/row_indices.ts";
import { ModelSequence, type PieceTokens } from "../sequence.ts";

/** @internal The next tokens of a sequence. */
export interface SequenceFeed {
  /** The sequence, of the model that is asked; each at most once. */
  readonly sequence: ModelSequence;
  /** Its next ids, at least one. */
  readonly ids: Int32Array<ArrayBuffer>;
}

/** Rows [from, from + count) of the layers' input: the next tokens of one sequence. */
interface Piece {
  readonly from: number;
  readonly count: number;
  readonly tokens: PieceTokens;
}

/**
 * @param joinsOutputs Whether the products of attention's outputs are taken together too, of sequences with one token
 * each.
 * @returns The final hidden states, [rows of all feeds, hiddenSize] f32.
 * @throws {RangeError} If a sequence comes twice, has no token, or cannot go on.
 */
export function feedTogether(model: RunModel, feeds: readonly SequenceFeed[], joinsOutputs = false): Tensor {
  const { backend, config } = model;
  expectInstance("feeds", feeds, Array);
  for (const { sequence, ids } of feeds) {
    expectInstance("sequence", sequence, ModelSequence);
    expectInstance("ids", ids, Int32Array);
  }
  if (new Set(feeds.map(({ sequence }) => sequence)).size < feeds.length) {
    throw new RangeError("Cannot feed sequences together: found one of them twice, expected each once");
  }
  for (const { sequence, ids } of feeds) {
    sequence.expectNext(model, ids.length);
    // All ids are checked before any sequence is fed, because sequences that are not joined are fed one after the
    // other.
    expectIds(ids, config.vocabSize);
  }
  const starts: number[] = [];
  const total = feeds.reduce((at, { ids }) => (starts.push(at), at + ids.length), 0);
  const isJoined = ({ sequence }: SequenceFeed) => sequence.joins(model);
  if (feeds.every(isJoined)) return feedJoined(model, feeds, joinsOutputs);
  // Sequences of a model that a method has altered have other weights, and an observer must get the rows of one
  // sequence only.
  const out = backend.alloc("f32", [total, config.hiddenSize], true);
  const place = (hidden: Tensor, own: readonly SequenceFeed[]) => {
    const pass = createForwardPass(model);
    let from = 0;
    for (const feed of own) {
      const { length: count } = feed.ids;
      backend.storeRows(pass.gather("own", hidden, range(from, count)), out, starts[feeds.indexOf(feed)]!);
      from += count;
    }
    pass.free();
    backend.free(hidden);
  };
  const joined = feeds.filter(isJoined);
  if (joined.length > 0) place(feedJoined(model, joined, joinsOutputs), joined);
  for (const feed of feeds) if (!isJoined(feed)) place(feed.sequence.feed(feed.ids), [feed]);
  return out;
}

/** The same of sequences that all have the model's own weights. */
function feedJoined(model: RunModel, feeds: readonly SequenceFeed[], joinsOutputs: boolean): Tensor {
  const { backend, config } = model, pass = createForwardPass(model);
  const x = model.embed(Int32Array.from(feeds.flatMap(({ ids }) => [...ids])));
  for (const { sequence, ids } of feeds) sequence.note(ids);
  const ends: number[] = [];
  for (const { ids } of feeds) ends.push((ends.at(-1) ?? 0) + ids.length);
  const left = feeds.map(({ ids }) => ids.length);
  // A method may require that its warm-up has passed all layers first: then its sequence comes in two rounds.
  while (left.some((count) => count > 0)) {
    const sources: { sequence: ModelSequence; rows: Rows }[] = [], pieces: Piece[] = [];
    let from = 0;
    feeds.forEach(({ sequence }, i) => {
      if (left[i] === 0) return;
      const count = sequence.nextPiece(left[i]!), rows = range(ends[i]! - left[i]!, count);
      sources.push({ sequence, rows });
      pieces.push({ from, count, tokens: sequence.begin(count) });
      from += count;
      left[i]! -= count;
    });
    const isWhole = from === x.shape[0];
    const chosen = Int32Array.from(sources.flatMap(({ rows }) => [...rows]));
    const rows = isWhole ? x : pass.gather("pieces", x, chosen);
    for (let layer = 0; layer < config.numLayers; layer++) {
      runLayer(model, pass, rows, layer, pieces, joinsOutputs);
    }
    sources.forEach(({ sequence, rows: { 0: at, length } }, i) => {
      if (!isWhole) backend.storeRows(cut(model, pass, "piece", rows, pieces[i]!), x, at!);
      sequence.end(length);
    });
  }
  const out = backend.alloc("f32", x.shape, true);
  pass.finish(x, out);
  backend.free(x);
  pass.free();
  return out;
}

/** Rows of a piece: a copy, unless it is one row or all of them. */
function cut(
  { backend }: RunModel,
  pass: ForwardPass,
  name: string,
  x: Tensor,
  { from, count }: Piece,
): Tensor {
  if (count > 1) return pass.gather(name, x, range(from, count));
  const row = backend.row(asMatrix(x), from);
  return { ...row, shape: [1, ...row.shape] };
}

function runLayer(
  model: RunModel,
  pass: ForwardPass,
  x: Tensor,
  layer: number,
  pieces: readonly Piece[],
  joinsOutputs: boolean,
): void {
  const tokens = joined(model, pass, pieces, joinsOutputs);
  const without = (part: "attention" | "mlp") => pieces.filter(({ tokens }) => tokens.drops(layer, part));
  const idle = without("mlp");
  if (idle.length === 0) return pass.run(x, layer, layer + 1, tokens);
  pass.run(x, layer, layer + 1, { ...tokens, drops: (_, part) => part === "mlp" });
  if (idle.length === pieces.length) return;
  const kept = idle.map((piece, i) => pass.gather(`without mlp ${i}`, x, range(piece.from, piece.count)));
  pass.run(x, layer, layer + 1, { ...tokens, drops: (_, part) => part === "attention" });
  idle.forEach(({ from }, i) => model.backend.storeRows(kept[i]!, x, from));
}

/** The tokens of all pieces as those of one pass. */
function joined(model: RunModel, pass: ForwardPass, pieces: readonly Piece[], joinsOutputs: boolean): Tokens {
  const { backend } = model, joins = ({ count, tokens }: Piece) => count === 1 && !tokens.seesOutputs;
  return {
    positions: pass.i32(Int32Array.from(pieces.flatMap(({ tokens }) => [...tokens.places]))),
    needsOf: (layer) => ({
      preRopeKeys: pieces.some(({ tokens }) => tokens.needsOf(layer).preRopeKeys),
      queries: true, // of all at once; a skipped token's are not used
    }),
    seeMlp(layer, output) {
      for (const piece of pieces) {
        piece.tokens.seeMlp(layer, () => cut(model, pass, "own mlp", output(), piece));
      }
    },
    attend(rows) {
      let left: Addend | undefined;
      const later: number[] = [], { layer, residual, queries } = rows;
      const attended = joinsOutputs && pieces.length > 1
        ? pass.scratch("together", queries!.shape)
        : undefined;
      for (const piece of pieces) {
        if (piece.tokens.drops(layer, "attention")) continue;
        const own = ownRows(model, pass, rows, piece), waits = attended !== undefined && joins(piece);
        if (waits) pass.attended = cut(model, pass, "", attended, piece);
        left = piece.tokens.attend(own, pass);
        pass.attended = undefined;
        if (pieces.length === 1) continue;
        if (waits && left !== undefined) later.push(piece.from);
        else if (left !== undefined) backend.add(own.residual, left.delta, left.only);
        if (piece.count > 1) backend.storeRows(own.residual, residual, piece.from);
      }
      if (later.length > 0) {
        const chosen = Int32Array.from(later);
        backend.scatterAddRows(
          residual,
          pass.i32(chosen),
          pass.output(layer, pass.gather("later", attended!, chosen)),
        );
      }
      return pieces.length === 1 ? left : undefined;
    },
  };
}

/** A layer's rows for only one piece's tokens. */
function ownRows(model: RunModel, pass: ForwardPass, rows: LayerRows, piece: Piece): LayerRows {
  const own = (name: string, x: Tensor) => cut(model, pass, `own ${name}`, x, piece);
  const keys = pass.byHead(own("keys", rows.keys)), { preRopeKeys } = piece.tokens.needsOf(rows.layer);
  return {
    layer: rows.layer,
    keys,
    filterKeys: preRopeKeys ? pass.byHead(own("preRopeKeys", rows.filterKeys)) : keys,
    values: pass.byHead(own("values", rows.values)),
    residual: own("residual", rows.residual),
    normed: own("normed", rows.normed),
    queries: own("queries", rows.queries!),
    positions: piece.tokens.positions,
  };
}
