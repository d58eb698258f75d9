/** What a filtered run spends of what the dense model does: the axes that a loss is held against. */
import type { SequenceUsage } from "../model/run/usage.ts";

/** Counts that budgets are made of: those of a trial, or of a sequence. */
export type Counted = Omit<SequenceUsage, "kvBytesAllocated" | "totalFlopsDense" | "totalFlopsAvoided">;

/** One budget. All of them count the warm-up and the recent window too. */
export interface Budget {
  /** Its column in tables, and its axis. */
  readonly label: string;
  /** What is counted, in words. */
  readonly title: string;
  /** Share of the dense model's that is spent. */
  readonly share: (counted: Counted) => number;
}

const spent = (all: number, avoided: number) => 1 - avoided / all;

export type BudgetName = "queries" | "pairs" | "attentionFlops" | "rows" | "projectionFlops" | "parameters";

export const BUDGETS: { readonly [name in BudgetName]: Budget } = {
  queries: {
    label: "queries",
    title: "queries whose attention is computed",
    share: (c) => spent(c.queriesDense, c.queriesSkipped),
  },
  pairs: {
    label: "pairs",
    title: "pairs of a query and a key computed",
    share: (c) => spent(c.pairsDense, c.pairsAvoided),
  },
  attentionFlops: {
    label: "attn FLOPs",
    title: "operations of attention, projections and pairs",
    share: (c) => spent(c.attentionFlopsDense, c.attentionFlopsAvoided),
  },
  rows: {
    label: "KV held",
    title: "rows of the KV cache held at the end of a chunk",
    share: (c) => spent(c.kvBytesHeld + c.kvBytesAvoided, c.kvBytesAvoided),
  },
  projectionFlops: {
    label: "proj FLOPs",
    title: "operations of the projections of keys, values, queries and outputs",
    share: (c) => spent(c.projectionFlopsDense, c.projectionFlopsAvoided),
  },
  parameters: {
    label: "params",
    title: "parameters of the model, embeddings too",
    share: (c) => spent(c.parametersDense, c.parametersAvoided),
  },
};

export const BUDGET_NAMES: readonly BudgetName[] = Object.keys(BUDGETS) as BudgetName[];

export type Shares = { readonly [name in BudgetName]: number };

/** A share in percent; `-` where a record of an older version has none. */
export function showShare(share: number | undefined): string {
  return share === undefined || Number.isNaN(share) ? "-" : `${(100 * share).toFixed(0)}%`;
}

export function mapBudgets(value: (name: BudgetName) => number): Shares {
  return Object.fromEntries(BUDGET_NAMES.map((name) => [name, value(name)])) as Shares;
}

export function sharesOf(counted: Counted): Shares {
  return mapBudgets((name) => BUDGETS[name].share(counted));
}
