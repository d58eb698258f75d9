/** Tests what the pages of results may claim: each row has its random control, and "better" names its metric. */
import { assert, assertEquals } from "@std/assert";
import { readSettings } from "./comparison/large.ts";
import { LENGTHS, randomOf, readNeedles } from "./retrieval/needles.ts";
import { controlOf, readWikitext } from "./retrieval/read.ts";
import { RATIO, shownTrials } from "./retrieval/table.ts";

const ROOT = new URL("../../", import.meta.url);
const PAGES = [
  "README.md",
  ...["findings", "study", "gemma", "retrieval-layers"].map((name) => `docs/results/${name}.md`),
];
/** Words that name a metric, or all of them. */
const METRIC =
  /all three metrics|metrics disagree|\bloss|\bloses?\b|\bnats\b|\bKL\b|top-1|accuracy|perplexity|\bfind|\bfound/i;

/** Sentences of a page outside tables, code and comments. */
function sentencesOf(page: string): string[] {
  const prose = page.replaceAll(/^```.*?^```/gms, "").replaceAll(/^\|.*$/gm, "").replaceAll(/<[^>]*>/gs, "");
  const items = prose.split(/\n\n|\n(?=- |#|\d+\. )/).map((text) => text.replaceAll(/\s+/g, " "));
  return items.flatMap((text) => text.split(/(?<=[.:;])\s+(?=[A-Z`*])/));
}

for (const path of PAGES) {
  Deno.test(`a sentence of ${path} that says "better" or "worse" names its metric`, async () => {
    const page = await Deno.readTextFile(new URL(path, ROOT));
    const claims = sentencesOf(page).filter((text) =>
      /\b(better|worse|best|worst) (than|in|by|rule)\b/i.test(text)
    );
    assertEquals(claims.filter((text) => !METRIC.test(text)), []);
  });
}

Deno.test("a claim of better without a metric is refused", () => {
  const claim = sentencesOf("- **Rules** are better than random. Nothing else.\n\n| better than | x |\n")
    .filter((text) => /better/.test(text));
  assertEquals(claim.length, 1);
  assert(!METRIC.test(claim[0]!) && METRIC.test("It is better than random by loss."));
});

Deno.test("each row of the study, Gemma and retrieval layers has a random control of the same settings", async () => {
  for (const model of ["", "gemma_"] as const) {
    for (const side of ["keys", "queries"] as const) {
      for (const { title, methods } of await readSettings(side, model)) {
        const random = methods.filter(({ name }) => name.startsWith("random"));
        assertEquals(random.map(({ seeds }) => seeds), [5], title);
        const settingOf = ({ options }: typeof methods[number]) =>
          [options!.recent, options!.warmup, options!.schedule, options!.pruneRatio, options!.kvRatio].join();
        for (const method of methods.slice(1)) {
          assertEquals(settingOf(method), settingOf(random[0]!), method.name);
        }
      }
    }
  }
  const trials = await readWikitext(), shown = shownTrials(trials, RATIO);
  assert(shown.length > 15 && shown.every((trial) => controlOf(trials, trial) !== undefined));
  const lonely = shownTrials(trials.filter(({ rule }) => rule !== "random"), RATIO);
  assertEquals(lonely, []);
  const needles = await Promise.all(LENGTHS.map(readNeedles));
  assert(needles.some((own) => randomOf(own, "heads") !== undefined));
});

Deno.test("README has at most 130 lines and 800 words, code aside", async () => {
  const text = await Deno.readTextFile(new URL("README.md", ROOT));
  const prose = text.replaceAll(/^ *```.*?^ *```/gms, "").replaceAll(/<[^>]*>|\]\([^)]*\)/g, " ");
  assert(text.split("\n").length <= 131);
  assert(prose.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)).length <= 800);
});
