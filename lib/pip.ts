/** Packages of a Python index by version and digest, so that an index can only deliver exactly these files. */

/** @internal A package. */
export interface PinnedPackage {
  readonly name: string;
  readonly version: string;
  /** SHA-256 in hex of its wheel; of several, where platforms have their own. */
  readonly sha256: string | readonly string[];
}

/** A package by name and version, as pip and its users write it. */
export const requirementOf = ({ name, version }: PinnedPackage): string => `${name}==${version}`;

/**
 * Arguments of pip for packages. pip reads digests only from a file, and with one it requires all.
 *
 * @param folder Where the file is written.
 */
export async function requirePackages(
  packages: readonly PinnedPackage[],
  folder: string,
): Promise<["--require-hashes", "--requirement", string]> {
  const path = `${folder}/requirements.txt`;
  const lines = packages.map((own) =>
    `${[requirementOf(own), ...[own.sha256].flat().map((digest) => `--hash=sha256:${digest}`)].join(" ")}\n`
  );
  await Deno.writeTextFile(path, lines.join(""));
  return ["--require-hashes", "--requirement", path];
}

/**
 * Arguments of python3 with which pip puts wheels of packages into a folder, and nothing that they depend on.
 *
 * @param packages Or the path of a file of requirements with digests.
 */
export async function installArguments(
  packages: readonly PinnedPackage[] | string,
  folder: string,
): Promise<readonly string[]> {
  return [
    ...["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"],
    ...["--only-binary", ":all:", "--retries", "2", "--timeout", "30", "--target", folder],
    ...typeof packages === "string"
      ? ["--require-hashes", "--requirement", packages]
      : await requirePackages(packages, folder),
  ];
}

/** The reason why pip failed, in few words; undefined where it printed nothing. */
export function reasonOf(stderr: string): string | undefined {
  const [, expected, found] = stderr.match(/Expected sha256 ([\s\S]*?)\s+Got\s+(\w+)/) ?? [];
  if (found === undefined) return stderr.trim().split("\n").at(-1)?.slice(0, 300) || undefined;
  return `found a package of SHA-256 ${found}, expected ${expected!.replaceAll(/\s+/g, " ")}`;
}
