/**
 * Random calls of every op of a library: none may crash, hang, write outside its buffers, or refuse without a message.
 * They are made in a process of its own that prints each call's seed first, so that a crash has a seed too:
 * `deno run -A --no-check kernels/testing/fuzz/fuzz.ts cpu|emulated SEED CALLS`.
 */
import { STATUS } from "../../../ffi/library/abi.ts";
import { NativeContext, supportedLevels } from "../../../ffi/cpu/context.ts";
import type { KernelContext } from "../../../ffi/context.ts";
import { openEmulated, THREAD_ORDERS } from "../../../ffi/cuda/testing.ts";
import { openCpuLibrary, text } from "../../../ffi/library/library.ts";
import { type Calls, Draw } from "./draw.ts";

/** The calls of all ops, from the folders that the list of ops names. */
export async function readCalls(): Promise<Calls> {
  const list = await Deno.readTextFile(new URL("../../ops.def", import.meta.url));
  const folders = Array.from(list.matchAll(/#include "(\w+)\/\w+\.def"/g), ([, folder]) => folder!);
  const modules = folders.map((folder) => import(new URL(`../../${folder}/cases.ts`, import.meta.url).href));
  return Object.assign({}, ...(await Promise.all(modules)).map(({ CALLS }) => CALLS));
}

/** Contexts that calls are made with, and what follows each call. */
async function openContexts(
  library: string,
): Promise<{ contexts: KernelContext[]; after: (d: Draw) => number }> {
  if (library === "emulated") {
    const emulated = await openEmulated(), { context } = emulated;
    const { symbols } = context.library;
    const after = (d: Draw) => {
      const status = symbols.tkf_cuda_synchronize(context.pointer); // what kernels found wrong
      if (d.once(3)) emulated.setOrder(d.pick(THREAD_ORDERS), BigInt(d.below(2 ** 32)));
      return status;
    };
    return { contexts: [context], after };
  }
  const cpu = await openCpuLibrary();
  const contexts = supportedLevels(cpu).flatMap((level) =>
    [1, 3].map((threads) => new NativeContext(cpu, { level, threads }))
  );
  return { contexts, after: () => STATUS.ok };
}

/** Makes `count` calls from a seed on, and prints at last how often each op took one or refused it. */
async function makeCalls(library: string, first: number, count: number): Promise<void> {
  const { contexts, after } = await openContexts(library), calls = await readCalls();
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
    const status = op.call(pointer, args, context.locate);
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
    if (!statuses.includes(after(d)) || !d.guardsHold()) {
      throw new Error(`seed ${seed}: ${name} gave status ${status}, guards held: ${d.guardsHold()}`);
    }
    tally[name]![status === STATUS.ok ? 0 : 1]!++;
  }
  print(JSON.stringify(tally));
}

if (import.meta.main) {
  const [library, first, count] = Deno.args;
  await makeCalls(library!, Number(first), Number(count));
}
