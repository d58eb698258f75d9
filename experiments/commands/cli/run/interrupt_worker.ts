/** Listens for signals in another thread, since fits block the event loop; it writes their codes to shared memory. */
import { onLostMapping } from "../../../../ffi/library/map_file.ts";
import type { MappedFile } from "../machine/mapped.ts";
import { EXIT, writeLine } from "../task.ts";

export interface ToListener {
  /** One number, 0 until a signal comes: its code from then on. */
  readonly caught: Int32Array<SharedArrayBuffer>;
  readonly codes: { readonly [signal: string]: number };
  readonly mapped: readonly MappedFile[];
}

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToListener>) => void;
  postMessage: (message: "ready") => void;
};

function isCutShort({ path, size }: MappedFile): boolean {
  try {
    return Deno.statSync(path).size < size;
  } catch {
    return false; // it was deleted, and its memory stays
  }
}

/** The message about mapped files of which one cannot be read any more. */
function describeLoss(mapped: readonly MappedFile[]): string {
  const short = mapped.find(isCutShort);
  const found = short === undefined
    ? `found that "${mapped[0]!.path}" cannot be read from its disk`
    : `found "${short.path}" cut short while it is in use`;
  return `Cannot go on: ${found}, expected it to stay; finished work is kept and can be resumed`;
}

thread.onmessage = ({ data: { caught, codes, mapped } }) => {
  for (const [signal, code] of Object.entries(codes)) {
    Deno.addSignalListener(signal as Deno.Signal, () => Atomics.store(caught, 0, code));
  }
  if (mapped.length > 0) {
    const exit = onLostMapping(() => {
      writeLine(Deno.stderr, describeLoss(mapped));
      exit(EXIT.usage);
    });
  }
  thread.postMessage("ready");
};
