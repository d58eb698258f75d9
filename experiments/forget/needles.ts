/** Hidden numbers, recorded: what two caches hold when the question has been read, and what the model then says. */
import type { Recording } from "../studies/retrieval/record.ts";
import type { Needles as Studied } from "../studies/retrieval/needles.ts";
import { bytesOf } from "./assets.ts";
import type { Grid } from "./messages.ts";
import { byId, CacheView, make, percent } from "./view.ts";

/** The recording, and what was found in the texts of the study with three quarters evicted. */
type Recorded = Recording & { readonly study: readonly Studied[] };

/** What every head holds in a run, as {@linkcode Grid.held} has it; without a run: everything. */
function unpack({ layers, kvHeads }: Recording, whole: Grid["whole"], tokens: number, kept?: string) {
  const held = new Float32Array(layers * kvHeads * tokens).fill(1), bytes = atob(kept ?? "");
  for (let at = 0; at < held.length && kept !== undefined; at++) {
    const row = Math.floor(at / tokens), bit = Math.floor(row / kvHeads) * tokens + at % tokens;
    if (whole[row] === 0) held[at] = bytes.charCodeAt(bit >> 3) >> (7 - bit % 8) & 1;
  }
  return held;
}

/** Tokens of the sentence that hides the number. */
function findNeedle(tokens: readonly string[], answer: string): [from: number, to: number] {
  const text = tokens.join(""), at = text.indexOf(answer), from = text.lastIndexOf("\n", at) + 1;
  let end = 0;
  const ends = tokens.map((token) => end += token.length);
  return [ends.findIndex((own) => own > from), ends.findIndex((own) => own >= text.indexOf("\n", at)) + 1];
}

/** The section. @returns Its settings, for a link. */
export async function openNeedles(link: URLSearchParams, changed: () => void) {
  const recorded: Recorded = JSON.parse(new TextDecoder().decode(await bytesOf("recording.json")));
  const { settings: { rules, ratios }, texts, heads, layers, kvHeads, study } = recorded,
    all = layers * kvHeads;
  const isWhole = Uint8Array.from(
    { length: all },
    (_, row) => Number(heads.includes(`${Math.floor(row / kvHeads)}.${row % kvHeads}`)),
  );
  const sides = (["none", "heads"] as const).map((whole) => {
    const view = new CacheView(byId(`needles-${whole}`));
    const textContent = whole === "none" ? "All heads alike" : `${heads.length} of ${all} heads whole`;
    view.place.querySelector(".head")!.append(make("h3", { textContent }));
    view.place.querySelector<HTMLElement>(".tokens")!.tabIndex = 0;
    return { whole, view, rows: whole === "none" ? new Uint8Array(all) : isWhole };
  });
  const controls = { rule: "key", item: "1", needle: String(ratios.indexOf(0.75) + 1) };
  byId("rule").append(...rules.map((rule) => new Option(rule)));
  byId("item").append(...texts.map(({ answer }, i) => new Option(`${i + 1}: ${answer}`, String(i))));
  byId("needle").max = String(ratios.length);

  function draw(): void {
    const ratio = ratios[Number(byId("needle").value) - 1], rule = byId("rule").value;
    const { tokens, answer, full, runs } = texts[Number(byId("item").value)] ?? texts[0]!;
    const told = ratio?.toFixed(2) ?? "0, the full model";
    byId("needle-ratio").textContent = byId("needle").ariaValueText = told;
    for (const { whole, view, rows } of sides) {
      const isOwn = (run: typeof runs[number]) =>
        run.rule === rule && run.whole === whole && run.ratio === ratio;
      const run = runs.find(isOwn), { said, found } = run ?? full;
      const right = texts.filter((text) => (text.runs.find(isOwn) ?? text.full).found).length;
      const counts = study.map(({ tokens, items, rows }) => {
        const own = rows.find((row) => row.rule === rule && row.whole === whole)?.found ?? "–";
        return [`at 0.75, texts of ${tokens.toLocaleString("en")} tokens`, `${own} of ${items}`] as const;
      });
      const answered = `${found ? "✓" : "✗"} ${said.slice(0, answer.length).split("\n")[0]}`;
      view.tell([
        [`the number is ${answer}`, answered, found ? "good" : "bad"],
        ["of the cache held", percent(run?.held ?? 1)],
        [`of these texts at ${ratio?.toFixed(2) ?? 0}`, `${right} of ${texts.length}`],
        ...counts.reverse(),
      ]);
      const held = unpack(recorded, rows, tokens.length, run?.kept), marked = findNeedle(tokens, answer);
      view.show({ tokens, layers, kvHeads, held, whole: rows, marked }, "all", true);
      const words = view.place.querySelector(".tokens")!,
        needle = words.querySelector<HTMLElement>(".needle")!;
      words.scrollTop = needle.offsetTop - words.clientHeight / 2;
    }
  }
  for (const [id, value] of Object.entries(controls)) {
    byId(id).value = link.get(id) ?? value;
    byId(id).addEventListener("input", () => (draw(), changed()));
  }
  draw();
  return () => Object.fromEntries(Object.keys(controls).map((id) => [id, byId(id).value]));
}
