/** The materials of a release: locked packages with their digests and licences, as CycloneDX, and the changes. */
import { PINNED_BLAS } from "../../../ffi/build/blas.ts";
import { UsageError } from "../../../lib/errors.ts";
import { requirementOf } from "../../../lib/pip.ts";
import { PINNED_ZIG } from "./native.ts";

/** Licences that dependencies may have: those that ask for no more than a notice. */
const ALLOWED = [
  "MIT",
  "ISC",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "0BSD",
  "BlueOak-1.0.0",
  "Unlicense",
];

/** A package of `deno.lock`. */
interface Locked {
  readonly integrity: string;
  readonly dependencies?: readonly string[];
  readonly optionalDependencies?: readonly string[];
}

/** A dependency. */
export interface Material {
  readonly type: "npm" | "jsr" | "pypi";
  readonly name: string;
  readonly version: string;
  /** Algorithm of CycloneDX, and digest in hex. */
  readonly digest?: readonly [algorithm: "SHA-512" | "SHA-256", hex: string];
  readonly license?: string;
  /** Whether the package that is published needs it: other ones are for commands and tests. */
  readonly isRequired: boolean;
}

const nameOf = (id: string) => id.match(/^(@?[^@]+)@/)![1]!,
  versionOf = (id: string) => id.match(/^@?[^@]+@([^_]+)/)![1]!;

/** Ids of the lock that packages need, by name: they themselves, and all below. */
function closure(npm: Readonly<Record<string, Locked>>, names: readonly string[]): Set<string> {
  const found = new Set<string>(), ids = Object.keys(npm);
  const visit = (wanted: string) => {
    const id = ids.find((id) => id === wanted || nameOf(id) === wanted);
    if (id === undefined || found.has(id)) return;
    found.add(id);
    const { dependencies = [], optionalDependencies = [] } = npm[id]!;
    for (const name of [...dependencies, ...optionalDependencies]) visit(name);
  };
  names.forEach(visit);
  return found;
}

/**
 * All dependencies by name, and whether the published package needs them.
 *
 * @param lock The text of `deno.lock`.
 * @param imports Those of `deno.json`.
 * @param sources Texts of the published files.
 * @param licenseOf Gives the licence of an npm package; undefined where there is no copy, as for other systems.
 */
export async function listMaterials(
  lock: string,
  imports: Readonly<Record<string, string>>,
  sources: readonly string[],
  licenseOf: (id: string) => Promise<string | undefined>,
): Promise<Material[]> {
  const { npm }: { npm: Record<string, Locked> } = JSON.parse(lock);
  const isUsed = (name: string) =>
    sources.some((text) => text.includes(name.endsWith("/") ? `"${name}` : `"${name}"`));
  const used = Object.entries(imports).filter(([name]) => isUsed(name));
  const idOf = (specifier: string) => specifier.match(/^\w+:\/?(@?[^@]+@[^/]+)/)![1]!;
  const direct = used.filter(([, to]) => to.startsWith("npm:")).map(([, to]) => nameOf(idOf(to)));
  const required = closure(npm, direct), found = new Map<string, Material>();
  for (const [id, { integrity }] of Object.entries(npm)) {
    const name = nameOf(id), version = versionOf(id), license = await licenseOf(`${name}@${version}`);
    const hex = Uint8Array.fromBase64(integrity.replace("sha512-", "")).toHex();
    const isRequired = required.has(id) || found.get(`${name}@${version}`)?.isRequired === true;
    const own = { type: "npm", name, version, digest: ["SHA-512", hex], isRequired } as const;
    found.set(`${name}@${version}`, { ...own, ...(license !== undefined && { license }) });
  }
  for (const [name, to] of Object.entries(imports).filter(([, to]) => to.startsWith("jsr:"))) {
    const id = idOf(to), isRequired = used.some(([own]) => own === name);
    found.set(id, { type: "jsr", name: nameOf(id), version: versionOf(id), license: "MIT", isRequired });
  }
  for (const [own, license] of [[PINNED_BLAS.package, "BSD-3-Clause"], [PINNED_ZIG, "MIT"]] as const) {
    const { name, version, sha256 } = own, digest = ["SHA-256", sha256] as const;
    found.set(requirementOf(own), { type: "pypi", name, version, digest, license, isRequired: false });
  }
  return [...found.values()].sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/** Whether a licence, or one of a choice of them, is allowed. */
export function isAllowed(license: string): boolean {
  const parts = license.replaceAll(/[()]/g, "").split(/ (OR|AND) /),
    names = parts.filter((_, i) => i % 2 === 0);
  const isIn = (name: string) => ALLOWED.includes(name);
  return parts.includes("AND") ? names.every(isIn) : names.some(isIn);
}

/** Checks licences. @throws {UsageError} If one is unknown or not allowed. */
export function expectLicenses(
  materials: readonly Material[],
  isHere: (material: Material) => boolean,
): void {
  const wrong = materials.filter(isHere).filter(({ license }) =>
    license === undefined || !isAllowed(license)
  );
  if (wrong.length === 0) return;
  const named = wrong.map(({ name, version, license }) =>
    `${name}@${version} ${license ?? "without a licence"}`
  );
  throw new UsageError(`Cannot release: found ${named.join(", ")}; expected ${ALLOWED.join(", ")}`);
}

const purlOf = ({ type, name, version }: Pick<Material, "type" | "name" | "version">) =>
  `pkg:${type}/${name.replace("@", "%40")}@${version}`;

/** The materials as CycloneDX, the same text for the same ones. */
export function formatSbom(version: string, materials: readonly Material[]): string {
  const own = { type: "jsr", name: "@tokenfilter/tokenfilter", version } as const;
  const component = (material: Pick<Material, "type" | "name" | "version" | "license">) => ({
    type: "library",
    "bom-ref": purlOf(material),
    name: material.name,
    version: material.version,
    purl: purlOf(material),
    ...(material.license !== undefined && { licenses: [{ expression: material.license }] }),
  });
  return `${
    JSON.stringify(
      {
        bomFormat: "CycloneDX",
        specVersion: "1.6",
        version: 1,
        metadata: { component: component({ ...own, license: "MIT" }) },
        components: materials.map(({ digest, isRequired, ...material }) => ({
          ...component(material),
          scope: isRequired ? "required" : "optional",
          ...(digest && { hashes: [{ alg: digest[0], content: digest[1] }] }),
        })),
      },
      null,
      2,
    )
  }\n`;
}

/** Subjects of commits, `area: what`, as Markdown by area; without those of bookkeeping. */
export function formatChanges(subjects: readonly string[]): string {
  const areas = new Map<string, string[]>();
  for (const subject of subjects) {
    const [, area, what] = subject.match(/^([\w .,/-]+): (.+)$/) ?? [];
    if (area === undefined || ["size", "style", "fmt", "tests", "digest"].includes(area)) continue;
    areas.set(area, [...areas.get(area) ?? [], what!]);
  }
  const sections = [...areas].sort(([a], [b]) => a < b ? -1 : 1);
  return sections.map(([area, lines]) => `### ${area}\n\n${lines.map((line) => `- ${line}\n`).join("")}`)
    .join("\n");
}

/** The part of CHANGELOG.md on a version. @throws {UsageError} If there is none, or it has lines under no area. */
export function readChangelog(text: string, version: string): string {
  const start = text.search(new RegExp(`^## ${RegExp.escape(version)}\\b`, "m"));
  const [, section] = start < 0
    ? []
    : text.slice(start).match(/^## .*\n([\s\S]*?)(?=^## |$(?![\s\S]))/m) ?? [];
  if (section === undefined || !/^- /m.test(section)) {
    throw new UsageError(`Cannot release ${version}: found no changes under "## ${version}" in CHANGELOG.md`);
  }
  const before = section.slice(0, section.search(/^### /m)).trim();
  if (!/^### /m.test(section) || before !== "") {
    throw new UsageError(
      `Cannot release ${version}: found changes under no area in CHANGELOG.md, expected "### AREA"`,
    );
  }
  return section.trim();
}
