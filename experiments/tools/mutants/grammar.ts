/**
 * Syntax trees of TypeScript and C++, by tree-sitter: one parser, so that one set of operators serves both. (StrykerJS,
 * the usual tool, does not support C++, and its command runner starts one fixed command for every mutant: it cannot run
 * the dependent tests first, and the whole suite takes minutes.)
 */
import treeSitter, { type Language, type Node, type Parser } from "@vscode/tree-sitter-wasm";

export type { Node };

let ready: Promise<string> | undefined;
const languages = new Map<string, Promise<Language>>();

/** Starts tree-sitter. @returns The folder of the grammars. */
function start(): Promise<string> {
  ready ??= (async () => {
    let folder = "";
    await treeSitter.Parser.init({ locateFile: (name: string, place: string) => (folder = place) + name });
    return folder;
  })();
  return ready;
}

/** The tree of a source file, by the end of its name: `.ts`, else C++. */
export async function parseSource(path: string, text: string): Promise<Node> {
  const name = path.endsWith(".ts") ? "typescript" : "cpp", folder = await start();
  const language = languages.get(name) ?? treeSitter.Language.load(`${folder}tree-sitter-${name}.wasm`);
  languages.set(name, language);
  const parser: Parser = new treeSitter.Parser();
  try {
    return parser.setLanguage(await language).parse(text)!.rootNode;
  } finally {
    parser.delete();
  }
}
