/** Provenance of a release: the inputs that its files were made from, as an in-toto statement with SLSA's predicate. */
import { run } from "../../../ffi/build/command.ts";
import { sourceKey } from "../../../ffi/sources.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { PINNED_ZIG } from "./native.ts";

const ROOT = new URL("../../../", import.meta.url);
/** Files that pin downloads. */
const LOCKS = ["deno.lock", "deno.json"];

async function git(...args: string[]): Promise<string> {
  const { success, stdout } = await run("git", args, { cwd: ROOT });
  if (!success) throw new UsageError("Cannot write the provenance: expected a git checkout");
  return stdout.trim();
}

/**
 * The statement, without times or places: the same text for the same tree.
 *
 * @param subjects Names of the files that were made, and their SHA-256.
 */
export async function formatProvenance(
  version: string,
  subjects: readonly (readonly [name: string, sha256: string])[],
): Promise<string> {
  const own = `pkg:jsr/%40tokenfilter/tokenfilter@${version}`,
    { name, version: zig, sha256: wheel } = PINNED_ZIG;
  const locks = await Promise.all(LOCKS.map(async (uri) => {
    return { uri, digest: { sha256: await sha256(await Deno.readFile(new URL(uri, ROOT))) } };
  }));
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: subjects.map(([name, sha256]) => ({ name, digest: { sha256 } })),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: `${own}#deno-task-release`,
        externalParameters: { version, hasLocalChanges: await git("status", "--porcelain") !== "" },
        internalParameters: { cpuSources: await sourceKey("cpu") },
        resolvedDependencies: [
          { uri: own, digest: { gitCommit: await git("rev-parse", "HEAD") } },
          { uri: `pkg:pypi/${name}@${zig}`, digest: { sha256: wheel } },
          ...locks,
        ],
      },
      runDetails: {
        builder: { id: `${own}#experiments/tools/release.ts`, version: { deno: Deno.version.deno } },
      },
    },
  };
  return `${JSON.stringify(statement, null, 2)}\n`;
}
