/** Every method, one line each. The order is that of flags, tables and reports. */
import { type AnyRule, type EvictionMethod, isEviction, isRule, type Method } from "./protocol/method.ts";
import type { Reads } from "../filter/rule.ts";
import { adakv } from "./eviction/adakv.ts";
import { attentionDrop } from "./model_pruning/attention_drop.ts";
import { cur } from "./keys/cur.ts";
import { curdkv } from "./eviction/curdkv.ts";
import { duoAttention } from "./eviction/duo_attention.ts";
import { expectedAttention } from "./eviction/expected_attention.ts";
import { fixedWeight } from "./rules/static.ts";
import { flap } from "./model_pruning/flap.ts";
import { foresight } from "./eviction/foresight.ts";
import { h2o } from "./eviction/h2o.ts";
import { inputNorm } from "./rules/input_norm.ts";
import { key } from "./rules/key.ts";
import { keydiff } from "./keys/keydiff.ts";
import { keydiffCache } from "./eviction/keydiff_cache.ts";
import { keydiffMerge } from "./eviction/keydiff_merge.ts";
import { knorm } from "./keys/knorm.ts";
import { lagkv } from "./eviction/lagkv.ts";
import { learned } from "./rules/learned.ts";
import { leaveOneOut } from "./keys/leave_one_out.ts";
import { leverage } from "./eviction/leverage.ts";
import { max } from "./rules/max.ts";
import { mean } from "./rules/mean.ts";
import { min } from "./rules/min.ts";
import { mlpDrop } from "./model_pruning/mlp_drop.ts";
import { missed } from "./keys/missed.ts";
import { oracle } from "./rules/oracle.ts";
import { periodic } from "./rules/periodic.ts";
import { probePruning } from "./model_pruning/probe_pruning.ts";
import { product } from "./rules/product.ts";
import { random } from "./rules/random.ts";
import { randomProtected } from "./rules/random_protected.ts";
import { razorAttention } from "./eviction/razor_attention.ts";
import { received } from "./keys/received.ts";
import { shortgpt } from "./model_pruning/shortgpt.ts";
import { sleb } from "./model_pruning/sleb.ts";
import { snapkv } from "./eviction/snapkv.ts";
import { streaming } from "./eviction/streaming.ts";
import { tova } from "./eviction/tova.ts";
import { value } from "./rules/value.ts";
import { variance } from "./rules/variance.ts";
import { wandaSp } from "./model_pruning/wanda_sp.ts";

export const METHODS = [
  variance,
  mean,
  fixedWeight,
  key,
  value,
  min,
  max,
  product,
  random,
  randomProtected,
  periodic,
  inputNorm,
  learned,
  oracle,
] as const;

/** Rules of only the key side: they select keys and values to evict, never attention to skip. */
export const KEY_RULES = [received, missed, leaveOneOut, keydiff, cur, knorm] as const;

/** Methods of the key side that go through the cache again at every block start. */
export const EVICTIONS = [
  streaming,
  h2o,
  tova,
  snapkv,
  expectedAttention,
  leverage,
  lagkv,
  curdkv,
  keydiffCache,
  keydiffMerge,
  adakv,
  duoAttention,
  razorAttention,
  foresight,
] as const;

/** Methods that alter the model: once, by a calibration text, or behind the warm-up of each sequence. */
export const OFFLINE = [
  attentionDrop,
  mlpDrop,
  shortgpt,
  sleb,
  flap,
  wandaSp,
  probePruning,
] as const;

const FUSIONS: readonly (Method & { readonly name: MethodName })[] = [...METHODS, ...OFFLINE];

/** @internal */
type Listed = (typeof METHODS | typeof OFFLINE)[number];
/** A method's name. */
export type MethodName = Listed["name"];
/** @internal A rule's name. */
export type RuleName = Exclude<(typeof METHODS)[number], { create: unknown }>["name"];
/** @internal Name of the method that decides keys and values. */
export type KeyRuleName =
  | Exclude<RuleName, "learned" | "input-norm">
  | (typeof KEY_RULES)[number]["name"]
  | (typeof EVICTIONS)[number]["name"];
export type OwnOptions =
  (Listed extends infer M ? M extends { options?: infer Table } ? (table: NonNullable<Table>) => void : never
    : never) extends (tables: infer All) => void ? All : never;

const BY_NAME: Map<string, Method> = new Map(
  [...FUSIONS, ...KEY_RULES, ...EVICTIONS].map((method) => [method.name, method]),
);
/** Names of the methods that decide whose attention is skipped. */
export const METHOD_NAMES: readonly MethodName[] = METHODS.map(({ name }) => name);
/** Names that `fusion` may have: those, and methods that alter the model. */
export const FUSION_NAMES: readonly MethodName[] = FUSIONS.map(({ name }) => name);
export const RULES: readonly (AnyRule & { readonly name: RuleName })[] = METHODS.filter((method) =>
  isRule(method)
);
/** Names of the rules that the key side takes: those that look at only keys and values, and its own. */
export const KEY_RULE_NAMES: readonly KeyRuleName[] = [
  ...RULES.filter(({ memory, reads }) =>
    memory?.observe === undefined && !reads?.({} as never).includes("residual")
  ),
  ...KEY_RULES,
  ...EVICTIONS,
].map(({ name }) => name as KeyRuleName);

export const KV_FUSIONS: readonly ("same" | "none" | KeyRuleName)[] = ["same", "none", ...KEY_RULE_NAMES];

/** Inputs of rules of keys and values. */
export const KEY_READS: readonly Reads[] = ["similarity", "key", "value", "attention", "change"];
/** Inputs of a rule that a user brings: it remembers nothing, and sees no queries and outputs. */
export const OWN_READS: readonly Reads[] = [...KEY_READS, "residual", "normed"];

/** A rule or an eviction that a user brought in a file. */
export interface OwnRule {
  readonly rule: AnyRule | EvictionMethod;
  readonly sha256: string;
}

let own: readonly OwnRule[] = [];

/** The rules of the user's own, in the order of their files. */
export function ownRules(): readonly OwnRule[] {
  return own;
}

/** The digest of the files of rules in records, joined by + where there are several; undefined where there is none. */
export function ownRulesSha256(): string | undefined {
  return own.length === 0 ? undefined : own.map(({ sha256 }) => sha256).join("+");
}

/**
 * Adds rules of the user's own to the list, after all others and instead of those before. One that reads no queries is a rule
 * of keys and values too, and an eviction is of these alone. Everything that reads the list (options, records, tables, plots) then includes them. It is meant for
 * a process that runs one command.
 *
 * @throws {RangeError} If the name of one is another method's: the list is then without rules of the user's own.
 */
export function setOwnRules(next: readonly OwnRule[]): void {
  const lists = [METHOD_NAMES, FUSION_NAMES, KEY_RULE_NAMES, KV_FUSIONS] as string[][],
    rules = RULES as AnyRule[];
  for (const { rule: { name } } of own.toReversed()) {
    BY_NAME.delete(name);
    lists.filter((names) => names.at(-1) === name).forEach((names) => names.pop());
    if (rules.at(-1)?.name === name) rules.pop();
  }
  own = [];
  for (const one of next) {
    const { rule } = one;
    if (BY_NAME.has(rule.name)) {
      setOwnRules([]);
      throw new RangeError(
        `Cannot take the rule "${rule.name}" in: there is a method of that name, expected another`,
      );
    }
    own = [...own, one];
    BY_NAME.set(rule.name, rule);
    if (isEviction(rule)) {
      for (const names of lists.slice(2)) names.push(rule.name);
      continue;
    }
    const ofKeys = (rule.reads?.({} as never) ?? []).every((what) => KEY_READS.includes(what));
    for (const names of ofKeys ? lists : lists.slice(0, 2)) names.push(rule.name);
    rules.push(rule);
  }
}

export function methodOf(name: MethodName | KeyRuleName): Method {
  return BY_NAME.get(name) ?? absentRule(name);
}

export function keyMethodOf(name: KeyRuleName): AnyRule | EvictionMethod {
  return methodOf(name) as AnyRule | EvictionMethod;
}

/** Stands for a method that a record names and that is not here: a user's own rule without its file, or one that was deleted. */
function absentRule(name: string): AnyRule {
  return {
    name,
    help: "",
    score: () => {
      throw new RangeError(`Cannot score by "${name}": its file is not here, expected --rule FILE`);
    },
  };
}

export function findMethod(name: string): Method | undefined {
  return BY_NAME.get(name);
}
