/** Comments and error messages of TypeScript sources, as texts whose language is checked. */
import { type Node, parseSource } from "../mutants/grammar.ts";
import type { StyledText } from "../style.ts";

/** Inline code and links of a comment as one word; tags as the beginning of a paragraph; no code blocks. */
function readComment(text: string): string {
  const blank = (part: string) => part.replaceAll(/[^\n]/g, "");
  return text.replace(/^\/\*+/, "").replace(/\*+\/$/, "")
    .replaceAll(/^[ \t]*\*(?!\/) ?/gm, "").replaceAll(/^\s*\/\/ ?/gm, "")
    .replaceAll(/^ *```.*?^ *```/gms, blank)
    .replaceAll(/^@(param|template) [\w.[\]]+ ?/gm, "\u0000").replaceAll(
      /^@throws( \{[^}]*\})? ?/gm,
      "\u0000",
    )
    .replaceAll(/@throws \{[^}]*\} ?|@returns /g, "").replaceAll(/^@\w+ ?/gm, "\u0000")
    .replaceAll(/@internal ?/g, "")
    .replaceAll(/\{@link\w* [^}]*\}|`[^`\n]*`|https?:\/\/\S+/g, "X");
}

/** Paragraphs of a comment, each with its first line. */
function paragraphsOf(name: string, text: string, first: number): StyledText[] {
  const texts: StyledText[] = [];
  let open: string[] = [];
  const close = (end: number) => {
    const text = open.join("\n");
    if (text !== "") texts.push({ name, text, line: first + end - open.length });
    open = [];
  };
  const lines = readComment(text).split("\n");
  for (const [i, line] of lines.entries()) {
    if (line.startsWith("\u0000") || line.trim() === "") close(i);
    if (line.trim() !== "") open.push(line.replace("\u0000", ""));
  }
  close(lines.length);
  return texts;
}

/** A string or template without its quotes; what is put into it is one word. */
function readString(node: Node): string {
  return node.namedChildren.map((part) =>
    part!.type === "string_fragment" ? part!.text : part!.type === "escape_sequence" ? " " : "X"
  ).join("");
}

const CONCATENATED = ["binary_expression", "string", "template_string"];
/** How the parts of error messages begin. */
const MESSAGE = /^(Cannot |found |expected )/;

/** A message that is written as one string, or as several with `+` between them; undefined where it is none. */
function readMessage(node: Node): string | undefined {
  if (node.type !== "binary_expression") return CONCATENATED.includes(node.type) ? readString(node) : "X";
  const parts = [node.childForFieldName("left"), node.childForFieldName("right")];
  return parts.map((part) => readMessage(part!)).join("");
}

/** Strings of a source that are error messages: those of `new …Error()`, and those that begin as messages do. */
function messagesOf(name: string, root: Node): StyledText[] {
  const ofErrors = root.descendantsOfType("new_expression").flatMap((made) => {
    const [message] = made!.childForFieldName("arguments")?.namedChildren ?? [];
    return /Error$/.test(made!.childForFieldName("constructor")!.text) && message ? [message] : [];
  });
  const others = root.descendantsOfType(["string", "template_string"]).flatMap((node) => {
    if (!MESSAGE.test(node!.text.slice(1))) return [];
    let whole = node!;
    while (whole.parent?.type === "binary_expression") whole = whole.parent;
    return [whole];
  });
  const seen = new Set<string>();
  return [...ofErrors, ...others].flatMap((node) => {
    const text = readMessage(node!)!, isNew = !seen.has(text);
    seen.add(text);
    return isNew && /\s/.test(text) ? [{ name, text, line: node!.startPosition.row + 1 }] : [];
  });
}

/** Comments as they are read: lines of `//` below each other are one. */
function commentsOf(root: Node): { readonly text: string; readonly line: number }[] {
  const comments: { text: string; line: number; end: number; column: number }[] = [];
  for (const node of root.descendantsOfType("comment")) {
    const { text, startPosition: { row, column }, endPosition } = node!, last = comments.at(-1);
    if (/^\/\/ ?(deno-|@ts-)/.test(text)) continue;
    if (last?.text.startsWith("//") && last.end === row - 1 && last.column === column) {
      Object.assign(last, { text: `${last.text}\n${text}`, end: row });
    } else comments.push({ text, line: row + 1, end: endPosition.row, column });
  }
  return comments;
}

/** The comments of a source of TypeScript, paragraph by paragraph, and its error messages unless it is a test's. */
export async function readStyledSource(path: string, source: string): Promise<StyledText[]> {
  const root = await parseSource(path, source);
  const comments = commentsOf(root).flatMap(({ text, line }) => paragraphsOf(path, text, line));
  return /(_test|testing)\.ts$/.test(path) ? comments : [...comments, ...messagesOf(path, root)];
}
