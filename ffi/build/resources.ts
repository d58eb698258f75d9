/** A kernel's resources on a multiprocessor, read from the output of ptxas. */

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
