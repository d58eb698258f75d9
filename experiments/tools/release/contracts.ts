/**
 * Contracts with users, as reports of a line per item: the package's API, the C ABI and its header for other engines, the
 * study's file. Each is committed next to its version, so that a test finds every change.
 */
import { STUDY_TABLES } from "../../../lib/sweep/mod.ts";
import { readVersion } from "../../../lib/version.ts";
import { runDeno } from "../../commands/cli/machine/deno.ts";

const ROOT = new URL("../../../", import.meta.url);
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));
const versionIn = (text: string, name: string) =>
  text.match(new RegExp(`#define ${name} "?([\\d.]+)"?`))![1]!;

/** An interface that others rely on. */
interface Contract {
  readonly name: string;
  /** The place of its version. */
  readonly home: string;
  /** Whether its files are in use before the package is released: no change goes without another version. */
  readonly isFixed: boolean;
  version(): Promise<string>;
  /** Its items. */
  report(): Promise<readonly string[]>;
}

type Json = { readonly [name: string]: unknown };
/** Fields of `deno doc` that are no part of an API. */
const NO_API = [
  "location",
  "jsDoc",
  "hasBody",
  "declarationKind",
  "resolution",
  "isOverride",
  "accessibility",
];

/** Parts of a class or an interface that have a line for each item. */
const MEMBERS = ["constructors", "methods", "properties", "callSignatures", "indexSignatures"];

/** A part of `deno doc`, without the fields of {@linkcode NO_API}; types by their short form where that is complete. */
function simplify(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(simplify);
  if (typeof part !== "object" || part === null) return part;
  const { repr, kind, value } = part as Json,
    isPlain = (value as Json | undefined)?.["typeParams"] === undefined;
  if (
    typeof repr === "string" && repr !== "" && isPlain &&
    ["keyword", "literal", "typeRef"].includes(kind as string)
  ) {
    return repr;
  }
  const kept = Object.entries(part).filter(([name, value]) => !NO_API.includes(name) && value !== false);
  return Object.fromEntries(kept.map(([name, value]) => [name, simplify(value)]));
}

/** Whether users cannot see a declaration or member, or must not use it. */
function isHidden({ accessibility, jsDoc }: Json): boolean {
  const { tags = [] } = (jsDoc ?? {}) as { tags?: readonly { readonly kind: string }[] };
  return ["private", "protected"].includes(accessibility as string) ||
    tags.some(({ kind }) => kind === "internal");
}

/** Symbols as `deno doc` lists them. */
type Documented = { readonly name: string; readonly declarations: readonly Json[] };

/** An entry's symbols: a line for each, and for each member of one. */
function describeEntry(entry: string, symbols: readonly Documented[]): string[] {
  const declared = symbols.flatMap(({ name, declarations }) => declarations.map((one) => ({ name, one })));
  return declared.filter(({ one }) => !isHidden(one)).flatMap(({ name, one: { kind, def = {} } }) => {
    const line = (what: string, part: unknown) =>
      `${entry} ${kind} ${what} ${JSON.stringify(simplify(part))}`;
    const [members, own] = [true, false].map((isMember) =>
      Object.entries(def as Json).filter(([part]) => MEMBERS.includes(part) === isMember)
    ) as [[string, unknown][], [string, unknown][]];
    const lines = members.flatMap(([part, list]) =>
      (list as Json[]).filter((member) => !isHidden(member))
        .map((member) => line(`${name}.${member["name"] ?? ""} (${part})`, member))
    );
    return [line(name, Object.fromEntries(own)), ...lines];
  });
}

async function reportApi(): Promise<string[]> {
  const { exports }: { exports: Record<string, string> } = JSON.parse(await read("deno.json"));
  const { nodes } = JSON.parse(await runDeno("describe the API", "doc", "--json", ...Object.values(exports)));
  return Object.entries(exports).flatMap(([entry, path]) =>
    describeEntry(entry, nodes[new URL(path, ROOT).href].symbols)
  );
}

/** Declarations of a header or a .def file, one a line: comments and layout left out. */
function declarationsOf(text: string): string[] {
  const plain = text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "").replaceAll(/\\\n/g, " ");
  const lines = plain.replaceAll(
    /^(TKF_(?:STRUCT|OP|ONCE|CUDA_OP)\()([^)]*)\)/gm,
    (all) => all.replaceAll("\n", " "),
  );
  const kept = lines.split("\n").map((line) => line.replaceAll(/\s+/g, " ").trim());
  return kept.filter((line) =>
    /^(#define TKF_\w+ \S|TKF_(API|STRUCT|OP|ONCE|CUDA_OP)\b|(const char\*|int32_t) tkf_)/.test(line)
  );
}

async function reportAbi(): Promise<string[]> {
  const defs = Array.from(
    (await read("kernels/ops.def")).matchAll(/#include "([\w/]+\.def)"/g),
    ([, path]) => path!,
  );
  const files = ["include/tokenfilter.h", "include/tokenfilter_cuda.h", ...defs];
  const texts = await Promise.all(files.map((file) => read(`kernels/${file}`)));
  return texts.flatMap(declarationsOf).filter((line) =>
    !/^#define TKF_(API|ABI_VERSION|DECLARE_|STRUCT|OP)\b/.test(line)
  );
}

const header = () => read("kernels/include/tokenfilter.h"),
  embedded = () => read("ffi/embed/tokenfilter_filter.h");

export const CONTRACTS: readonly Contract[] = [
  { name: "api", home: "deno.json", isFixed: false, version: readVersion, report: reportApi },
  {
    name: "abi",
    home: "TKF_ABI_VERSION of kernels/include/tokenfilter.h",
    isFixed: true,
    version: async () => versionIn(await header(), "TKF_ABI_VERSION"),
    report: reportAbi,
  },
  {
    name: "filter",
    home: "TKF_FILTER_VERSION of ffi/embed/tokenfilter_filter.h",
    isFixed: true,
    version: async () => versionIn(await embedded(), "TKF_FILTER_VERSION"),
    report: async () =>
      declarationsOf(await embedded()).filter((line) => !/TKF_FILTER_(VERSION|TEXT)/.test(line)),
  },
  {
    name: "study",
    home: "TABLES of lib/sweep/trials/store_tables.ts",
    isFixed: true,
    version: () => Promise.resolve(String(STUDY_TABLES.version)),
    report: () => {
      const { schema, proposals, units } = STUDY_TABLES;
      const statements = [schema, proposals, units].join(";").split(";").map((sql) =>
        sql.replaceAll(/\s+/g, " ").trim()
      );
      return Promise.resolve(statements.filter((sql) => sql !== ""));
    },
  },
];

/** The text that is committed of a contract. */
export function formatContract(version: string, isClosed: boolean, lines: readonly string[]): string {
  const state = isClosed ? "fixed: a change needs another version" : "open until it is released";
  return [`version ${version}, ${state}`, ...[...new Set(lines)].sort(), ""].join("\n");
}

/** Contracts with their texts, committed and now. */
export async function readContracts(folder: string) {
  return await Promise.all(CONTRACTS.map(async (contract) => {
    const path = `${folder}/${contract.name}.txt`, version = await contract.version();
    const committed = await Deno.readTextFile(path).catch(() => "");
    // A release closes the package's contracts; another version opens them again.
    const isClosed = contract.isFixed || committed.startsWith(`version ${version}, fixed`);
    return { contract, path, committed, now: formatContract(version, isClosed, await contract.report()) };
  }));
}

/** Whether a text differs from a committed one that is fixed, under the same version. */
export function isRefused(committed: string, now: string): boolean {
  return committed !== now && / fixed/.test(committed.split("\n")[0]!) &&
    committed.split("\n")[0] === now.split("\n")[0];
}

/** How a difference of a contract is settled; undefined where there is none. */
export function findTrouble(found: Awaited<ReturnType<typeof readContracts>>[number]): string | undefined {
  const { contract: { name, home }, committed, now } = found;
  if (committed === now) return undefined;
  const fix = isRefused(committed, now) ? `raise the version in ${home}, then ` : "";
  return `Cannot release: ${name} differs from experiments/tools/release/${name}.txt: ${fix}note it in CHANGELOG.md and ` +
    "run deno run -A experiments/tools/release/main.ts --renew; git diff shows the lines";
}
