/** A kernel's resources on a multiprocessor, read from the output of ptxas, and the occupancy that follows. */

export interface KernelResources {
  /** The kernel, mangled. */
  readonly symbol: string;
  /** Such as "sm_90a". */
  readonly arch: string;
  readonly registers: number;
  /** Bytes of shared memory of a fixed size. */
  readonly sharedBytes: number;
  /** Bytes of local memory for arrays that are not in registers. */
  readonly stackBytes: number;
  /** Bytes that are written and read because registers did not suffice. */
  readonly spillBytes: number;
}

/** Reads the lines of `ptxas -v`. */
export function parseResources(output: string): KernelResources[] {
  const found: KernelResources[] = [];
  let symbol = "", arch = "", stackBytes = 0, spillBytes = 0;
  let own = false; // whether the properties that come next are the kernel's, not those of a function that it calls
  for (const line of output.split("\n")) {
    const entry = line.match(/Compiling entry function '([^']+)' for '([^']+)'/);
    if (entry) {
      [, symbol, arch] = entry as unknown as [string, string, string];
      stackBytes = spillBytes = 0;
    }
    const properties = line.match(/Function properties for (\S+)/);
    if (properties) own = properties[1] === symbol;
    const stack = line.match(/(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/);
    if (stack) {
      if (own) stackBytes = Number(stack[1]);
      spillBytes += Number(stack[2]) + Number(stack[3]);
    }
    const used = line.match(/Used (\d+) registers/);
    if (used && symbol !== "") {
      const sharedBytes = Number(line.match(/(\d+) bytes smem/)?.[1] ?? 0);
      found.push({ symbol, arch, registers: Number(used[1]), sharedBytes, stackBytes, spillBytes });
      symbol = "";
    }
  }
  return found;
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
