/** The filter's savings and the server's state: in answers, and for Prometheus. */
import type { SequenceUsage } from "../../../lib/model/run/usage.ts";
import type { ServerState } from "./messages.ts";

/** Counts of a text's sequence, by their name in answers and metrics. */
const SAVINGS: { readonly [count: string]: readonly [help: string, of: (usage: SequenceUsage) => number] } = {
  queries_dense: ["Queries of the full model: one per token and layer.", (usage) => usage.queriesDense],
  queries_skipped: ["Queries whose attention was skipped.", (usage) => usage.queriesSkipped],
  attention_flops_dense: [
    "Operations of attention in the full model, projections included.",
    (usage) => usage.attentionFlopsDense,
  ],
  attention_flops_avoided: [
    "Operations of attention that were not spent.",
    (usage) => usage.attentionFlopsAvoided,
  ],
  kv_bytes_dense: [
    "Bytes of keys and values that the full model holds at the end of a text.",
    (usage) => usage.kvBytesHeld + usage.kvBytesAvoided,
  ],
  kv_bytes_held: [
    "Bytes of keys and values that were held at the end of a text.",
    (usage) => usage.kvBytesHeld,
  ],
};

const TOKENS = { prompt_tokens: "Tokens of prompts.", completion_tokens: "Tokens that were made." };

/** The counts of a text's sequence. */
export function countSavings(usage: SequenceUsage): { [count: string]: number } {
  return Object.fromEntries(Object.entries(SAVINGS).map(([name, [, of]]) => [name, of(usage)]));
}

/** Adds counts up, name by name. */
export function addCounts(
  sum: { [count: string]: number },
  counts: { readonly [count: string]: number },
): void {
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
}

/** The server's state as Prometheus reads it. @param statuses answers by HTTP status */
export function renderMetrics(
  { running, waiting, totals }: ServerState,
  statuses: ReadonlyMap<number, number>,
): string {
  type Sample = readonly [labels: string, value: number];
  const family = (name: string, type: "counter" | "gauge", help: string, samples: readonly Sample[]) =>
    [
      `# HELP tokenfilter_${name} ${help}`,
      `# TYPE tokenfilter_${name} ${type}`,
      ...samples.map(([labels, value]) => `tokenfilter_${name}${labels} ${value}`),
      "",
    ].join("\n");
  const label = (name: string, value: string) => `{${name}=${JSON.stringify(value)}}`;
  const byModel = (name: string) =>
    Object.entries(totals).map(([model, counts]): Sample => [label("model", model), counts[name] ?? 0]);
  const counted = [
    ...Object.entries(TOKENS),
    ...Object.entries(SAVINGS).map(([name, [help]]) => [name, help] as const),
  ];
  return [
    family(
      "requests_total",
      "counter",
      "Requests answered, by HTTP status.",
      [...statuses].map(([status, count]): Sample => [label("status", String(status)), count]),
    ),
    family("texts_running", "gauge", "Texts that are being made.", [["", running]]),
    family("requests_waiting", "gauge", "Requests that wait for their turn.", [["", waiting]]),
    ...counted.map(([name, help]) => family(`${name}_total`, "counter", help, byModel(name))),
  ].join("");
}
