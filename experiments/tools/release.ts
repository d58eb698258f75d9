/** `deno task release`: everything of a release but publishing it. See `deno task release --help`. */
import { buildCpu } from "../../build.ts";
import { run } from "../../ffi/build/command.ts";
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
import { listPublished, packNative } from "./release/packages.ts";

const ROOT = new URL("../../", import.meta.url);
const CONTRACTS = new URL("release", import.meta.url).pathname;
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

export const USAGE = `Usage: deno task release --dry-run [flags]

Prepares a release, and publishes nothing. It compares the API, the C ABI, the tables of a study and JSON documents with
the reports in experiments/tools/release/. It builds the native library of this platform and packs it for npm. It lists the
files of the JSR package, and writes an SBOM (CycloneDX), the changes by area, and digests. The last lines are the commands
that publish. Exit code 2: a check has failed.

  --dry-run
      check and pack
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

/** Runs the command. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const flags = parseOwnFlags(args, ["out"], ["dry-run", "renew", "close"]),
    { out = "results/release", renew, close } = flags;
  if (renew) {
    for (const path of await renewContracts(CONTRACTS, close)) writeLine(Deno.stdout, path);
    return EXIT.ok;
  }
  if (!flags["dry-run"]) {
    throw new UsageError("Cannot publish: expected --dry-run, which prints the commands that publish");
  }
  const progress = new Progress(Deno.stderr), version = await readVersion();
  const troubles = (await readContracts(CONTRACTS)).flatMap(({ judgement }) => judgement?.trouble ?? []);
  if (troubles.length > 0) throw new UsageError(troubles.join("\n"));
  const changes = readChangelog(await read("CHANGELOG.md"), version);
  progress.line("listing the files of the JSR package");
  const files = await listPublished(),
    lock = await read(".std/npm.lock"),
    { npmCache } = await findDenoCaches();
  const texts = await Promise.all(files.filter((path) => path.endsWith(".ts")).map(read));
  const { imports } = JSON.parse(await read("imports.json"));
  const materials = await listMaterials(lock, imports, texts, (id) => findLicense(npmCache, id));
  const here = new Set(lockedPackages(lock));
  expectLicenses(materials, ({ type, name, version }) => type !== "npm" || here.has(`${name}@${version}`));
  const built = await buildCpu({ level: "all", onProgress: (message) => progress.line(message) });
  makeFolder(out);
  const native = await packNative(out, built, version);
  const digests = await Promise.all(
    files.sort().map(async (path) => {
      return `${await sha256(await Deno.readFile(new URL(path, ROOT)))}  ${path}\n`;
    }),
  );
  const written: Record<string, string> = {
    "jsr_files.sha256": digests.join(""),
    "sbom.json": formatSbom(version, materials),
    "changelog.md": `${changes}\n`,
    "commits.md": formatChanges(await readSubjects()),
  };
  for (const [name, text] of Object.entries(written)) await writeWhole(`${out}/${name}`, text);
  const sums = [[native.path.slice(out.length + 1), native.sha256]];
  for (const [name, text] of Object.entries(written)) {
    sums.push([name, await sha256(new TextEncoder().encode(text))]);
  }
  await writeWhole(`${out}/SHA256SUMS`, sums.map(([name, digest]) => `${digest}  ${name}\n`).join(""));
  writeLine(
    Deno.stdout,
    `version ${version}: ${files.length} files for JSR, ${materials.length} dependencies, ${native.name} for ` +
      `glibc ${native.glibc ?? "of any version"} in ${out}; to publish:
  npm publish --access public ${native.path}
  deno publish
  deno task release --renew --close, to be committed and tagged v${version}`,
  );
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
