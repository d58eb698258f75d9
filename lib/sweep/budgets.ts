/** Budgets of a filtered run, as fractions of the full model's: the axes of loss plots. */
import type { SequenceUsage } from "../model/run/usage.ts";

/** Counts that budgets are made of: those of a trial, or of a sequence. */
export type Counted = Omit<SequenceUsage, "kvBytesAllocated" | "totalFlopsDense" | "totalFlopsAvoided">;

/** One budget. All of them count the warm-up and the recent window too. */
export interface Budget {
  /** Its column in tables, and its axis. */
  readonly label: string;
  /** Name of the counted quantity. */
  readonly title: string;
  /** Fraction of the full model's that is retained. */
  readonly retained: (counted: Counted) => number;
}

const spent = (all: number, avoided: number) => 1 - avoided / all;

export type BudgetName = "queries" | "pairs" | "attentionFlops" | "cache" | "projectionFlops" | "parameters";

export const BUDGETS: { readonly [name in BudgetName]: Budget } = {
  queries: {
    label: "queries",
    title: "queries whose attention is computed",
    retained: (c) => spent(c.queriesDense, c.queriesSkipped),
  },
  pairs: {
    label: "pairs",
    title: "pairs of a query and a key computed",
    retained: (c) => spent(c.pairsDense, c.pairsAvoided),
  },
  attentionFlops: {
    label: "attn FLOPs",
    title: "operations of attention, projections and pairs",
    retained: (c) => spent(c.attentionFlopsDense, c.attentionFlopsAvoided),
  },
  cache: {
    label: "KV cache",
    title: "bytes of keys and values in use at the end of a chunk",
    retained: (c) => spent(c.kvBytesHeld + c.kvBytesAvoided, c.kvBytesAvoided),
  },
  projectionFlops: {
    label: "proj FLOPs",
    title: "operations of the projections of keys, values, queries and outputs",
    retained: (c) => spent(c.projectionFlopsDense, c.projectionFlopsAvoided),
  },
  parameters: {
    label: "params",
    title: "parameters of the model, embeddings too",
    retained: (c) => spent(c.parametersDense, c.parametersAvoided),
  },
};

export const BUDGET_NAMES: readonly BudgetName[] = Object.keys(BUDGETS) as BudgetName[];

export type Retained = { readonly [name in BudgetName]: number };

/** A fraction in percent; `-` where a record of an older version has none. */
export function showFraction(fraction: number | undefined): string {
  return fraction === undefined || Number.isNaN(fraction) ? "-" : `${(100 * fraction).toFixed(0)}%`;
}

export function mapBudgets(value: (name: BudgetName) => number): Retained {
  return Object.fromEntries(BUDGET_NAMES.map((name) => [name, value(name)])) as Retained;
}

export function retainedOf(counted: Counted): Retained {
  return mapBudgets((name) => BUDGETS[name].retained(counted));
}
