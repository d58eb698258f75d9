/**
 * Random calls of every op of a library: none may crash, hang, write outside its buffers, or refuse without a message.
 * They are made in a process of its own that prints each call's seed first, so that a crash has a seed too:
 * `deno run -A --no-check kernels/testing/fuzz/fuzz.ts cpu|ptx SEED CALLS`.
 */
import { type Argument, type Arguments, STATUS } from "../../../ffi/library/abi.ts";
import { NativeContext, supportedLevels } from "../../../ffi/cpu/context.ts";
import type { KernelContext } from "../../../ffi/context.ts";
import { openTestDevice } from "../../../ffi/cuda/testing.ts";
import type { DeviceMemory } from "../../../ffi/cuda/memory.ts";
import { openCpuLibrary, text } from "../../../ffi/library/library.ts";
import { type Calls, Draw } from "./draw.ts";

/** The calls of all ops, from the folders that the list of ops names. */
export async function readCalls(): Promise<Calls> {
  const list = await Deno.readTextFile(new URL("../../ops.def", import.meta.url));
  const folders = Array.from(list.matchAll(/#include "(\w+)\/\w+\.def"/g), ([, folder]) => folder!);
  const modules = folders.map((folder) => import(new URL(`../../${folder}/cases.ts`, import.meta.url).href));
  return Object.assign({}, ...(await Promise.all(modules)).map(({ CALLS }) => CALLS));
}

/** The arguments with all arrays in memory of a device, as far from an aligned address as here, and what frees it. */
function onDevice(args: Arguments, memory: DeviceMemory): { placed: Arguments; free: () => void } {
  const buffers = new Map<ArrayBufferView, { address: bigint; free: () => void }>();
  const place = (value: Argument): Argument => {
    if (value === null || typeof value !== "object") return value;
    if (!ArrayBuffer.isView(value)) {
      return Object.fromEntries(Object.entries(value).map(([name, own]) => [name, place(own as Argument)]));
    }
    const shift = value.byteOffset % 64, bytes = value.byteLength;
    if (bytes === 0) return value;
    if (!buffers.has(value)) {
      const buffer = memory.alloc(shift + bytes);
      memory.write(buffer, value, shift);
      const address = Deno.UnsafePointer.value(buffer.address) + BigInt(shift);
      buffers.set(value, { address, free: () => buffer[Symbol.dispose]() });
    }
    return { address: Number(buffers.get(value)!.address), bytes };
  };
  return { placed: place(args) as Arguments, free: () => buffers.forEach(({ free }) => free()) };
}

/** Contexts that calls are made with, and what follows each call. */
async function openContexts(
  library: string,
): Promise<{ contexts: KernelContext[]; memory?: DeviceMemory; after: () => number }> {
  if (library === "ptx") {
    const { context, memory } = await openTestDevice(), { symbols } = context.library;
    const after = () => symbols.tkf_cuda_synchronize(context.pointer); // what kernels found wrong
    return { contexts: [context], memory, after };
  }
  const cpu = await openCpuLibrary();
  const contexts = supportedLevels(cpu).flatMap((level) =>
    [1, 3].map((threads) => new NativeContext(cpu, { level, threads }))
  );
  return { contexts, after: () => STATUS.ok };
}

/** Makes `count` calls from a seed on, and prints at last how often each op took one or refused it. */
async function makeCalls(library: string, first: number, count: number): Promise<void> {
  const { contexts, memory, after } = await openContexts(library), calls = await readCalls();
  const { ops, symbols } = contexts[0]!.library;
  const names = [...ops.keys()];
  const tally = Object.fromEntries(names.map((name) => [name, [0, 0]]));
  const print = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
  for (let seed = first; seed < first + count; seed++) {
    print(`${seed}`);
    const d = new Draw(seed), name = names[seed % names.length]!, op = ops.get(name)!;
    let args = d.guard(calls[name]!(d));
    for (let spoiled = d.pick([0, 0, 1, 1, 2, 4]); spoiled > 0; spoiled--) args = d.spoil(op.layout, args);
    const context = d.pick(contexts), pointer = d.once(60) ? null : context.pointer;
    const { placed, free } = memory === undefined ? { placed: args, free: () => {} } : onDevice(args, memory);
    const status = op.call(pointer, placed, context.locate);
    const message = text(symbols.tkf_context_message(pointer));
    const statuses: readonly number[] = Object.values(STATUS);
    if (
      !statuses.includes(status) ||
      (pointer === null) !== (status === STATUS.null && message.includes("no context"))
    ) {
      throw new Error(`seed ${seed}: ${name} gave status ${status}, "${message}"`);
    }
    if (status !== STATUS.ok && !/^found /.test(message)) {
      throw new Error(`seed ${seed}: ${name} refused with status ${status} and "${message}"`);
    }
    if (!statuses.includes(after()) || !d.guardsHold()) {
      throw new Error(`seed ${seed}: ${name} gave status ${status}, guards held: ${d.guardsHold()}`);
    }
    free();
    tally[name]![status === STATUS.ok ? 0 : 1]!++;
  }
  print(JSON.stringify(tally));
}

if (import.meta.main) {
  const [library, first, count] = Deno.args;
  await makeCalls(library!, Number(first), Number(count));
}
