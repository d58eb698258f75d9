/**
 * The tables of docs/results/retrieval-layers.md and of Gemma's page, from results/.
 *
 * usage: deno run -A experiments/studies/retrieval/table.ts
 */
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import { LEAST_CHUNKS, showNats, showStandings } from "../comparison/losses.ts";
import { fillPage } from "../comparison/paper.ts";
import { METHODS, nameOf, WHOLE } from "./names.ts";
import { LENGTHS, readNeedles, readOnce, tabulateNeedles } from "./needles.ts";
import {
  compareBy,
  controlOf,
  findTrial,
  hasLines,
  intervalOf,
  meanOf,
  type Measure,
  MEASURES,
  readText,
  readWikitext,
  type Trial,
} from "./read.ts";

/** Of one KV head each, so that whole heads are the same. */
const GEMMA_WHOLE = { none: "none", auto: "layers 5, 11" };

/** The ratio of the page, of which 30% of the cache is left in chunks of 2,048. */
export const RATIO = 0.789;

const wholeOf = ({ rule, whole }: Trial, names = WHOLE) =>
  /^(duo|razor)/.test(rule) ? "its own" : names[whole]!;

/** Trials that a page shows: of one ratio, with enough chunks for an interval, and with a control. */
export const shownTrials = (trials: readonly Trial[], ratio: number): Trial[] =>
  trials.filter((trial) =>
    trial.ratio === ratio && trial.loss.length >= LEAST_CHUNKS && controlOf(trials, trial) !== undefined
  );

/** A difference by a measure, in nats, or in points of agreement; "-" where a trial lacks values by chunk. */
function showDifference(measure: Measure, own: Trial, other: Trial | undefined, confidence?: number): string {
  const found = other && intervalOf(measure, own, other, confidence);
  return found === undefined ? "-" : showNats(found);
}

/** The fraction of certainty of each of `count` intervals that hold all at once (Bonferroni). */
const each = (count: number) => 1 - 0.05 / count;

/** A row per rule and whole parts: the three metrics, and the distance from random with the same settings. */
export function tabulateLosses(trials: readonly Trial[], ratio = RATIO, names = WHOLE): PlainTable {
  const shown = shownTrials(trials, ratio), isRandom = ({ rule }: Trial) => rule === "random";
  const confidence = each(shown.filter((trial) => !isRandom(trial)).length);
  const order = Object.keys(WHOLE), lossOf = (trial: Trial) => meanOf("loss", trial)!;
  const sorted = shown.toSorted((a, b) =>
    order.indexOf(a.whole) - order.indexOf(b.whole) || lossOf(a) - lossOf(b)
  );
  return {
    columns: [
      ...["rule", "whole", "chunks", "cache left", "loss increase", "minus random", "KL", "top-1"],
      "loss, KL, top-1 against random",
    ],
    left: [true, true],
    rows: sorted.map((trial) => {
      const random = controlOf(trials, trial)!, kl = meanOf("kl", trial), top1 = meanOf("top1", trial);
      const [loss, KL, agreement] = MEASURES.map((measure) => compareBy(measure, trial, random, confidence));
      return [
        ...[nameOf(trial), wholeOf(trial, names), String(trial.loss.length)],
        ...[`${(100 * trial.retained).toFixed(1)}%`, showNats(intervalOf("loss", trial)!)],
        isRandom(trial) ? "-" : showDifference("loss", trial, random, confidence),
        kl?.toFixed(3) ?? "-",
        top1 === undefined ? "-" : `${(100 * top1).toFixed(1)}%`,
        isRandom(trial)
          ? "-"
          : showStandings({ loss: loss!, KL: KL ?? "unknown", "top-1": agreement ?? "unknown" }),
      ];
    }),
  };
}

/** A row per rule: how much whole layers and whole heads change its loss. */
export function tabulateWhole(trials: readonly Trial[], ratio = RATIO): PlainTable {
  const rules = [...new Set(shownTrials(trials, ratio).map(({ rule }) => rule))];
  const rows = rules.map((rule) => {
    const [none, layers, heads] = Object.keys(WHOLE).map((whole) =>
      findTrial(trials, { rule, whole, ratio })
    );
    return {
      trial: none ?? layers ?? heads!,
      pairs: [[layers, none], [heads, none], [heads, layers]] as const,
    };
  }).filter(({ pairs }) => pairs.some(([own, other]) => own && other && intervalOf("loss", own, other)));
  const confidence = each(3 * rows.length);
  return {
    columns: ["rule", "layers minus none", "heads minus none", "heads minus layers"],
    left: [true],
    rows: rows.map(({ trial, pairs }) => [
      nameOf(trial),
      ...pairs.map(([own, other]) =>
        own === undefined ? "-" : showDifference("loss", own, other, confidence)
      ),
    ]),
  };
}

/** A row per method of the literature without further whole parts: how far the rules of this project are from it. */
export function tabulateMethods(trials: readonly Trial[], ratio = RATIO): PlainTable {
  const own = ["key", "leave-one-out"].map((rule) => findTrial(trials, { rule, whole: "heads", ratio })!);
  const methods = shownTrials(trials, ratio).filter(({ rule, whole }) => rule in METHODS && whole === "none");
  const confidence = each(own.length * methods.length);
  return {
    columns: ["method", "chunks", ...own.map(({ rule }) => `\`${rule}\` with 7 heads, minus it`)],
    left: [true],
    rows: methods.toSorted((a, b) => meanOf("loss", a)! - meanOf("loss", b)!).map((method) => [
      ...[nameOf(method), String(method.loss.length)],
      ...own.map((rule) => showDifference("loss", rule, method, confidence)),
    ]),
  };
}

interface Pair {
  readonly name: string;
  readonly own: Trial | undefined;
  readonly other: Trial | undefined;
}

/** A row per pair of which both were run: the first minus the second by each metric. */
function tabulatePairs(all: readonly Pair[], column: string, verdict: string): PlainTable {
  const pairs = all.filter(({ own, other }) => own !== undefined && other !== undefined);
  const confidence = each(pairs.length);
  return {
    columns: [column, "loss", "KL", "top-1", verdict],
    left: [true],
    rows: pairs.map(({ name, own, other }) => {
      const [loss, KL, agreement] = MEASURES.map((measure) => compareBy(measure, own!, other!, confidence)!);
      return [
        name,
        ...MEASURES.map((measure) => showDifference(measure, own!, other, confidence)),
        showStandings({ loss: loss!, KL: KL!, "top-1": agreement! }),
      ];
    }),
  };
}

interface Texts {
  readonly [text: string]: readonly Trial[];
}

/** A row per text and whole parts: `variance` minus `key` by each metric, the fusion with the values that the paper proposes. */
export function tabulateFusion(
  texts: Texts,
  ratio = RATIO,
  names: { readonly [whole: string]: string } = WHOLE,
): PlainTable {
  const pairs = Object.entries(texts).flatMap(([text, trials]) =>
    Object.entries(names).map(([whole, name]) => {
      const find = (rule: string) => findTrial(trials, { rule, whole, ratio });
      return { name: `${text}, ${name} whole`, own: find("variance"), other: find("key") };
    })
  );
  return tabulatePairs(pairs, "text and whole parts", "loss, KL, top-1 against `key`");
}

/** A row per text: `leave-one-out` with whole layers minus DuoAttention by each metric. */
export function tabulateDuo(texts: Texts, ratio: number): PlainTable {
  const pairs = Object.entries(texts).map(([name, trials]) => ({
    name,
    own: findTrial(trials, { rule: "leave-one-out", whole: "auto", ratio }),
    other: findTrial(trials, { rule: "duo-attention", whole: "none", ratio }),
  }));
  return tabulatePairs(pairs, "text", "loss, KL, top-1 against DuoAttention");
}

type Named = readonly [rule: string, whole: string];
const METHOD: Named = ["leave-one-out", "heads"];
/** Its control, and the nearest method of the literature. */
const RIVALS: readonly Named[] = [["random", "heads"], ["duo-attention", "none"]];

/** A row per set of trials and rival: `leave-one-out` with whole heads minus the rival, by each metric. */
export function tabulateRivals(
  sets: readonly (readonly [text: string, trials: readonly Trial[], ratio: number])[],
): PlainTable {
  const pairs = sets.flatMap(([text, trials, ratio]) => {
    const [own, ...rivals] = [METHOD, ...RIVALS].map(([rule, whole]) =>
      findTrial(trials, { rule, whole, ratio })!
    );
    return rivals.map((rival) => ({ text, own: own!, rival }));
  });
  const confidence = each(pairs.length), showLoss = (trial: Trial) => meanOf("loss", trial)!.toFixed(3);
  return {
    columns: [
      "text",
      "cache left",
      "loss increase",
      "rival",
      "its loss increase",
      "loss",
      "KL",
      "top-1",
      "loss, KL, top-1 against it",
    ],
    left: [true, false, false, true],
    rows: pairs.map(({ text, own, rival }) => {
      const [loss, KL, agreement] = MEASURES.map((measure) => compareBy(measure, own, rival, confidence)!);
      return [
        ...[text, `${(100 * own.retained).toFixed(1)}%`, showLoss(own), nameOf(rival), showLoss(rival)],
        ...MEASURES.map((measure) => showDifference(measure, own, rival, confidence)),
        showStandings({ loss: loss!, KL: KL!, "top-1": agreement! }),
      ];
    }),
  };
}

/** The targets of third_text.md that compare two trials. */
const TARGETS: readonly (readonly [number: number, own: Named, other: Named])[] = [
  [1, ["leave-one-out", "heads"], ["random", "heads"]],
  [2, ["leave-one-out", "heads"], ["duo-attention", "none"]],
  [4, ["key", "heads"], ["random", "heads"]],
  [5, ["leave-one-out", "heads"], ["leave-one-out", "auto"]],
  [6, ["variance", "none"], ["key", "none"]],
];
/** Its third target: the largest loss increase of `leave-one-out` with whole heads. */
const MOST = 0.035, FAMILY = 6;

/** A row per target of third_text.md: the differences, and whether it is met. */
export function tabulateTargets(trials: readonly Trial[]): PlainTable {
  const find = ([rule, whole]: Named) => findTrial(trials, { rule, whole, ratio: RATIO });
  const words = ([rule, whole]: Named) => {
    const trial = find([rule, whole]) ?? { rule, whole } as Trial;
    return wholeOf(trial) === "its own" ? nameOf(trial) : `${nameOf(trial)}, ${wholeOf(trial)} whole`;
  };
  const confidence = each(FAMILY);
  const rows = TARGETS.map(([number, own, other]) => {
    const a = find(own), b = find(other), name = `${words(own)} against ${words(other)}`;
    if (a === undefined || b === undefined) return [String(number), name, "-", "-", "-", "not tested"];
    const better = MEASURES.filter((measure) => compareBy(measure, a, b, confidence) === "better");
    const result = better.length === MEASURES.length
      ? "met"
      : better.length === 0
      ? "missed"
      : `missed: only by ${better.join(" and ")}`;
    return [
      ...[String(number), name],
      ...MEASURES.map((measure) => showDifference(measure, a, b, confidence)),
      result,
    ];
  });
  const own = find(["leave-one-out", "heads"]), found = own && intervalOf("loss", own, undefined, confidence);
  rows.push([
    ...["3", `loss increase of ${words(["leave-one-out", "heads"])}, below ${MOST}`],
    ...[found === undefined ? "-" : showNats(found), "-", "-"],
    found === undefined ? "not tested" : found.high < MOST ? "met" : "missed",
  ]);
  return {
    columns: ["target", "comparison", "loss", "KL", "top-1", "result"],
    left: [true, true, false, false, false, true],
    rows: rows.toSorted(([a], [b]) => Number(a) - Number(b)),
  };
}

/** The tables of the page, by the names that its comments give them. */
export async function makeTables(): Promise<{ readonly [name: string]: string }> {
  const read = (name: string) => hasLines(name) ? readText(name) : [];
  const wikitext = await readWikitext(),
    third = await read("third_text"),
    messages = await read("controls_messages");
  const gemma = { "WikiText-2": await read("gemma_wikitext2"), messages: await read("gemma_messages") };
  const tables: { readonly [name: string]: PlainTable } = {
    losses: tabulateLosses(wikitext),
    whole: tabulateWhole(wikitext),
    methods: tabulateMethods(wikitext),
    "third text": tabulateLosses(third),
    targets: tabulateTargets(third),
    fusion: tabulateFusion({ "third text": third }),
    messages: tabulateLosses(messages),
    "fusion on other texts": tabulateFusion({ "WikiText-2": wikitext, messages }),
    "whole split": tabulateLosses(await read("whole_wikitext2")),
    rivals: tabulateRivals([
      ["WikiText-2", wikitext, RATIO],
      ["messages", await read("rival_messages"), RATIO],
      ["npm manual", third, RATIO],
      ["WikiText-2", await read("fifth_wikitext2"), 0.9],
      ["messages", await read("fifth_messages"), 0.9],
      ["npm manual", await read("fifth_manual"), 0.9],
    ]),
    needles: tabulateNeedles(await Promise.all(LENGTHS.map(readNeedles))),
    "needles once": tabulateNeedles(await Promise.all(LENGTHS.map(readOnce))),
    "gemma whole WikiText": tabulateLosses(gemma["WikiText-2"], 0.5, GEMMA_WHOLE),
    "gemma whole messages": tabulateLosses(gemma.messages, 0.5, GEMMA_WHOLE),
    "gemma whole duo": tabulateDuo(gemma, 0.5),
    "gemma whole fusion": tabulateFusion(gemma, 0.5, GEMMA_WHOLE),
  };
  return Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, formatMarkdown(table)]));
}

export const PAGES = ["retrieval-layers", "gemma"].map((name) =>
  new URL(`../../../docs/results/${name}.md`, import.meta.url)
);

if (import.meta.main) {
  const tables = await makeTables();
  for (const page of PAGES) await Deno.writeTextFile(page, fillPage(await Deno.readTextFile(page), tables));
}
