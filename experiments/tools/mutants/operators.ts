/** The mutation operators: small faults, and where they can be put, on the syntax trees of TypeScript and C++. */
import { type Node, parseSource } from "./grammar.ts";

/** A fault that can be put into a file. */
export interface Mutation {
  /** 1-based line. */
  readonly line: number;
  /** Range of the replaced text, in UTF-16 units. */
  readonly start: number;
  readonly end: number;
  /** The replacement. */
  readonly text: string;
  /** The replaced text and its replacement, each on one line. */
  readonly before: string;
  readonly after: string;
}

const BINARY: { readonly [operator: string]: readonly string[] } = {
  "<": ["<=", ">="],
  "<=": ["<", ">"],
  ">": [">=", "<="],
  ">=": [">", "<"],
  "===": ["!=="],
  "!==": ["==="],
  "==": ["!="],
  "!=": ["=="],
  "+": ["-"],
  "-": ["+"],
  "*": ["/"],
  "/": ["*"],
  "%": ["*"],
  "**": ["*"],
  "&&": ["||"],
  "||": ["&&"],
  "<<": [">>"],
  ">>": ["<<"],
  ">>>": ["<<"],
  "&": ["|"],
  "|": ["&"],
  "^": ["&"],
};
const ASSIGNMENTS: { readonly [operator: string]: string } = {
  "+=": "-=",
  "-=": "+=",
  "*=": "/=",
  "/=": "*=",
  "%=": "*=",
  "|=": "&=",
  "&=": "|=",
  "<<=": ">>=",
  ">>=": "<<=",
  "??=": "=",
  "||=": "=",
};
const CALLS: { readonly [name: string]: string } = {
  "Math.min": "Math.max",
  "Math.max": "Math.min",
  "Math.floor": "Math.ceil",
  "Math.ceil": "Math.floor",
  "std::min": "std::max",
  "std::max": "std::min",
};
const METHODS: { readonly [name: string]: string } = { some: "every", every: "some" };

const words = (text: string): ReadonlySet<string> => new Set(text.match(/\S+/g));

/** Subtrees without behaviour: types, imports, strings, and preprocessor directives. */
const SKIPPED = words(`
  type_annotation type_arguments type_parameters interface_declaration type_alias_declaration
  import_statement literal_type string regex comment preproc_include preproc_def preproc_function_def
  string_literal char_literal static_assert_declaration ambient_declaration template_argument_list
  attribute_declaration`);
/** Calls that report progress to a user. */
const MESSAGES = /^(await )?(\w+[.!?]+)*#?(onProgress|(this\.)?#?progress\??\.\w+)\(/;
/** Folders with figures, and properties of these whose sizes and positions affect only the look. */
const FIGURES = /^(lib\/plot|experiments\/studies)\//;
const LOOKS = words(`
  height width size font margin legend line marker colorbar opacity thickness standoff pad padding
  zeroline nticks ticklen outlinewidth showgrid showlegend title xgap ygap xshift yshift showarrow`);
/** Longest context, in characters, that is shown with a constant. */
const SHORT = 80;
const FUNCTIONS = words(`
  function_declaration function_expression arrow_function method_definition generator_function_declaration
  function_definition lambda_expression`);

/** All mutations of a source, in the order of its text. */
export async function listMutations(path: string, source: string): Promise<Mutation[]> {
  const found: Mutation[] = [];
  const visit = (node: Node, inLooks: boolean) => {
    if (SKIPPED.has(node.type) || isMessage(node)) return;
    const looks = inLooks ||
      (FIGURES.test(path) && node.type === "pair" && LOOKS.has(field(node, "key")));
    if (!looks || !isSize(node)) {
      for (const [part, text] of mutate(node)) found.push(describe(node, part, text));
    }
    const condition = node.type === "preproc_if" ? node.childForFieldName("condition")?.id : undefined;
    for (const child of node.namedChildren) if (child !== null && child.id !== condition) visit(child, looks);
  };
  const root = await parseSource(path, source);
  visit(root, false);
  root.tree.delete();
  return found.sort((a, b) => a.start - b.start);
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

/** A constant is shown with its context, a condition without the code that depends on it. */
function describe(node: Node, part: Node, text: string): Mutation {
  const isList = /^arguments$|^argument_list$|^initializer_list$/.test(node.parent?.type ?? "");
  const around = isList ? node.parent!.parent : node.parent, isShort = around!.text.length <= SHORT;
  const shown = /^(number|number_literal|true|false)$/.test(node.type) && isShort ? around! : node;
  const isHead = node.childForFieldName("condition")?.id === part.id;
  const from = part.startIndex - shown.startIndex, to = part.endIndex - shown.startIndex;
  const before = isHead ? shown.text.slice(0, to) : shown.text;
  return {
    line: part.startPosition.row + 1,
    start: part.startIndex,
    end: part.endIndex,
    text,
    before: oneLine(before),
    after: oneLine(before.slice(0, from) + text + before.slice(to)),
  };
}

/** Whether a node is a number, a flag or arithmetic. */
function isSize(node: Node): boolean {
  return /^(number|true|false)$/.test(node.type) || /^[-+*/]$/.test(field(node, "operator"));
}

/** Whether a node makes an error or reports progress: its words are not behaviour. */
function isMessage(node: Node): boolean {
  if (node.type === "new_expression") return /Error$/.test(field(node, "constructor"));
  return node.type === "expression_statement" && MESSAGES.test(node.text);
}

function field(node: Node, name: string): string {
  return node.childForFieldName(name)?.text ?? "";
}

/** Parts of a node to be replaced, each with its replacement. */
function* mutate(node: Node): Generator<[part: Node, text: string]> {
  const operator = node.childForFieldName("operator");
  const condition = node.childForFieldName("condition");
  switch (node.type) {
    case "binary_expression": {
      if (operator === null) break;
      if (operator.text === "??") yield [node, field(node, "right")];
      if (/^[+]$/.test(operator.text) && node.descendantsOfType(["string", "template_string"]).length > 0) {
        break;
      }
      for (const text of BINARY[operator.text] ?? []) yield [operator, text];
      break;
    }
    case "assignment_expression":
    case "augmented_assignment_expression":
      if (operator !== null && operator.text in ASSIGNMENTS) yield [operator, ASSIGNMENTS[operator.text]!];
      break;
    case "update_expression": {
      if (node.parent?.type === "for_statement") break; // would not end
      const sign = node.children.find((child) => child?.type === "++" || child?.type === "--");
      if (sign) yield [sign, sign.type === "++" ? "--" : "++"];
      break;
    }
    case "unary_expression":
      if (operator?.text === "!" || operator?.text === "-") yield [node, field(node, "argument")];
      break;
    case "number":
    case "number_literal":
      if (node.parent?.type !== "preproc_if") yield [node, increment(node.text)];
      break;
    case "true":
    case "false":
      yield [node, node.type === "true" ? "false" : "true"];
      break;
    case "if_statement":
      if (condition === null || condition.descendantsOfType("declaration").length > 0) break;
      yield [condition, "(true)"];
      yield [condition, "(false)"];
      break;
    case "while_statement":
      if (condition !== null) yield [condition, "(false)"];
      break;
    case "ternary_expression":
    case "conditional_expression":
      if (condition === null) break;
      yield [condition, "true"];
      yield [condition, "false"];
      break;
    case "throw_statement":
      yield [node, ";"];
      break;
    case "expression_statement":
      if (hasEffect(node)) yield [node, ";"];
      break;
    case "return_statement":
      yield* mutateReturn(node);
      break;
    case "call_expression": {
      const callee = node.childForFieldName("function"), method = callee?.childForFieldName("property");
      if (callee && callee.text in CALLS) yield [callee, CALLS[callee.text]!];
      if (method && method.text in METHODS) yield [method, METHODS[method.text]!];
    }
  }
}

/** `0` becomes 1, another number one more; a number with an exponent ten times as large. */
function increment(text: string): string {
  const plain = text.replaceAll(/[_']/g, "");
  if (/^0x/i.test(plain)) {
    return plain.replace(/^0x[0-9a-f]+/i, (digits) => `0x${(BigInt(digits) + 1n).toString(16)}`);
  }
  if (/e[-+]?\d/i.test(plain)) return plain.replace(/e([-+]?\d+)/i, (_, power) => `e${Number(power) + 1}`);
  return plain.replace(
    /^-?\d*/,
    (digits) => digits.startsWith("-") ? String(BigInt(digits) - 1n) : String(BigInt(digits) + 1n),
  );
}

/** Whether a statement calls or assigns. */
function hasEffect(statement: Node): boolean {
  let inner = statement.namedChildren[0] ?? null;
  while (inner?.type === "await_expression" || inner?.type === "yield_expression") {
    inner = inner.namedChildren[0] ?? null;
  }
  if (inner === null || statement.text.startsWith("super(")) return false;
  return /call_expression|assignment_expression|update_expression/.test(inner.type) ||
    statement.namedChildren[0]!.type === "yield_expression";
}

/** A mutated return value by the declared type: a flag is negated, a number is one more, a list is empty. */
function* mutateReturn(node: Node): Generator<[part: Node, text: string]> {
  const value = node.namedChildren[0];
  if (!value || /^(true|false|number|number_literal)$/.test(value.type)) return;
  let place = node.parent;
  while (place !== null && !FUNCTIONS.has(place.type)) place = place.parent;
  const declared = field(place ?? node, "return_type") || field(place ?? node, "type");
  const type = declared.replace(/^:\s*/, "");
  if (/^(boolean|bool)$/.test(type)) yield [value, `!(${value.text})`];
  if (/^(number|float|double|int|size_t|u?int(32|64)_t|std::size_t|std::u?int(32|64)_t)$/.test(type)) {
    yield [value, `(${value.text}) + 1`];
  }
  if (/\[\]$/.test(type) && value.text !== "[]") yield [value, "[]"];
}
