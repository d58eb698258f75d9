/** The npm packages that the published files import, and their SBOM. */
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";

/** The npm packages that texts import by the names of `deno.json`, with their versions. */
export function listDependencies(
  imports: Readonly<Record<string, string>>,
  texts: readonly string[],
): Record<string, string> {
  const used = Object.entries(imports).filter(([name]) => texts.some((text) => text.includes(`"${name}`)));
  const ids = used.map(([, to]) => to.match(/^npm:\/?(@?[^@]+)@([^/]+)/)).filter((id) => id !== null);
  return Object.fromEntries(ids.map(([, name, version]) => [name!, version!]));
}

/** The SBOM (CycloneDX) of a version with dependencies. @throws {UsageError} If npm fails. */
export async function makeSbom(
  version: string,
  dependencies: Readonly<Record<string, string>>,
): Promise<string> {
  const cwd = await Deno.makeTempDir({ prefix: "tokenfilter-sbom-" });
  try {
    const description = { name: "@tokenfilter/tokenfilter", version, license: "MIT", dependencies };
    await Deno.writeTextFile(`${cwd}/package.json`, JSON.stringify(description));
    for (
      const command of [
        "npm install --package-lock-only --ignore-scripts --no-audit --no-fund",
        "npx -y @cyclonedx/cyclonedx-npm@6.0.1 --package-lock-only --output-reproducible --output-file sbom.json",
      ]
    ) {
      const [program, ...args] = command.split(" "), { success, stderr } = await run(program!, args, { cwd });
      if (success) continue;
      const reason = stderr.trim().split("\n")[0];
      throw new UsageError(
        `Cannot write the SBOM: ${program} failed with "${reason}"; it needs Node.js and npm`,
      );
    }
    return `${(await Deno.readTextFile(`${cwd}/sbom.json`)).trimEnd()}\n`;
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
}
