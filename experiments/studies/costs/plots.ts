/** Figures of the expected savings of presets, against the length of a prompt. */
import type { CostShape } from "../../../lib/cost.ts";
import { PRESETS, resolveOptions } from "../../../lib/methods/mod.ts";
import { axis, baseLayout, Figure, type JsonObject, LEGEND, styleRule } from "../../../lib/plot/mod.ts";
import { expectCost, type ExpectedCost, rowBytes, weightBytes } from "./expected.ts";

/** A model's sizes by name. */
export const SHAPES: { readonly [model: string]: CostShape } = {
  "LLaMA-2-7B": {
    ...{ numLayers: 32, numHeads: 32, numKvHeads: 32, headDim: 128 },
    ...{ hiddenSize: 4096, intermediateSize: 11008, vocabSize: 32000 },
  },
  "LLaMA-3-8B": {
    ...{ numLayers: 32, numHeads: 32, numKvHeads: 8, headDim: 128 },
    ...{ hiddenSize: 4096, intermediateSize: 14336, vocabSize: 128256 },
  },
  "Mistral-7B": {
    ...{ numLayers: 32, numHeads: 32, numKvHeads: 8, headDim: 128 },
    ...{ hiddenSize: 4096, intermediateSize: 14336, vocabSize: 32000 },
  },
};
/** Tokens of prompts. */
export const LENGTHS: readonly number[] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
/** Sequences that are decoded together. */
export const BATCHES: readonly number[] = [1, 8, 64];
/** Weights and cache are held in 16 bits. */
export const ELEMENT_BYTES = 2;

/** A preset on a model at a length, at a ratio of 0.5. */
export interface CostRow {
  readonly model: string;
  /** `dense`, or a preset. */
  readonly name: string;
  readonly tokens: number;
  readonly cost: ExpectedCost;
}

/** Expects every preset on every model at every length. */
export function collectCosts(
  shapes: typeof SHAPES = SHAPES,
  lengths: readonly number[] = LENGTHS,
): CostRow[] {
  const methods = [
    ["dense", resolveOptions({ pruneRatio: 0 })] as const,
    // Retrieval layers belong to a model, and are unknown for a shape.
    ...Object.entries(PRESETS).filter(([, options]) => !("whole" in options)).map(([name, options]) =>
      [name, resolveOptions(options)] as const
    ),
  ];
  return Object.entries(shapes).flatMap(([model, shape]) =>
    methods.flatMap(([name, options]) =>
      lengths.map((tokens) => ({ model, name, tokens, cost: expectCost(shape, options, tokens) }))
    )
  );
}

/** Bytes of a sequence's cache after the prompt. */
export function cacheBytes(row: CostRow): number {
  return row.cost.rows * rowBytes(SHAPES[row.model]!, ELEMENT_BYTES);
}

/** Bytes read per token, if `batch` sequences decode together: the weights once for all, and a cache for each. */
export function bytesRead({ model, cost }: CostRow, batch: number): number {
  const shape = SHAPES[model]!;
  return weightBytes(shape, ELEMENT_BYTES) / batch + cost.rowsRead * rowBytes(shape, ELEMENT_BYTES);
}

const DASHES = ["solid", "dash", "dot"];

interface Line {
  readonly name: string;
  readonly preset: string;
  readonly nth: number;
  readonly rows: readonly CostRow[];
  readonly of: (row: CostRow) => number;
}

/** Draws lines, each a fraction of the full model's cost at the same length. */
function draw(
  rows: readonly CostRow[],
  title: string,
  caption: string,
  yTitle: string,
  lines: Line[],
): Figure {
  const dense = new Map(
    rows.filter(({ name }) => name === "dense").map((row) => [`${row.model} ${row.tokens}`, row]),
  );
  return new Figure({
    title,
    caption,
    height: 400,
    data: lines.map(({ name, preset, nth, rows, of }): JsonObject => {
      const { color, symbol } = styleRule(preset);
      const shares = rows.map((row) => of(row) / of(dense.get(`${row.model} ${row.tokens}`)!));
      return {
        type: "scatter",
        mode: "lines+markers",
        name,
        x: rows.map(({ tokens }) => tokens),
        y: shares,
        text: shares.map((share, i) =>
          `<b>${name}</b>, ${rows[i]!.tokens} tokens<br>${(100 * share).toFixed(1)}% of the full model`
        ),
        hovertemplate: "%{text}<extra></extra>",
        line: { color, width: 2, dash: DASHES[nth % DASHES.length]! },
        marker: { color, size: 7, symbol, line: { width: 1.5, color } },
      };
    }),
    layout: baseLayout({
      xaxis: axis("tokens of the prompt", {
        type: "log",
        tickvals: LENGTHS,
        ticktext: LENGTHS.map((tokens) => tokens < 1024 ? String(tokens) : `${tokens / 1024}k`),
      }),
      yaxis: axis(yTitle, { tickformat: ".0%", rangemode: "tozero" }),
      legend: LEGEND,
      hovermode: "closest",
    }),
  });
}

/** The figures, in order. */
export function plotCosts(rows: readonly CostRow[]): Figure[] {
  const presets = [...new Set(rows.map(({ name }) => name))].filter((name) => name !== "dense");
  const models = [...new Set(rows.map(({ model }) => model))];
  const own = (model: string, preset: string) =>
    rows.filter((row) => row.model === model && row.name === preset);
  const overModels = (of: Line["of"]) =>
    presets.flatMap((preset) =>
      models.map((model, nth) => ({
        name: `${preset} · ${model}`,
        preset,
        nth,
        rows: own(model, preset),
        of,
      }))
    );
  return [
    draw(
      rows,
      "Operations of attention in a prompt",
      "Projections and pairs, of the full model's at the same length. Each preset at one half: of queries, of keys and " +
        "values (keys), or of both (local). Two models of one shape of attention lie upon each other.",
      "attention FLOPs retained",
      overModels(({ cost }) => cost.attentionFlops),
    ),
    draw(
      rows,
      "All operations of a prompt",
      "MLPs and the last token's output layer included, which no preset touches: on short prompts little is left to save.",
      "FLOPs retained",
      overModels(({ cost }) => cost.prefillFlops),
    ),
    draw(
      rows,
      "Cache after a prompt",
      "Rows of keys and values, the same fraction in every model. It is also the fraction of a batch's memory.",
      "KV cache retained",
      presets.map((preset) => ({
        name: preset,
        preset,
        nth: 0,
        rows: own(models[0]!, preset),
        of: cacheBytes,
      })),
    ),
    ...models.map((model) =>
      draw(
        rows,
        `Bytes read a token: ${model}`,
        "Decoding reads the weights once a step for all sequences of a batch, and each one's cache: what of the " +
          "cache is not read counts in large batches and after long prompts.",
        "bytes read, in % of the full model's",
        presets.flatMap((preset) =>
          BATCHES.map((batch, nth) => ({
            name: `${preset} · batch ${batch}`,
            preset,
            nth,
            rows: own(model, preset),
            of: (row: CostRow) => bytesRead(row, batch),
          }))
        ),
      )
    ),
  ];
}
