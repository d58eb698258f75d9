/** `generate_until` of lm-evaluation-harness: what a model generates, filters of the text, and its scores. */
import type { ItemMetric } from "../../../lib/eval/items/item_metrics.ts";
import { strip } from "../../../lib/eval/items/python_text.ts";
import { matchesExactly, rougeL, wordF1 } from "../../../lib/eval/items/text_metrics.ts";
import { type Fields, show } from "./fields.ts";
import { compilePython, findAll } from "./python_pattern.ts";

/** Score of a text for one answer; of several answers the best one counts. */
type TextScore = (text: string, answer: string) => number;
type TextFilter = (text: string) => string;

/** What is generated for a prompt. */
export interface Generation {
  readonly maxTokens: number;
  readonly until: readonly string[];
}

/** Tokens that the harness generates by default. */
const MAX_TOKENS = 256;

/** Keys of a task that generates, besides those of every task. */
export const GENERATION_KEYS = ["generation_kwargs", "filter_list", "process_results", "repeats"];

const EXACT = { label: "exact match", help: "fraction of items whose text is an answer" };
const F1 = { label: "F1", help: "F1 of the text's words and those of its nearest answer" };
const ROUGE = { label: "ROUGE-L", help: "ROUGE-L of the text and its nearest answer" };

const define = (name: string, { label, help }: typeof EXACT, score: TextScore): ItemMetric => ({
  ...{ name, label, help, better: "higher", digits: 1, percent: true },
  of: ({ sought }, { generated }) => Math.max(...sought!.answers.map((answer) => score(generated!, answer))),
});

/** Metrics of generated texts that a module may name. */
export const TEXT_METRICS: { readonly [name: string]: ItemMetric } = {
  exact_match: define("exact_match", EXACT, (text, answer) => Number(matchesExactly(text, answer))),
  f1: define("f1", F1, (text, answer) => wordF1(strip(text), answer)),
  rouge_l: define("rouge_l", ROUGE, (text, answer) => rougeL(strip(text), answer)),
};

/** LongBench's own functions: the metrics that each gives. They read the row's `answers`. */
const FUNCTIONS = Object.fromEntries(
  ([["qa_f1", F1, wordF1], ["rouge", ROUGE, rougeL]] as const).flatMap(([name, said, score]) => {
    const own: TextScore = (text, answer) => score(strip(text), answer), key = `${name}_score`;
    return [
      [`metrics.get_${key}`, { [key]: { said, score: own } }],
      [`metrics.get_${name}_with_score`, { score: { said, score: own }, [key]: { said, score: own } }],
    ];
  }),
);

/** Reads `generation_kwargs`. @throws {RangeError} If it asks for more than greedy decoding. */
export function readGeneration(kwargs: unknown): Generation {
  const {
    until = ["\n\n"],
    max_gen_toks: maxTokens = MAX_TOKENS,
    do_sample: samples = false,
    temperature: _,
    ...rest
  } = Object(kwargs) as Fields;
  const unknown = Object.keys(rest), stops = [until].flat();
  if (unknown.length > 0) throw refuse("generation_kwargs", rest, "until, max_gen_toks and do_sample");
  if (samples !== false) throw refuse("do_sample", samples, "false: texts are decoded greedily");
  if (!Number.isInteger(maxTokens) || maxTokens as number < 1) {
    throw refuse("max_gen_toks", maxTokens, "a whole number from 1 on");
  }
  if (!stops.every((stop) => typeof stop === "string" && stop !== "")) {
    throw refuse("until", until, "texts that are not empty");
  }
  return { maxTokens: maxTokens as number, until: stops as string[] };
}

/**
 * The metrics of a task that generates: each of its list, for each of its filters.
 *
 * @throws {RangeError} If a metric, filter or function is unknown.
 */
export function readTextMetrics(yaml: Fields): ItemMetric[] {
  const { metric_list: list, process_results: process } = yaml;
  const known = process === undefined ? undefined : FUNCTIONS[String(process).replace(/^!function /, "")];
  if (process !== undefined && known === undefined) {
    throw refuse("process_results", process, `one of ${Object.keys(FUNCTIONS).join(", ")}`);
  }
  const metrics = [list ?? [{ metric: "exact_match" }]].flat().map((entry) => {
    const { metric, aggregation = "mean", higher_is_better: isHigher = true, ...rest } = Object(entry);
    if (aggregation !== "mean" || isHigher !== true) {
      throw refuse("metric_list", entry, "means, higher is better");
    }
    const own = known?.[metric];
    if (own !== undefined && Object.keys(rest).length === 0) return { name: metric as string, ...own };
    if (known === undefined && metric === "exact_match") {
      return { name: "exact_match", said: EXACT, score: readExactMatch(rest) };
    }
    throw refuse("metric_list", entry, known ? Object.keys(known).join(" or ") : "exact_match");
  });
  return readFilters(yaml.filter_list).flatMap(({ name: filter, apply }) =>
    metrics.map(({ name, said, score }) => {
      const scored: TextScore = (text, answer) => score(apply(text), answer);
      if (filter === "none") return define(name, said, scored);
      return define(`${name}/${filter}`, { ...said, label: `${said.label} (${filter})` }, scored);
    })
  );
}

function readExactMatch(options: Fields): TextScore {
  const { regexes_to_ignore: patterns = [], ignore_case, ignore_punctuation, ignore_numbers, ...rest } =
    options;
  if (Object.keys(rest).length > 0) throw refuse("exact_match", rest, "what it ignores");
  const ignored = {
    patterns: [patterns].flat().map((pattern) => compilePython(String(pattern))),
    ...{
      case: ignore_case === true,
      punctuation: ignore_punctuation === true,
      numbers: ignore_numbers === true,
    },
  };
  return (text, answer) => Number(matchesExactly(text, answer, ignored));
}

function readFilters(list: unknown = [{ name: "none", filter: [] }]) {
  return [list].flat().map((entry) => {
    const { name, filter } = Object(entry);
    if (typeof name !== "string" || !Array.isArray(filter)) {
      throw refuse("filter_list", entry, "a name and a list of filters");
    }
    const steps = filter.map(readFilter);
    return { name, apply: (text: string) => steps.reduce((left, step) => step(left), text) };
  });
}

function readFilter(entry: unknown): TextFilter {
  const { function: name, ...options } = Object(entry);
  if (name === "regex") {
    const {
      regex_pattern: source = "#### (\\-?[0-9\\.\\,]+)",
      group_select: group = 0,
      fallback = "[invalid]",
    } = options;
    const pattern = compilePython(String(source));
    return (text) => {
      const all = findAll(pattern, text);
      if (all.length === 0) return fallback;
      // A list's index as Python has it: -1 is the last one.
      const match = all.at(group);
      if (match === undefined) throw refuse("group_select", group, `one of ${all.length} matches`);
      return match.length === 1 ? strip(match[0]!) : strip(match.find((part) => part !== "") ?? fallback);
    };
  }
  const plain: { readonly [name: string]: TextFilter } = {
    take_first: (text) => text,
    remove_whitespace: strip,
    lowercase: (text) => text.toLowerCase(),
    uppercase: (text) => text.toUpperCase(),
  };
  if (Object.hasOwn(plain, name) && Object.keys(options).length === 0) return plain[name]!;
  throw refuse("filter_list", entry, `regex, ${Object.keys(plain).join(", ")}`);
}

/** The answers of a row: a text, a number, or several. @throws {RangeError} If it has none. */
export function readAnswers(value: unknown): string[] {
  const answers = [value].flat().map((answer) => Number.isInteger(answer) ? String(answer) : answer);
  if (answers.length > 0 && answers.every((answer) => typeof answer === "string")) return answers as string[];
  throw refuse("answers", value, "a text or several");
}

const refuse = (key: string, value: unknown, expected: string) =>
  new RangeError(`found ${show(value)} for "${key}", expected ${expected}`);
