/** Every method, one line each. The order is that of flags, tables and reports. */
import { type AnyRule, isRule, type Method } from "./method.ts";
import { fixedWeight } from "./static.ts";
import { key } from "./key.ts";
import { learned } from "./learned.ts";
import { max } from "./max.ts";
import { mean } from "./mean.ts";
import { min } from "./min.ts";
import { oracle } from "./oracle.ts";
import { product } from "./product.ts";
import { random } from "./random.ts";
import { value } from "./value.ts";
import { variance } from "./variance.ts";

/** Every method. */
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
  learned,
  oracle,
] as const;

/** A method's name. */
export type MethodName = (typeof METHODS)[number]["name"];
/** A rule's name. */
export type RuleName = Exclude<(typeof METHODS)[number], { create: unknown }>["name"];
/** Every method's own options. */
export type OwnOptions =
  ((typeof METHODS)[number] extends infer M
    ? M extends { options?: infer Table } ? (table: NonNullable<Table>) => void : never
    : never) extends (tables: infer All) => void ? All : never;

/** The methods by name. */
const BY_NAME: ReadonlyMap<string, Method> = new Map(METHODS.map((method) => [method.name, method]));
/** Names of all methods. */
export const METHOD_NAMES: readonly MethodName[] = METHODS.map(({ name }) => name);
/** The rules. */
export const RULES: readonly (AnyRule & { readonly name: RuleName })[] = METHODS.filter((method) =>
  isRule(method)
);

/** A method by its name. */
export function methodOf(name: MethodName): Method {
  return BY_NAME.get(name)!;
}

/** The method that a text names, if any. */
export function findMethod(name: string): Method | undefined {
  return BY_NAME.get(name);
}
