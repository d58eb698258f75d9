/** Plotly's drawings, made so small that a notebook's file can contain dozens. */

/** Styles that occur less often than this stay in their elements. */
const LEAST_USES = 3;

/**
 * Makes the same drawing in fewer bytes. Coordinates get two decimals, which is precise enough for the eye. A style
 * that many elements share is written once, and names that only scripts read are removed.
 *
 * @param svg An `<svg>` element as `Plotly.toImage` gives it.
 */
export function shrinkSvg(svg: string): string {
  const rounded = svg
    .replaceAll(/ (?:d|transform|points)="[^"]*"/g, (path) => path.replaceAll(/(\d+\.\d\d)\d+/g, "$1"))
    .replaceAll(/ (?:class|data-[\w-]+)="[^"]*"/g, "");
  const uses = new Map<string, number>();
  for (const [, style] of rounded.matchAll(/ style="([^"]*)"/g)) {
    uses.set(style!, (uses.get(style!) ?? 0) + 1);
  }
  const shared = [...uses].filter(([style, count]) => count >= LEAST_USES && style !== "").map(([style]) =>
    style
  );
  const names = new Map(shared.map((style, i) => [style, `s${i}`]));
  const named = rounded.replaceAll(/ style="([^"]*)"/g, (all, style) => {
    const name = names.get(style);
    return name === undefined ? all : ` class="${name}"`;
  });
  const rules = [...names].map(([style, name]) => `.${name}{${style.replaceAll("&quot;", "'")}}`).join("");
  return rules === "" ? named : named.replace(/(<svg[^>]*>)/, `$1<style>${rules}</style>`);
}
