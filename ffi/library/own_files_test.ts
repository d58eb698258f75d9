import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { cacheDir } from "../../lib/cache.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import { sha256 } from "../../lib/sha256.ts";
import { NOT_ON_WINDOWS, unless } from "../../lib/testing.ts";
import { manifestPath } from "../cache.ts";
import { findLibrary } from "./library.ts";
import { expectOwnFiles } from "./own_files.ts";
import { sourceKey } from "./sources.ts";

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "expectOwnFiles() refuses files of other users, and those that others can write to",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir(), path = `${folder}/file`, own = Deno.statSync(folder).uid!;
    await Deno.writeTextFile(path, "");
    await Deno.chmod(path, 0o644);
    await expectOwnFiles([folder, path, `${folder}/none`]);
    await expectOwnFiles([path], () => own);
    for (const [mode, shown] of [[0o664, "664"], [0o646, "646"]] as const) {
      await Deno.chmod(path, mode);
      const says =
        `found that others can write to it (mode ${shown}), expected only its owner; run: chmod go-w`;
      await assertRejects(() => expectOwnFiles([folder, path]), NativeLibraryError, says);
    }
    await Deno.chmod(path, 0o644);
    // Root's files are anyone's to use, so root must give the file away to make another user's.
    if (own === 0) await Deno.chown(path, 65534, 65534);
    const user = own === 0 ? undefined : () => own + 1;
    await assertRejects(() => expectOwnFiles([path], user), NativeLibraryError, "found it to be of user ");
    await Deno.remove(folder, { recursive: true });
  },
});

const FIND =
  'const { findLibrary } = await load("ffi/library/library.ts"); return (await findLibrary("cpu")).path;';

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "findLibrary() loads nothing of a cache that others can write to, or that names another file",
  ),
  fn: async () => {
    const built = (await findLibrary("cpu")).path, bytes = await Deno.readFile(built);
    const cache = await Deno.makeTempDir(), find = () => inChild({ TOKENFILTER_CACHE: cache }, FIND);
    const library = `libtokenfilter_cpu-${(await sha256(bytes)).slice(0, 16)}.so`;
    const note = async (library: string) => {
      const path = cache + manifestPath("cpu", await sourceKey("cpu")).slice(cacheDir().length);
      await Deno.writeTextFile(path, JSON.stringify({ library, sha256: await sha256(bytes) }), {
        mode: 0o644,
      });
    };
    await Deno.writeFile(`${cache}/${library}`, bytes, { mode: 0o644 });
    await note(library);
    assertEquals(await find(), `${cache}/${library}`);
    await Deno.chmod(cache, 0o777);
    assertStringIncludes(
      (await find()).error,
      `Cannot use native code of "${cache}": found that others can write`,
    );
    await Deno.chmod(cache, 0o700);
    await Deno.copyFile(built, `${cache}/../evil-${library}`);
    await note(`../evil-${library}`);
    assertStringIncludes((await find()).error, `found library "../evil-${library}", expected a name such as`);
    await Deno.remove(`${cache}/../evil-${library}`);
    await Deno.remove(cache, { recursive: true });
  },
});
