/** Templates as lm-evaluation-harness has them in YAML: Jinja expressions over a row's fields. */
import { parse, Template, tokenize } from "@huggingface/jinja";
import type { Fields } from "./fields.ts";

export type Reader<T> = (row: Fields) => T;

interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

/**
 * A template as a function of a row.
 *
 * @throws {RangeError} If it is broken, or has statements.
 */
export function compileTemplate(source: string): Reader<string> {
  if (source.includes("{%")) throw new RangeError(`found a statement in "${source}", expected only {{ }}`);
  let names: Set<string>, template: Template;
  try {
    names = new Set(listNames(parse(tokenize(source)) as unknown as Node));
    template = new Template(source);
  } catch (error) {
    throw new RangeError(`found the template "${source}": ${(error as Error).message}`);
  }
  // The library drops a line end at a template's end, and the harness keeps it.
  const end = source.endsWith("\n") ? "\n" : "";
  return (row) => {
    const missing = [...names].find((name) => !Object.hasOwn(row, name));
    if (missing === undefined) return template.render(row as Record<string, unknown>) + end;
    const fields = Object.keys(row).join(", ");
    throw new RangeError(`found no "${missing}" for "${source}", expected it next to ${fields}`);
  };
}

/** The value of a template that is one expression; undefined where it is more. */
export function compileExpression(source: string): Reader<unknown> | undefined {
  const [, expression] = source.match(/^\s*\{\{((?:(?!\}\}).)+)\}\}\s*$/s) ?? [];
  if (expression === undefined) return undefined;
  // A position in a list; the library has no `index()`.
  const [, list, value] = expression.match(/^\s*(.+)\.index\((.+)\)\s*$/s) ?? [];
  if (list !== undefined) {
    const all = compileValue(list), one = compileValue(value!);
    return (row) => (all(row) as unknown[]).indexOf(one(row));
  }
  return compileValue(expression);
}

function compileValue(expression: string): Reader<unknown> {
  const render = compileTemplate(`{{ (${expression}) | tojson }}`);
  return (row) => JSON.parse(render(row));
}

function listNames(node: Node): string[] {
  if (node.type === "Identifier") return [node.value as string];
  return Object.entries(node).flatMap(([key, part]) => {
    // A name after a dot, or a filter's own name, is no field.
    if (key === "property" && node.computed === false) return [];
    if (key === "filter" || key === "test") return listArguments(part as Node);
    return [part].flat().filter(isNode).flatMap(listNames);
  });
}

const listArguments = ({ args }: Node) => [args].flat().filter(isNode).flatMap(listNames);

const isNode = (part: unknown): part is Node => typeof part === "object" && part !== null && "type" in part;
