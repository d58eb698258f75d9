/** Where the tests of the CUDA kernels run: on the emulator, in every order of threads, and on a GPU where one is. */
import { buildEmulated } from "../../build.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import { buildCuda } from "../build/cuda.ts";
import type { CudaBackend } from "./backend.ts";
import { openDriver } from "./driver.ts";
import { type Emulated, openEmulatedLibrary, type ThreadOrder } from "./emulated.ts";
import { buildArchOf, openCuda } from "./open.ts";

export { type Emulated, THREAD_ORDERS, type ThreadOrder } from "./emulated.ts";

/** The build that this process uses: one, also where a source changes meanwhile. */
let built: ReturnType<typeof buildEmulated> | undefined;

/** Opens the emulated library with threads in the given order, ascending by default. */
export async function openEmulated(options: { readonly order?: ThreadOrder } = {}): Promise<Emulated> {
  const emulated = openEmulatedLibrary((await (built ??= buildEmulated())).path);
  emulated.setOrder(options.order ?? "ascending");
  return emulated;
}

/** Why there is no GPU to test on; undefined where there is one. */
function reasonAgainst(): string | undefined {
  try {
    openDriver().device(0);
    return undefined;
  } catch (error) {
    if (!(error instanceof NativeLibraryError)) throw error;
    return error.message.replace(/^Cannot use CUDA( device 0)?: /, "").replace(/[;,(].*$/, "").trim();
  }
}

/**
 * Registers a test twice: on the emulator, and on the first GPU. Without one the second is ignored, with the reason in
 * its name; with `TOKENFILTER_REQUIRE_GPU` set it fails instead.
 */
export function testOnDevices(name: string, work: (backend: CudaBackend) => void | Promise<void>): void {
  Deno.test(`${name}, emulated`, async () => await work((await openEmulated()).backend));
  const reason = reasonAgainst();
  const ignore = reason !== undefined && !Deno.env.get("TOKENFILTER_REQUIRE_GPU");
  Deno.test({
    name: `${name}, on a GPU${ignore ? ` (not run: ${reason})` : ""}`,
    ignore,
    fn: async () => {
      await buildCuda({ archs: [buildArchOf(openDriver().device(0).arch)] });
      await work(await openCuda());
    },
  });
}
