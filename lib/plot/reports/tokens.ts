/** The page of one text: which tokens were skipped, and what that cost. */
import { renderFacts, renderPage } from "../figure/page.ts";
import type { TokenMap } from "../plots/token_map.ts";

/**
 * Renders a text with its decisions as a page.
 *
 * @param facts Names and values above it.
 * @returns HTML that loads nothing from anywhere.
 */
export function renderTokenReport(
  map: TokenMap,
  facts: readonly (readonly [name: string, value: string])[],
): string {
  return renderPage({ title: map.title, intro: renderFacts(facts), sections: [map.toSection()], plotly: "" });
}
