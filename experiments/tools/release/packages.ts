/** The packages of a release: files of the JSR package, and npm packages with the native library for a platform. */
import { copyForEngines } from "../../../ffi/build/engines.ts";
import { run } from "../../../ffi/build/command.ts";
import { packageOf } from "../../../ffi/library/sources.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { type NativeLibrary, PLATFORMS } from "./native.ts";

const ROOT = new URL("../../../", import.meta.url);

/** Files that `deno publish` would send, as paths from the root. @throws {UsageError} If it refuses to. */
export async function listPublished(): Promise<string[]> {
  const flags = ["publish", "--dry-run", "--allow-dirty", "--no-check"];
  const { success, stdout, stderr } = await run(Deno.execPath(), flags, {
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  });
  const report = stdout + stderr;
  if (!success) throw new UsageError(`Cannot publish: ${report.trim()}`);
  return Array.from(
    report.matchAll(/^ +(file:\S+) \([\d.]+\w+\)$/gm),
    ([, url]) => decodeURIComponent(url!.slice(ROOT.href.length)),
  );
}

/** The highest version of glibc that a library asks for, such as "2.34"; undefined where it asks for none. */
export function neededGlibc(library: Uint8Array): string | undefined {
  const text = new TextDecoder("latin1").decode(library);
  const versions = Array.from(
    text.matchAll(/GLIBC_(\d+)\.(\d+)/g),
    ([, major, minor]) => [+major!, +minor!] as const,
  );
  const [highest] = versions.toSorted(([a, b], [c, d]) => c - a || d - b);
  return highest?.join(".");
}

/** Checks that a library for Linux runs on old systems. @throws {UsageError} If it needs a newer or another system library. */
export function expectPortable(platform: string, library: Uint8Array): void {
  const [oldest] = PLATFORMS[platform]!.triple.match(/\d[\d.]*$/)!;
  const text = new TextDecoder("latin1").decode(library), needed = neededGlibc(library) ?? oldest;
  const minor = (version: string) => Number(version.split(".")[1]);
  const newer = minor(needed) > minor(oldest) ? `GLIBC_${needed}` : undefined;
  const found = text.match(/GLIBCXX_[\d.]+|libstdc\+\+\.so/)?.[0] ?? newer;
  if (found === undefined) return;
  throw new UsageError(
    `Cannot release the library for ${platform}: found ${found}, expected glibc ${oldest} at most`,
  );
}

/** A package that was written. */
export interface Packed {
  readonly name: string;
  /** npm's name of the platform. */
  readonly platform: string;
  readonly path: string;
  readonly sha256: string;
  readonly glibc: string | undefined;
  /** SHA-256 of the library in it. */
  readonly library: string;
}

/**
 * Writes the npm package of a library for a platform, the same bytes for the same library.
 *
 * @param platform npm's name of it, such as `linux-x64`.
 */
export async function packNative(
  out: string,
  platform: string,
  { bytes, abi, levels, compiler }: NativeLibrary,
  version: string,
): Promise<Packed> {
  const [os, cpu] = platform.split("-"), name = packageOf(platform);
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-pack-" });
  try {
    const copies = await copyForEngines(bytes, work, os === "darwin" ? "dylib" : "so");
    const files = copies.map((file) => file.slice(work.length + 1));
    await Deno.copyFile(new URL("LICENSE", ROOT), `${work}/LICENSE`);
    const glibc = neededGlibc(bytes), library = await sha256(bytes);
    const description = {
      name,
      version,
      description: `The native CPU library of tokenfilter for ${os} on ${cpu}`,
      license: "MIT",
      os: [os],
      cpu: [cpu],
      ...(os === "linux" && { libc: ["glibc"] }),
      files,
      tokenfilter: { abi, levels, compiler, glibc, sha256: library },
    };
    await Deno.writeTextFile(`${work}/package.json`, `${JSON.stringify(description, null, 2)}\n`);
    const path = `${out}/${name.slice(1).replace("/", "-")}-${version}.tgz`;
    const to = ["--pack-destination", Deno.realPathSync(out)];
    const { success, stderr } = await run("npm", ["pack", "--ignore-scripts", ...to], { cwd: work });
    if (!success) throw new UsageError(`Cannot pack ${name}: npm failed with "${stderr.trim()}"`);
    return { name, platform, path, sha256: await sha256(await Deno.readFile(path)), glibc, library };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** The text of ffi/library/prebuilt_list.ts. @param list Key of the sources, and SHA-256 of the libraries by platform. */
export function formatPrebuilt(
  list: { sources: string; libraries: Readonly<Record<string, string>> },
): string {
  const json = JSON.stringify(list, null, 2).replaceAll(/"$/gm, '",').replaceAll("}\n", "},\n");
  return `/**
 * Prebuilt CPU libraries of a release, which \`deno run -A experiments/tools/release/main.ts --dry-run\` writes anew. After
 * a change of the kernels, until the next release, \`sources\` is another key, and the libraries are not taken.
 */
interface Libraries {
  /** Key of the sources. */
  readonly sources: string;
  /** SHA-256 by platform. */
  readonly libraries: Readonly<Record<string, string>>;
}

export const PREBUILT: Libraries = ${json};
`;
}
