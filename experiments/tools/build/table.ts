/** The table of CUDA kernels: registers, shared memory, and the occupancy that follows. */
import { NativeLibraryError } from "../../../lib/errors.ts";
import { CUDA_ARCHS, type CudaManifest, type KernelResources } from "../../../ffi/build/mod.ts";
import { run } from "../../../ffi/build/command.ts";

/** The largest block that a kernel was launched with. */
export interface Launch {
  readonly threads: number;
  /** Bytes of dynamic shared memory. */
  readonly dynamicBytes: number;
}

/** Limits of a multiprocessor. Source: CUDA C++ programming guide, "Technical specifications per compute capability". */
const LIMITS: { readonly [arch: string]: { warps: number; blocks: number; sharedKiB: number } } = {
  sm_80: { warps: 64, blocks: 32, sharedKiB: 164 },
  sm_86: { warps: 48, blocks: 16, sharedKiB: 100 },
  sm_89: { warps: 48, blocks: 24, sharedKiB: 100 },
  sm_90a: { warps: 64, blocks: 32, sharedKiB: 228 },
  sm_100: { warps: 64, blocks: 32, sharedKiB: 228 },
  sm_120: { warps: 48, blocks: 32, sharedKiB: 100 },
};
const REGISTERS = 65536;

/**
 * Fraction of a multiprocessor's warps that can be in flight, in [0, 1]; undefined for an architecture that is not known.
 *
 * @param sharedBytes Fixed and dynamic shared memory of a block.
 */
export function occupancy(
  arch: string,
  registers: number,
  threads: number,
  sharedBytes: number,
): number | undefined {
  const limits = LIMITS[arch];
  if (limits === undefined) return undefined;
  const warps = Math.ceil(threads / 32);
  const registersPerWarp = Math.ceil(registers * 32 / 256) * 256;
  const shared = Math.ceil((sharedBytes + 1024) / 128) * 128; // 1 KiB of each block is the system's
  const blocks = Math.min(
    limits.blocks,
    Math.floor(limits.warps / warps),
    Math.floor(Math.floor(REGISTERS / registersPerWarp / 4) * 4 / warps), // warps are spread over four schedulers
    Math.floor(limits.sharedKiB * 1024 / shared),
  );
  return blocks * warps / limits.warps;
}

/** A kernel's short name: without return type, parameters, and this project's namespace. */
export function shortName(demangled: string): string {
  let depth = 0, end = demangled.length;
  for (let i = demangled.length - 1; i >= 0; i--) { // the parameter list is the last group in parentheses
    if (demangled[i] === ")") depth++;
    if (demangled[i] === "(" && --depth === 0) {
      end = i;
      break;
    }
  }
  return demangled.slice(0, end).replace(/^void |tkf::|\(anonymous namespace\)::/g, "").trim();
}

/**
 * Writes the table: a row per kernel, a column per architecture, each with registers and occupancy.
 *
 * @param builtFor Some of {@linkcode CUDA_ARCHS}; all where left out.
 */
export function formatTable(
  kernels: readonly KernelResources[],
  names: ReadonlyMap<string, string>,
  launches: ReadonlyMap<string, Launch>,
  builtFor: readonly string[] = CUDA_ARCHS,
): string {
  const rows = new Map<string, Map<string, KernelResources>>();
  for (const kernel of kernels) {
    const name = names.get(kernel.symbol) ?? kernel.symbol;
    const row = rows.get(name) ?? new Map();
    rows.set(name, row.set(kernel.arch, kernel));
  }
  const archs = builtFor.map((arch) => `sm_${arch}`);
  const lines = [
    `| kernel | threads | shared memory | ${archs.join(" | ")} |`,
    `| --- | ---: | ---: |${" ---: |".repeat(archs.length)}`,
  ];
  for (const name of [...rows.keys()].sort()) {
    const row = rows.get(name)!, launch = launches.get(name);
    const fixed = Math.max(...Array.from(row.values(), ({ sharedBytes }) => sharedBytes));
    const cells = archs.map((arch) => {
      const kernel = row.get(arch);
      if (kernel === undefined) return "";
      const local = kernel.stackBytes > 0 ? `, ${kernel.stackBytes} B local` : "";
      if (launch === undefined) return `${kernel.registers}${local}`;
      const bytes = kernel.sharedBytes + launch.dynamicBytes;
      const share = occupancy(arch, kernel.registers, launch.threads, bytes);
      return `${kernel.registers} · ${Math.round((share ?? 0) * 100)}%${local}`;
    });
    const shared = launch === undefined ? `${fixed}` : `${fixed} + ${launch.dynamicBytes}`;
    lines.push(`| \`${name}\` | ${launch?.threads ?? ""} | ${shared} | ${cells.join(" | ")} |`);
  }
  return lines.join("\n");
}

/** Names of mangled symbols, by c++filt. */
async function demangle(symbols: readonly string[]): Promise<Map<string, string>> {
  const { success, stdout, stderr } = await run("c++filt", symbols);
  if (!success) throw new NativeLibraryError(`Cannot name kernels: c++filt failed: ${stderr.trim()}`);
  const lines = stdout.trim().split("\n");
  return new Map(symbols.map((symbol, i) => [symbol, shortName(lines[i]!)]));
}

/**
 * Launches that a run of the emulated library has traced (`TKF_EMULATOR_TRACE`), by short name.
 *
 * @param library The library whose lines count: its symbols map an offset to a kernel.
 */
export async function readTrace(trace: string, library: string): Promise<Map<string, Launch>> {
  const { success, stdout, stderr } = await run("nm", ["--defined-only", library]);
  if (!success) throw new NativeLibraryError(`Cannot read "${library}": ${stderr.trim()}`);
  const symbols = new Map<number, string>();
  for (const [, offset, symbol] of stdout.matchAll(/^([0-9a-f]+) [tTwW] (\S+)$/gm)) {
    symbols.set(parseInt(offset!, 16), symbol!);
  }
  const most = new Map<string, Launch>();
  for (const [, offset, threads, bytes, path] of trace.matchAll(/^([0-9a-f]+) (\d+) (\d+) (.*)$/gm)) {
    const symbol = symbols.get(parseInt(offset!, 16));
    if (path !== library || symbol === undefined) continue;
    const known = most.get(symbol) ?? { threads: 0, dynamicBytes: 0 };
    most.set(symbol, {
      threads: Math.max(known.threads, Number(threads)),
      dynamicBytes: Math.max(known.dynamicBytes, Number(bytes)),
    });
  }
  const names = await demangle([...most.keys()]);
  return new Map(Array.from(most, ([symbol, launch]) => [names.get(symbol)!, launch]));
}

/**
 * The table of a build's kernels and architectures.
 *
 * @param launches Traced launches; none: only registers.
 * @returns The table, and the kernels that were not launched.
 */
export async function describeKernels(
  { kernels, archs }: CudaManifest,
  launches: ReadonlyMap<string, Launch> = new Map(),
): Promise<{ readonly table: string; readonly idle: readonly string[] }> {
  const names = await demangle([...new Set(kernels.map(({ symbol }) => symbol))]);
  const idle = [...new Set(names.values())].filter((name) => !launches.has(name));
  return { table: formatTable(kernels, names, launches, archs), idle };
}
