/** `deno task release`: everything of a release but publishing it. See `deno task release --help`. */
import { run } from "../../ffi/build/command.ts";
import { sourceKey } from "../../ffi/sources.ts";
import { UsageError } from "../../lib/errors.ts";
import { sha256 } from "../../lib/sha256.ts";
import { readVersion } from "../../lib/version.ts";
import { makeFolder, writeWhole } from "../commands/cli/files.ts";
import { parseOwnFlags } from "../commands/cli/flags/parse.ts";
import { findDenoCaches } from "../commands/cli/machine/deno.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { listPackages, lockedPackages } from "./gpu_pack.ts";
import { formatContract, readContracts } from "./release/contracts.ts";
import {
  expectLicenses,
  formatChanges,
  formatSbom,
  listMaterials,
  readChangelog,
} from "./release/materials.ts";
import { buildNative, ensureZig, PLATFORMS, readPlatforms } from "./release/native.ts";
import {
  expectPortable,
  formatPrebuilt,
  listPublished,
  type Packed,
  packNative,
} from "./release/packages.ts";
import { formatProvenance } from "./release/provenance.ts";

const ROOT = new URL("../../", import.meta.url);
const CONTRACTS = new URL("release", import.meta.url).pathname;
/** The list of libraries that the package takes. */
const PREBUILT = "ffi/prebuilt_list.ts";
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

export const USAGE = `Usage: deno task release --dry-run [flags]

Prepares a release, and publishes nothing. It compares the API, the C ABI, the tables of a study and JSON documents with
the reports in experiments/tools/release/. It builds the native libraries with a pinned compiler and packs them for npm. It
lists the files of the JSR package, and writes an SBOM (CycloneDX), provenance (SLSA), the changes by area, and digests. The
last lines are the commands that publish. Exit code 2: a check has failed.

  --dry-run
      check and pack
  --platforms A,B
      of the native libraries: ${Object.keys(PLATFORMS).join(", ")} (those that tests run)
  --renew
      only write the reports anew
  --close
      with --renew: mark them as released, so that a change needs another version
  --out DIR
      folder for packages and reports (results/release)
  --help
      print this`;

/** Writes the contracts down. @throws {UsageError} If one has changed that may not under its version. */
export async function renewContracts(folder: string, close: boolean): Promise<string[]> {
  const found = await readContracts(folder);
  const refused = found.find(({ judgement }) => judgement?.isRefused);
  if (refused !== undefined) throw new UsageError(refused.judgement!.trouble);
  for (const { path, now, contract } of found) {
    const lines = now.trimEnd().split("\n").slice(1);
    await writeWhole(path, close ? formatContract(await contract.version(), true, lines) : now);
  }
  return found.map(({ path }) => path);
}

/** The licence of an npm package, by its copy in Deno's cache. */
async function findLicense(npmCache: string, id: string): Promise<string | undefined> {
  const { folders: [folder] } = await listPackages(npmCache, [id]);
  if (folder === undefined) return undefined;
  const { license, licenses } = JSON.parse(await Deno.readTextFile(`${folder.from}/package.json`));
  return typeof license === "string"
    ? license
    : license?.type ?? licenses?.map(({ type }: { type: string }) => type).join(" OR ");
}

/** Subjects of the commits since the last version. */
async function readSubjects(): Promise<string[]> {
  const last = await run("git", ["describe", "--tags", "--abbrev=0", "--match=v*"], { cwd: ROOT });
  const range = last.success ? [`${last.stdout.trim()}..HEAD`] : [];
  const { success, stdout } = await run("git", ["log", "--no-merges", "--format=%s", ...range], {
    cwd: ROOT,
  });
  if (!success) throw new UsageError("Cannot list the changes: expected a git checkout");
  return stdout.split("\n").filter((subject) => subject !== "");
}

/** Builds and packs the libraries of platforms. */
async function packLibraries(
  out: string,
  platforms: readonly string[],
  version: string,
  onProgress: (message: string) => void,
): Promise<Map<string, Packed>> {
  const zig = await ensureZig(onProgress), packed = new Map<string, Packed>();
  makeFolder(out);
  for (const name of platforms) {
    const library = await buildNative(PLATFORMS[name]!, zig, onProgress);
    await expectPortable(name, library.bytes);
    packed.set(name, await packNative(out, name, library, version));
  }
  return packed;
}

/** Runs the command. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const flags = parseOwnFlags(args, ["out", "platforms"], ["dry-run", "renew", "close"]),
    { out = "results/release", renew, close } = flags;
  if (renew) {
    for (const path of await renewContracts(CONTRACTS, close)) writeLine(Deno.stdout, path);
    return EXIT.ok;
  }
  if (!flags["dry-run"]) {
    throw new UsageError("Cannot publish: expected --dry-run, which prints the commands that publish");
  }
  const progress = new Progress(Deno.stderr), version = await readVersion();
  const platforms = readPlatforms(flags.platforms);
  const troubles = (await readContracts(CONTRACTS)).flatMap(({ judgement }) => judgement?.trouble ?? []);
  if (troubles.length > 0) throw new UsageError(troubles.join("\n"));
  const changes = readChangelog(await read("CHANGELOG.md"), version);
  progress.line("listing the files of the JSR package");
  const files = await listPublished(),
    lock = await read("deno.lock"),
    { npmCache } = await findDenoCaches();
  const texts = await Promise.all(files.filter((path) => path.endsWith(".ts")).map(read));
  const { imports } = JSON.parse(await read("deno.json"));
  const materials = await listMaterials(lock, imports, texts, (id) => findLicense(npmCache, id));
  const here = new Set(lockedPackages(lock));
  expectLicenses(materials, ({ type, name, version }) => type !== "npm" || here.has(`${name}@${version}`));
  const packed = await packLibraries(out, platforms, version, (message) => progress.line(message));
  const digests = await Promise.all(
    files.sort().map(async (path) => {
      return `${await sha256(await Deno.readFile(new URL(path, ROOT)))}  ${path}\n`;
    }),
  );
  const libraries = Object.fromEntries([...packed].map(([name, { library }]) => [name, library]));
  const prebuilt = formatPrebuilt({ sources: await sourceKey("cpu"), libraries });
  const written: Record<string, string> = {
    "jsr_files.sha256": digests.join(""),
    "sbom.json": formatSbom(version, materials),
    "changelog.md": `${changes}\n`,
    "commits.md": formatChanges(await readSubjects()),
    "prebuilt_list.ts": prebuilt,
  };
  const sums = [...packed.values()].map(({ path, sha256 }) => [path.slice(out.length + 1), sha256] as const);
  for (const [name, text] of Object.entries(written)) {
    sums.push([name, await sha256(new TextEncoder().encode(text))]);
  }
  written["provenance.json"] = await formatProvenance(version, sums);
  written["SHA256SUMS"] = sums.map(([name, digest]) => `${digest}  ${name}\n`).join("");
  for (const [name, text] of Object.entries(written)) await writeWhole(`${out}/${name}`, text);
  const names = [...packed.values()].map(({ name, glibc }) => glibc ? `${name} for glibc ${glibc}` : name);
  writeLine(
    Deno.stdout,
    `version ${version}: ${files.length} files for JSR, ${materials.length} dependencies, ${
      names.join(", ")
    } ` +
      `in ${out}; ${describeNext(prebuilt === await read(PREBUILT), out, version, [...packed.values()])}`,
  );
  return EXIT.ok;
}

/** What to type next. @param isListed Whether the package lists these very libraries. */
function describeNext(isListed: boolean, out: string, version: string, packed: readonly Packed[]): string {
  if (!isListed) {
    return `the package lists other libraries. Type, commit, and run this again:
  cp ${out}/prebuilt_list.ts ${PREBUILT}`;
  }
  const publish = packed.map(({ path }) => `  npm publish --access public ${path}\n`);
  return `to publish:
${publish.join("")}  deno publish
  deno task release --renew --close, to be committed and tagged v${version}`;
}

if (import.meta.main) await runTask(main, USAGE);
