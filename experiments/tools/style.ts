/**
 * Checks of language for docs, help texts, error messages and comments: patterns that plain technical English avoids,
 * the length of sentences, and terms that standard ones have replaced.
 */

export interface StyledText {
  /** Where it is: a path, or what shows it. */
  readonly name: string;
  readonly text: string;
  /** Whether code blocks, tables, links and headings are Markdown's. Default: plain text. */
  readonly markdown?: boolean;
  /** Lab notes keep the words of their day: terms and diary are not checked. */
  readonly log?: boolean;
  /** Whether tables are checked too. Default true; those that a script makes are to be checked there. */
  readonly tables?: boolean;
  /** The line of its file that it begins at. Default 1. */
  readonly line?: number;
}

export interface StyleFault {
  readonly rule: string;
  /** Name and line, `docs/index.md:12`. */
  readonly place: string;
  /** What was matched, or the sentence that is too long. */
  readonly found: string;
  readonly advice: string;
}

interface StyleRule {
  readonly rule: string;
  readonly advice: string;
  readonly patterns: readonly RegExp[];
  /** Whether lab notes may break it. */
  readonly log?: true;
}

/** Words that a sentence may have. */
export const LONGEST_SENTENCE = 35;
/** Words that the sentences of a set of pages may have on average. */
export const MEAN_SENTENCE = 20;

const UNITS =
  "token|layer|chunk|trial|step|sequence|core|sample|head|worker|block|row|second|method|key|weight";
const COUNTS = "nats|rows|bytes|tokens|lines|calls|instructions|operations|products|requests|launches|us|ms";

/** R1, the length of a sentence, is counted by {@linkcode findStyleFaults}. */
export const STYLE_RULES: readonly StyleRule[] = [
  {
    rule: "R1",
    advice: "one idea per sentence: split the chain of clauses",
    patterns: [/(, (since|which|so that|where|whose|whom) [^.]*){2}/i],
  },
  {
    rule: "R2",
    advice: '"per", not "a": nats per token',
    patterns: [new RegExp(`\\b(${COUNTS}|[kMG]B|GFLOPs?) an? (${UNITS})\\b`, "i")],
  },
  {
    rule: "R3",
    advice: '"(no) significant difference"',
    patterns: [/\b(told|tells?|telling) (apart|from)\b/i],
  },
  { rule: "R4", advice: '"only"', patterns: [/\balone\b/i] },
  {
    rule: "R5",
    advice: '"instead of"; "compared with", "with" or "next to"',
    patterns: [/\bin (the|its|their|his)? ?place of\b/i, /\bin (its|their) place\b/i, /\bbeside\b/i],
  },
  {
    rule: "R6",
    advice: "name the thing that the clause stands for",
    patterns: [
      /\bwhat (is|was|are|were|comes?|came|goes|went|stays?|takes?|looks?|does|did|makes?|enters?|lies|waits?)\b(?![^.]*\?)/i,
      /(?:^|[,;:] |\b(?:by|of|from|and|than|as) )what (it|they|we|a|an|the|each|others) \w+\b(?![^.]*\?)/i,
    ],
  },
  {
    rule: "R7",
    advice: '"is evicted", "is removed", "moves"',
    patterns: [
      /\b(keys?|values?|tokens?|rows?|pairs?|heads?|layers?|channels?)\b[^.;:]{0,40}\b(goes|gone)\b/i,
      /\b(goes|gone)\b[^.;:]{0,20}\b(keys?|values?|tokens?|rows?)\b/i,
    ],
  },
  {
    rule: "R8",
    advice: '"who" is for people: name the worker, the process, the method',
    patterns: [
      /\b(whoever|whomever|whom|nobody)\b/i,
      /(?<!\b(?:people|person|users?|authors?|readers?|anyone|someone|contributors?|those|you) )\bwho\b/i,
    ],
  },
  {
    rule: "R9",
    advice: "only people say, know, see, tell or want: a file contains, a flag sets, an error names",
    patterns: [/\b(says?|said|knows?|knew|sees|tells|wants?|thinks?|believes?)\b/i],
  },
  {
    rule: "R10",
    advice: '"tested against", "compared with"',
    patterns: [
      /\bheld (to|against)\b/i,
      /\bholds?\b[^.;:]{0,30}\b(to|against) (the|an?|each|what|it|them)\b/i,
    ],
  },
  {
    rule: "R11",
    advice: "the field's verbs: dequantize, transpose, prefetch, L1, L2, memory-bound",
    patterns: [
      /\b(made|make|making|become|turned into) floats?\b/i,
      /\bturned about\b/i,
      /\b(nearest|second) cache\b/i,
      /\basked for ahead\b/i,
      /\bmeets? (a|the) matri(x|ces)\b/i,
    ],
  },
  {
    rule: "R12",
    advice: "subject and verb first, and a verb in every sentence",
    patterns: [/(?<=^|[.!?] )(Of|Nor|Whose|Likewise|As to)\b/, /\bless chance\b/i, /\bfound no finite\b/i],
  },
  {
    rule: "R13",
    advice: "no diary in reference pages: give the present state",
    patterns: [
      /\b(Later(?= still|[,:] | \()|Since then|Until then|Taken out again|This page said)/,
      /\b(since then|until then|in those days|later still|of that time|before that it was)\b/i,
      /\bsome \d/i,
    ],
    log: true,
  },
];

/** Terms that are not used any more, with the standard one. */
export const RETIRED_TERMS: readonly (readonly [RegExp, string])[] = [
  [/\brivals?\b/i, "baseline method"],
  [
    /\b(its|by|than|beats?|to|of|above|below|from|over) chance\b|\bchance (costs?|loses|gains|finds)\b/i,
    "random baseline",
  ],
  [/\b(above|beside|from|than) dense\b|\bdense model\b/i, "loss increase; full model"],
  [/\brows held\b|\bheld rows\b/i, "KV cache size"],
  [/\b(a|the|of|same|asked|that|each|one|which|any) shares?\b|\bshares? of\b/i, "ratio or fraction"],
  [/\bin (the )?style\b/i, "adapted from"],
  [/\b(re-?)?judge(s|d|ment)?\b/i, "evaluate, decide"],
  [/\blooks? ahead\b|\blook-ahead\b/i, "non-causal"],
  [
    /\blayers that recall\b|\bfew layers recall\b|\bwhole layers that\b/i,
    "retrieval layers, full-cache layers",
  ],
  [/\broofs?\b/i, "roofline, peak"],
  [/\bas published\b/i, "our re-implementation"],
  [/\bd(NLL|error)\b|\bKV (held|dropped)\b|\bas dense\b/, "loss increase, KV cache, KV evicted, identical"],
  [
    /--(products|beside|whole-share|(kv-)?fusion|window)\b/,
    "--matmul, --full-model, --whole-fraction, --method",
  ],
];

/** Names of all rules, as faults have them. */
export const RULE_NAMES: readonly string[] = ["R1", ...STYLE_RULES.slice(1).map(({ rule }) => rule), "terms"];

/** Phrases that a rule may find and that stay: names, and the field's own terms. */
const ALLOWED: readonly RegExp[] = [/\bMany-Shot\b/, /\bThinK\b/];

interface Block {
  readonly line: number;
  readonly kind: "prose" | "cell";
  readonly text: string;
}

/** Inline code, links, tags and intervals as a reader's eye takes them: one word, their text, nothing. */
function readInline(text: string): string {
  return text.replaceAll(/``.*?``|`[^`]*`/g, "X")
    .replaceAll(/\$[^$\n]+\$/g, "X")
    .replaceAll(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replaceAll(/<[^>\n]*>/g, "")
    .replaceAll(/\[[^\]]*\d[^\]]*\]/g, "")
    .replaceAll(/\*\*|(?<=\s)\*(?=\S)|(?<=\S)\*(?=[\s.,;:])/g, "");
}

/** The paragraphs, list items, headings and table cells of a text. */
function blocksOf({ text, markdown = false }: StyledText): Block[] {
  const blocks: Block[] = [], open: { line: number; lines: string[] } = { line: 1, lines: [] };
  const close = () => {
    const joined = open.lines.join(" ").trim();
    if (joined !== "") {
      blocks.push({ line: open.line, kind: "prose", text: markdown ? readInline(joined) : joined });
    }
    open.lines = [];
  };
  const blank = (part: string) => part.replaceAll(/[^\n]/g, "");
  const source = markdown
    ? text.replaceAll(/<!-- of [^>]*: begin -->.*?<!-- of [^>]*: end -->/gs, blank)
      .replaceAll(/^ *```.*?^ *```/gms, blank).replaceAll(/<!--.*?-->/gs, blank).replaceAll(
        /^\$\$.*?^\$\$/gms,
        blank,
      )
    : text;
  for (const [i, line] of source.split("\n").entries()) {
    const isRow = markdown && /^\s*\|/.test(line), starts = /^\s*([-*] |\d+\. |#+ )/.test(line);
    if (line.trim() === "" || isRow || starts || (markdown && open.lines[0]?.startsWith("#"))) close();
    if (isRow) {
      const cells = /^\s*\|[\s:|-]*\|?$/.test(line) ? [] : readInline(line).split(/(?<!\\)\|/);
      blocks.push(...cells.map((cell) => ({ line: i + 1, kind: "cell" as const, text: cell.trim() })));
    } else if (line.trim() !== "") {
      if (open.lines.length === 0) open.line = i + 1;
      open.lines.push(line.replace(/^\s*([-*] |\d+\. )/, "").trim());
    }
  }
  close();
  return blocks;
}

function sentencesOf(text: string): string[] {
  return text.split(/(?<=[.!?]["”)]?)(?<!\b(?:e\.g|i\.e|vs|et al|cf|Fig|No)\.)\s+(?=["“(]?[A-Z0-9])/);
}

function countWords(sentence: string): number {
  return sentence.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)).length;
}

/** What breaks a rule, in the order of the texts. */
export function findStyleFaults(texts: Iterable<StyledText>): StyleFault[] {
  const faults: StyleFault[] = [];
  for (const styled of texts) {
    for (const { line, kind, text } of blocksOf(styled)) {
      if (kind === "cell" && styled.tables === false) continue;
      const place = `${styled.name}:${(styled.line ?? 1) + line - 1}`;
      const words = ALLOWED.reduce((words, phrase) => words.replaceAll(new RegExp(phrase, "g"), "X"), text);
      for (const sentence of sentencesOf(words.replace(/^#+ /, ""))) {
        const length = countWords(sentence);
        if (length > LONGEST_SENTENCE) {
          const found = `${length} words: ${sentence.slice(0, 60)}…`;
          faults.push({
            rule: "R1",
            place,
            found,
            advice: `at most ${LONGEST_SENTENCE} words in a sentence`,
          });
        }
        for (const { rule, patterns, advice, log } of STYLE_RULES) {
          if (log && styled.log || rule === "R6" && text.startsWith("#")) continue;
          const found = patterns.map((pattern) => sentence.match(pattern)?.[0]).find((text) =>
            text !== undefined
          );
          if (found !== undefined) faults.push({ rule, place, found, advice });
        }
        for (const [pattern, advice] of styled.log ? [] : RETIRED_TERMS) {
          const found = sentence.match(pattern)?.[0];
          if (found !== undefined) faults.push({ rule: "terms", place, found, advice });
        }
      }
    }
  }
  return faults;
}

/** Mean number of words in the sentences of texts, those of headings and tables left out. */
export function meanSentence(texts: Iterable<StyledText>): number {
  const lengths = Array.from(texts).flatMap((text) =>
    blocksOf(text).filter(({ kind, text }) => kind === "prose" && !text.startsWith("#"))
      .flatMap(({ text }) => sentencesOf(text)).map(countWords).filter((length) => length > 0)
  );
  return lengths.reduce((sum, length) => sum + length, 0) / Math.max(1, lengths.length);
}
