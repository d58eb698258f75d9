/** The npm packages that the published files import: their SBOM and licences. */
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";

/** Licences that ask for no more than a notice. */
const ALLOWED = "MIT ISC Apache-2.0 BSD-2-Clause BSD-3-Clause 0BSD BlueOak-1.0.0 Unlicense".split(" ");

/** Parts of a CycloneDX file. */
interface Component {
  readonly name: string;
  readonly version: string;
  readonly licenses?: readonly {
    readonly license?: { readonly id?: string };
    readonly expression?: string;
  }[];
}

/** The npm packages that texts import by the names of `deno.json`, with their versions. */
export function listDependencies(
  imports: Readonly<Record<string, string>>,
  texts: readonly string[],
): Record<string, string> {
  const used = Object.entries(imports).filter(([name]) => texts.some((text) => text.includes(`"${name}`)));
  const ids = used.map(([, to]) => to.match(/^npm:\/?(@?[^@]+)@([^/]+)/)).filter((id) => id !== null);
  return Object.fromEntries(ids.map(([, name, version]) => [name!, version!]));
}

/** Whether a licence, or one of a choice of them, is allowed. */
export function isAllowed(license: string): boolean {
  const parts = license.replace(/^\((.*)\)$/, "$1").split(" OR ");
  return parts.some((part) => part.split(" AND ").every((one) => ALLOWED.includes(one)));
}

/** Checks the licences of an SBOM. @throws {UsageError} If one is missing, or asks for more than a notice. */
export function expectLicenses(components: readonly Component[] = []): void {
  const wrong = components.flatMap(({ name, version, licenses = [] }) => {
    const names = licenses.map(({ license, expression }) =>
      license?.id ?? expression ?? "an unknown licence"
    );
    const isFine = names.length > 0 && names.every(isAllowed);
    return isFine ? [] : [`${name}@${version} ${names.join(", ") || "without a licence"}`];
  });
  if (wrong.length === 0) return;
  throw new UsageError(
    `Cannot release dependencies: found ${wrong.join(", ")}; expected ${ALLOWED.join(", ")}`,
  );
}

/** The SBOM (CycloneDX) of a version with dependencies. @throws {UsageError} If npm fails, or a licence is not allowed. */
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
    const text = await Deno.readTextFile(`${cwd}/sbom.json`);
    expectLicenses(JSON.parse(text).components);
    return `${text.trimEnd()}\n`;
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
}
