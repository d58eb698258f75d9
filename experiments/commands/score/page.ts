/** The page of a scored text. */
import { recordOptions, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import { renderFacts, renderPage } from "../../../lib/plot/figure/page.ts";
import type { LayerTrace } from "../../../lib/plot/plots/one_run/layer_trace.ts";
import { collectTokenMap, plotTokenMap } from "../../../lib/plot/plots/one_run/token_map.ts";
import { methodName } from "../../../lib/plot/trials/trial_label.ts";
import { describeOutcome, type Scored } from "./outcome.ts";

/**
 * A page of the text that marks its skipped tokens.
 *
 * @param traces Decisions with their scores; where there are none, only the masks are shown.
 */
export function renderScorePage(
  scored: Scored,
  method: ResolvedOptions | undefined,
  traces: readonly LayerTrace[],
): string {
  const { file, runs, scores } = scored, { layers } = scores[0]!, warmup = runs[0]!.pruner!.spans.warmup;
  const position = runs.flatMap(({ ids }) => Array.from(ids, (_, t) => t));
  const none = position.map(() => null);
  const masks = layers.map((layer, i) => ({
    layer,
    position,
    redundancy: none,
    threshold: none,
    keep: scores.flatMap(({ keep }) => [...keep[i]!]),
  }));
  const texts = runs.flatMap(({ ids }) => file.tokenizer.texts(ids));
  const [loss, ...saved] = describeOutcome(scored, method);
  const map = plotTokenMap(collectTokenMap(traces.length === 0 ? masks : traces, texts, { warmup }));
  const facts = renderFacts([
    ["method", method === undefined ? "decisions of a trace" : methodName(recordOptions(method))],
    ["cost", loss!],
    ["saved", saved.join(" ")],
  ]);
  return renderPage({ title: map.title, intro: facts, sections: [map.toSection()], plotly: "" });
}
