/** Single tokens of the measured layers: a sample, an excerpt, and the whole table of decisions. */
import type { TokenColumns } from "./report.ts";
import type { LayerColumns } from "./columns.ts";
import { createDecisionTable, type DecisionTable } from "./trace.ts";

/** Rows of a sample over all layers, so that a report stays small. */
const SAMPLE_ROWS = 6000;
/** The same for an excerpt, with bounds for the tokens in it. */
const EXCERPT_ROWS = 5000, LEAST_EXCERPT = 32, MOST_EXCERPT = 160;

/** Tokens evenly spread over the stream, without the first of each sequence, ascending. */
export function chooseSample(tokens: number, context: number, layers: number): number[] {
  const most = Math.max(1, Math.floor(SAMPLE_ROWS / layers)), step = Math.max(1, tokens / most);
  const chosen = Array.from({ length: Math.min(most, tokens) }, (_, i) => Math.floor((i + 0.5) * step));
  return chosen.filter((token) => token % context !== 0);
}

/** Consecutive tokens of the first sequence, from shortly before the end of the warm-up on. */
export function chooseExcerpt(context: number, warmup: number, layers: number): number[] {
  const wanted = Math.min(MOST_EXCERPT, Math.max(LEAST_EXCERPT, Math.floor(EXCERPT_ROWS / layers)));
  const length = Math.min(wanted, context);
  const first = Math.max(0, Math.min(warmup - 8, context - length));
  return Array.from({ length }, (_, i) => first + i);
}

const finite = (x: number) => Number.isFinite(x) ? x : null;

export function tokenColumns(
  layers: readonly LayerColumns[],
  tokens: readonly number[],
  context: number,
): TokenColumns {
  const collect = <T>(of: (columns: LayerColumns, token: number) => T): T[] =>
    layers.flatMap((columns) => tokens.map((token) => of(columns, token)));
  return {
    token: collect((_, token) => token),
    position: collect((_, token) => token % context),
    layer: collect(({ plan }) => plan.method.layer),
    muK: collect((columns, token) => finite(columns.keys(columns.plan.view).mu[token]!)),
    muV: collect((columns, token) => finite(columns.values(columns.plan.view).mu[token]!)),
    varK: collect((columns, token) => finite(columns.keys(columns.plan.view).variance[token]!)),
    varV: collect((columns, token) => finite(columns.values(columns.plan.view).variance[token]!)),
    wK: collect(({ method }, token) => finite(method.wK[token]!)),
    S: collect(({ method }, token) => finite(method.redundancy[token]!)),
    theta: collect(({ method }, token) => finite(method.threshold[token]!)),
    keep: collect(({ method }, token) => method.keep[token] === 0 ? 0 : 1),
    r: collect(({ r }, token) => r[token]!),
  };
}

/**
 * Every token of every layer: layers ascending, tokens ascending in each.
 *
 * @param chunks Token ids, [tokens] i32 each, all of one length.
 */
export function headTrace(layers: readonly LayerColumns[], chunks: readonly Int32Array[]): DecisionTable {
  const context = chunks[0]!.length, tokens = chunks.length * context;
  const { numKvHeads } = layers[0]!.plan.method;
  const table = createDecisionTable(layers.length * tokens, { heads: numKvHeads, hasRedundancy: true });
  layers.forEach((columns, index) => {
    const { plan, r, method } = columns, at = index * tokens;
    const keys = columns.keys(plan.view), values = columns.values(plan.view);
    for (let token = 0; token < tokens; token++) {
      const row = at + token, chunk = Math.floor(token / context), position = token % context;
      table.chunk[row] = chunk;
      table.position[row] = position;
      table.token[row] = token;
      table.id[row] = chunks[chunk]![position]!;
      table.layer[row] = plan.method.layer;
      for (let head = 0; head < numKvHeads; head++) {
        table.sK[head]![row] = keys.cosines[token * numKvHeads + head]!;
        table.sV[head]![row] = values.cosines[token * numKvHeads + head]!;
      }
    }
    table.muK.set(keys.mu, at);
    table.varK.set(keys.variance, at);
    table.muV.set(values.mu, at);
    table.varV.set(values.variance, at);
    table.wK.set(method.wK, at);
    table.score.set(method.redundancy, at);
    table.threshold.set(method.threshold, at);
    table.keep.set(method.keep, at);
    table.r!.set(r, at);
  });
  return table;
}
