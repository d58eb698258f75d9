/** The packages of a release: files of the JSR package, and one npm package with the native library for a platform. */
import type { BuiltLibrary } from "../../../ffi/build/store.ts";
import type { CpuManifest } from "../../../ffi/build/mod.ts";
import { copyForEngines } from "../../../ffi/build/engines.ts";
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { writeArchive } from "../gpu_pack.ts";

const ROOT = new URL("../../../", import.meta.url);
/** Names of npm for those of Deno. */
const CPUS: Readonly<Record<string, string>> = { x86_64: "x64", aarch64: "arm64" };

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

/** A package that was written. */
export interface Packed {
  readonly name: string;
  readonly path: string;
  readonly sha256: string;
  readonly glibc: string | undefined;
}

/** Writes the npm package of a library for this platform, the same bytes for the same library. */
export async function packNative(
  out: string,
  { path, manifest }: Pick<BuiltLibrary<CpuManifest>, "path"> & {
    manifest: Pick<CpuManifest, "abi" | "levels" | "compiler">;
  },
  version: string,
): Promise<Packed> {
  const { os, arch } = Deno.build, cpu = CPUS[arch] ?? arch, name = `@tokenfilter/native-${os}-${cpu}`;
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-pack-" });
  try {
    const files = (await copyForEngines(path, work)).map((file) => file.slice(work.length + 1));
    await Deno.copyFile(new URL("LICENSE", ROOT), `${work}/LICENSE`);
    const library = await Deno.readFile(path), glibc = neededGlibc(library);
    const description = {
      name,
      version,
      description: `The native CPU library of tokenfilter for ${os} on ${cpu}`,
      license: "MIT",
      os: [os],
      cpu: [cpu],
      ...(os === "linux" && { libc: ["glibc"] }),
      files,
      tokenfilter: {
        abi: manifest.abi,
        levels: manifest.levels,
        compiler: manifest.compiler,
        glibc,
        sha256: await sha256(library),
      },
    };
    await Deno.writeTextFile(`${work}/package.json`, `${JSON.stringify(description, null, 2)}\n`);
    const packed = `${out}/${name.slice(1).replace("/", "-")}-${version}.tgz`;
    const all = ["package.json", "LICENSE", ...files].sort();
    await writeArchive(packed, all.map((file) => ({ from: `${work}/${file}`, to: `package/${file}` })));
    return { name, path: packed, sha256: await sha256(await Deno.readFile(packed)), glibc };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}
