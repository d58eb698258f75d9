/** Whether files can only be this user's: native code that others may have put into the cache is not loaded. */
import { ifThere } from "../../lib/cache.ts";
import { NativeLibraryError } from "../../lib/errors.ts";

/** The C library, where Deno does not give the user's number: who loads native code may call it. */
const C_LIBRARY: { readonly [os: string]: string } = {
  linux: "libc.so.6",
  darwin: "/usr/lib/libSystem.B.dylib",
};

let known: number | undefined;

function currentUser(): number {
  const isAllowed = Deno.permissions.querySync({ name: "sys", kind: "uid" }).state === "granted";
  const ask = () =>
    Deno.dlopen(C_LIBRARY[Deno.build.os] ?? "libc.so", { geteuid: { parameters: [], result: "u32" } })
      .symbols.geteuid();
  return known ??= isAllowed ? Deno.uid()! : ask();
}

/** Permissions to write of the group and of all others. */
const OTHERS_WRITE = 0o022;

/**
 * Checks folders and files that native code comes from; one that is not there is not checked.
 *
 * @param user Number of this user.
 * @throws {NativeLibraryError} If one belongs to neither this user nor root, or others may write to it.
 */
export async function expectOwnFiles(paths: readonly string[], user = currentUser): Promise<void> {
  for (const path of paths) {
    const found = await ifThere(Deno.stat(path));
    if (found === undefined || found.mode === null) continue; // Windows has no such modes
    const refuse = (what: string) => new NativeLibraryError(`Cannot use native code of "${path}": ${what}`);
    const { uid, mode } = found;
    if (uid !== 0 && uid !== user()) {
      throw refuse(
        `found it to be of user ${uid}, expected ${user()} or root; set TOKENFILTER_CACHE to a folder of your own`,
      );
    }
    if ((mode & OTHERS_WRITE) !== 0) {
      throw refuse(
        `found that others can write to it (mode ${(mode & 0o7777).toString(8)}), expected only its owner; ` +
          `run: chmod go-w "${path}" (if its content is yours)`,
      );
    }
  }
}
