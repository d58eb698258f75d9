/** The emulated CUDA library for tests, built when first asked for. */
import { buildEmulated } from "../../build.ts";
import { type Emulated, openEmulatedLibrary, type ThreadOrder } from "./emulated.ts";

export { type Emulated, THREAD_ORDERS, type ThreadOrder } from "./emulated.ts";

/** Opens the emulated library with threads in the given order, ascending by default. */
export async function openEmulated(options: { readonly order?: ThreadOrder } = {}): Promise<Emulated> {
  const emulated = openEmulatedLibrary((await buildEmulated()).path);
  emulated.setOrder(options.order ?? "ascending");
  return emulated;
}
