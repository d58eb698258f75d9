/** The build commands: flags in, libraries and lines of text out. */
import { UsageError } from "../../lib/errors.ts";
import { ensureBlas } from "./blas.ts";
import { buildCpu } from "./cpu.ts";
import { buildCuda, type CudaManifest, expectArchs } from "./cuda.ts";
import { copyForEngines, prepareOut } from "./engines.ts";
import type { FLAGS, readFlags } from "./flags.ts";
import type { BuiltLibrary } from "./store.ts";

/**
 * Runs the build commands: builds the libraries, and prints their paths.
 *
 * @returns The CUDA library, where `--cuda` is given.
 * @throws {UsageError} If `--arch` has no `--cuda` next to it, `--level` has `--all`, or `--out` takes no files.
 * @throws As {@linkcode buildCpu} and {@linkcode buildCuda} do.
 */
export async function runBuild(
  flags: Omit<ReturnType<typeof readFlags<typeof FLAGS>>, "help">,
  { print, onProgress }: Record<"print" | "onProgress", (line: string) => void>,
): Promise<BuiltLibrary<CudaManifest> | undefined> {
  const { force, cuda, arch, all, level, out } = flags, asked = arch?.split(",");
  if (arch !== undefined && !cuda) throw new UsageError("Cannot use --arch: expected --cuda with it");
  if (all && level !== undefined) throw new UsageError("Cannot use --level: found --all with it");
  if (asked !== undefined) expectArchs(asked);
  if (out !== undefined) await prepareOut(out);
  const options = { force, onProgress };
  const { path, manifest, cached } = await buildCpu({ ...options, level: all ? "all" : level });
  print(`${cached ? "found" : "built"} ${path} (${manifest.levels.join(", ")})`);
  if (manifest.warnings !== "") onProgress(manifest.warnings);
  if (out !== undefined) { for (const copy of await copyForEngines(path, out)) print(`copied ${copy}`); }
  const blas = await ensureBlas(options);
  print(`matrix products: ${blas.path ?? "built-in"} (${blas.reason})`);
  if (!cuda) return undefined;
  const built = await buildCuda({ ...options, archs: asked });
  const { nvcc, oldestDriver, kernels, archs } = built.manifest;
  print(
    `${built.cached ? "found" : "built"} ${built.path} (${archs.map((name) => `sm_${name}`).join(", ")})`,
  );
  print(`${kernels.length} kernels by nvcc ${nvcc}; needs a driver of ${oldestDriver} or later`);
  return built;
}
