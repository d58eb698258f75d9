/**
 * Counts instructions of kernels in machine code, for `docs/log/gpu-kernels.md`. It needs no GPU.
 *
 *     deno run -A --no-lock experiments/tools/sass.ts UNIT KERNEL [--arch 90a] [--in NAME]
 *
 * UNIT is a path in `kernels/`, such as linear/few_rows.cu; KERNEL is a part of mangled names. It prints each kernel's
 * instructions and those of its loops, by kind. `--in` counts what becomes of a function too, wherever it was inlined.
 */
import { parseArgs } from "node:util";
import { ensureNvcc } from "../../ffi/build/nvcc.ts";
import { CUDA_FLAGS, KERNELS_URL } from "../../ffi/sources.ts";
import { UsageError } from "../../lib/errors.ts";

const KINDS: readonly string[] = [
  ...["HMMA", "HGMMA", "LDG", "LDS", "LDSM", "STG", "STS", "STL", "LDL", "FFMA", "SHFL", "BRA", "BAR"],
];
const SOURCES = /[.](cu|cuh|h)$/;

/** Where the lines of a function begin and end, by the file's name; its body ends at the brace below its first line. */
async function linesOf(name: string): Promise<Map<string, readonly [number, number]>> {
  const found = new Map<string, readonly [number, number]>();
  for await (const folder of Deno.readDir(KERNELS_URL)) {
    if (!folder.isDirectory) continue;
    const url = new URL(`${folder.name}/`, KERNELS_URL);
    for await (const file of Deno.readDir(url)) {
      if (!SOURCES.test(file.name)) continue;
      const lines = (await Deno.readTextFile(new URL(file.name, url))).split("\n");
      const first = lines.findIndex((line) => line.includes("__device__") && line.includes(` ${name}(`));
      if (first < 0) continue;
      const close = `${lines[first]!.match(/^ */)![0]}}`;
      found.set(`${folder.name}/${file.name}`, [first + 1, lines.indexOf(close, first) + 1]);
    }
  }
  return found;
}

interface Instruction {
  readonly text: string;
  /** The lines that it was made of: the innermost, and those that it was inlined at. */
  readonly places: readonly string[];
}

/** Instructions of each kernel, and the number of the instruction behind each label. */
function parse(listing: string) {
  const kernels = new Map<string, { code: Instruction[]; labels: Map<string, number> }>();
  let now = { code: [] as Instruction[], labels: new Map<string, number>() },
    places: string[] = [],
    fresh = true;
  for (const line of listing.split("\n")) {
    const kernel = line.match(/^\s*\.section\s+\.text\.([^,\s]+)/)?.[1];
    if (kernel !== undefined) kernels.set(kernel, now = { code: [], labels: new Map() });
    const place = line.match(/## File "([^"]*)", line (\d+)/);
    if (place !== null) {
      if (fresh) places = [], fresh = false;
      places.push(`${place[1]}:${place[2]}`);
      const outer = line.match(/inlined at "([^"]*)", line (\d+)/);
      if (outer !== null) places.push(`${outer[1]}:${outer[2]}`);
    }
    const label = line.match(/^(\.L_x_\d+):/)?.[1];
    if (label !== undefined) now.labels.set(label, now.code.length);
    const text = line.match(/^\s*\/\*[0-9a-f]+\*\/\s+(.*?);/)?.[1];
    if (text !== undefined) now.code.push({ text, places }), fresh = true;
  }
  return kernels;
}

function describe(code: readonly Instruction[]): string {
  const opcodes = code.map(({ text }) => text.replace(/^@!?U?P\d+\s+/, "").split(/[\s.]/)[0]!);
  const counts = KINDS.map((kind) => [kind, opcodes.filter((opcode) => opcode === kind).length] as const);
  return `${code.length} instructions: ${
    counts.filter(([, count]) => count > 0).map(([kind, count]) => `${count} ${kind}`).join(", ")
  }`;
}

if (import.meta.main) {
  const { positionals: [unit, part], values: { arch, in: name } } = parseArgs({
    allowPositionals: true,
    options: { arch: { type: "string", default: "90a" }, in: { type: "string" } },
  });
  if (unit === undefined || part === undefined) {
    throw new UsageError("Usage: sass.ts UNIT KERNEL [--arch 90a] [--in NAME]");
  }
  const nvcc = await ensureNvcc({ archs: [arch] }, console.error);
  const cubin = await Deno.makeTempFile({ suffix: ".cubin" });
  const run = async (command: string, args: readonly string[]) => {
    const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args] }).output();
    if (!success) throw new Error(`Cannot run ${command}: ${new TextDecoder().decode(stderr)}`);
    return new TextDecoder().decode(stdout);
  };
  try {
    const source = new URL(unit, KERNELS_URL).pathname;
    await run(nvcc.command, [
      ...CUDA_FLAGS,
      "-lineinfo",
      `-arch=sm_${arch}`,
      "-x",
      "cu",
      "-cubin",
      "-o",
      cubin,
      source,
    ]);
    const listing = await run(nvcc.command.replace(/nvcc$/, "nvdisasm"), ["-gi", cubin]);
    const within = name === undefined ? new Map<string, readonly [number, number]>() : await linesOf(name);
    for (const [kernel, { code, labels }] of parse(listing)) {
      if (!kernel.includes(part)) continue;
      console.log(`${kernel}: ${describe(code)}`);
      for (const [at, { text }] of code.entries()) {
        const to = labels.get(text.match(/^@.*\bBRA\b.*(\.L_x_\d+)/)?.[1] ?? "");
        if (to !== undefined && to < at) {
          console.log(`  loop ${to} to ${at}: ${describe(code.slice(to, at + 1))}`);
        }
      }
      if (name === undefined) continue;
      const inside = code.filter(({ places }) =>
        places.some((place) => {
          const [, path = "", line = ""] = place.match(/kernels\/(.*):(\d+)$/) ?? [];
          const [first, last] = within.get(path) ?? [0, -1];
          return first <= Number(line) && Number(line) <= last;
        })
      );
      console.log(`  in ${name}: ${describe(inside)}`);
    }
  } finally {
    await Deno.remove(cubin);
  }
}
