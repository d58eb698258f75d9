/** Everything of a release but publishing it: `deno run -A experiments/tools/release/main.ts --help`. */
import { fileURLToPath } from "node:url";
import { sourceKey } from "../../../ffi/library/sources.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readVersion } from "../../../lib/version.ts";
import { makeFolder, writeWhole } from "../../commands/cli/files.ts";
import { onOff, text, under } from "../../commands/cli/flags/flag.ts";
import { textOf } from "../../commands/cli/flags/parse.ts";
import { runCommand, writeLine } from "../../commands/cli/task.ts";
import { type Asked, plainCommand } from "../../commands/run.ts";
import { findTrouble, formatContract, isRefused, readContracts } from "./contracts.ts";
import { buildNative, ensureZig, PLATFORMS, readPlatforms } from "./native.ts";
import { expectPortable, formatPrebuilt, listPublished, type Packed, packNative } from "./packages.ts";
import { listDependencies, makeSbom } from "./sbom.ts";
import { renewWasm } from "./wasm.ts";

const ROOT = new URL("../../../", import.meta.url);
const CONTRACTS = fileURLToPath(new URL(".", import.meta.url)).replace(/\/$/, "");
/** The list of libraries that the package takes. */
const PREBUILT = "ffi/library/prebuilt_list.ts";
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

const COMMAND = "deno run -A experiments/tools/release/main.ts";

/** Writes the contracts down. @throws {UsageError} If one has changed that may not under its version. */
export async function renewContracts(folder: string, close: boolean): Promise<string[]> {
  const found = await readContracts(folder),
    refused = found.find(({ committed, now }) => isRefused(committed, now));
  if (refused !== undefined) throw new UsageError(findTrouble(refused)!);
  for (const { path, now, contract } of found) {
    const lines = now.trimEnd().split("\n").slice(1);
    await writeWhole(path, close ? formatContract(await contract.version(), true, lines) : now);
  }
  return found.map(({ path }) => path);
}

/** The part of CHANGELOG.md on a version. @throws {UsageError} If there is none. */
export function readChangelog(text: string, version: string): string {
  const section = text.split(/^## /m).find((part) => part.split(/\s/)[0] === version) ?? "";
  if (/^- /m.test(section)) return section.replace(/^.*\n/, "").trim();
  throw new UsageError(`Cannot release ${version}: found no changes under "## ${version}" in CHANGELOG.md`);
}

async function work(_: undefined, { values, progress }: Asked): Promise<void> {
  const out = textOf(values, "out") ?? "results/release",
    onProgress = (message: string) => progress.line(message);
  if (values.has("renew")) {
    const paths = await renewContracts(CONTRACTS, values.has("close"));
    return paths.forEach((path) => writeLine(Deno.stdout, path));
  }
  if (values.has("wasm")) {
    const paths = await renewWasm(await ensureZig(onProgress), onProgress);
    return paths.forEach((path) => writeLine(Deno.stdout, path));
  }
  if (!values.has("dry-run")) {
    throw new UsageError("Cannot publish: expected --dry-run, which prints the commands that publish");
  }
  const version = await readVersion(), platforms = readPlatforms(textOf(values, "platforms"));
  const troubles = (await readContracts(CONTRACTS)).flatMap((found) => findTrouble(found) ?? []);
  if (troubles.length > 0) throw new UsageError(troubles.join("\n"));
  const changes = readChangelog(await read("CHANGELOG.md"), version);
  onProgress("listing the files of the JSR package");
  const files = (await listPublished()).sort();
  const texts = await Promise.all(files.filter((path) => path.endsWith(".ts")).map(read));
  const dependencies = listDependencies(JSON.parse(await read("deno.json")).imports, texts);
  onProgress("writing the SBOM with npm");
  const sbom = await makeSbom(version, dependencies),
    zig = await ensureZig(onProgress),
    packed: Packed[] = [];
  makeFolder(out);
  for (const name of platforms) {
    const library = await buildNative(PLATFORMS[name]!, zig, onProgress);
    if (PLATFORMS[name]!.os === "linux") expectPortable(name, library.bytes);
    packed.push(await packNative(out, name, library, version));
  }
  const libraries = Object.fromEntries(packed.map(({ platform, library }) => [platform, library]));
  const digestOf = async (path: string) =>
    `${await sha256(await Deno.readFile(new URL(path, ROOT)))}  ${path}\n`;
  const written: Record<string, string> = {
    "jsr_files.sha256": (await Promise.all(files.map(digestOf))).join(""),
    "sbom.json": sbom,
    "changelog.md": `${changes}\n`,
    "prebuilt_list.ts": formatPrebuilt({ sources: await sourceKey("cpu"), libraries }),
  };
  const sums = packed.map(({ path, sha256 }) => `${sha256}  ${path.slice(out.length + 1)}\n`);
  for (const [name, text] of Object.entries(written)) {
    await writeWhole(`${out}/${name}`, text);
    sums.push(`${await sha256(new TextEncoder().encode(text))}  ${name}\n`);
  }
  await writeWhole(`${out}/SHA256SUMS`, sums.join(""));
  const names = packed.map(({ name, glibc }) => glibc ? `${name} for glibc ${glibc}` : name).join(", ");
  const counted = `${files.length} files for JSR, ${Object.keys(dependencies).length} dependencies`;
  const publish = packed.map(({ path }) => `  npm publish --access public ${path}\n`).join("");
  const next = written["prebuilt_list.ts"] === await read(PREBUILT)
    ? `to publish:\n${publish}  deno publish\n  ${COMMAND} --renew --close, to be committed and tagged v${version}`
    : `the package lists other libraries. Type, commit, and run this again:\n  cp ${out}/prebuilt_list.ts ${PREBUILT}`;
  writeLine(Deno.stdout, `version ${version}: ${counted}, ${names} in ${out}; ${next}`);
}

export const command = plainCommand({
  name: "release",
  call: COMMAND,
  summary: "Prepares a release, and publishes nothing.",
  usage: "--dry-run [flags]",
  about:
    `It compares the API, the C ABI and the tables of a study with the reports in experiments/tools/release/. It
builds the native libraries with a pinned compiler and packs them for npm. It lists the files of the JSR package, and
writes an SBOM (CycloneDX), the changes, and digests. The last lines are the commands that publish. Exit code 2: a check
has failed. It needs x86-64 Linux and npm. In GitHub Actions or GitLab, npm publish --provenance adds a signed statement.`,
  flags: {
    ...under("What runs", {
      "dry-run": onOff("check and pack"),
      platforms: text(
        "A,B",
        `of the native libraries: ${Object.keys(PLATFORMS).join(", ")} (those that tests run)`,
      ),
      wasm: onOff("only build ffi/wasm/tokenfilter.wasm anew, of the present kernels"),
      renew: onOff("only write the reports anew"),
      close: onOff("with --renew: mark them as released, so that a change needs another version"),
    }),
    ...under("Results", { out: text("DIR", "folder for packages and reports (results/release)") }),
  },
  permissions: "-A",
  read: () => undefined,
  work,
});

if (import.meta.main) await runCommand(command);
