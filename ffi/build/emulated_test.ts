import { assertEquals, assertMatch } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { NOT_ON_WINDOWS, unless } from "../../lib/testing.ts";

/** A stand-in for g++: notes its units in "calls", and writes the unit's name where -o points. */
async function fakeCompiler(folder: string): Promise<string> {
  const path = `${folder}/c++`;
  await Deno.writeTextFile(
    path,
    `#!/bin/sh
if [ "$1" = --version ]; then echo "fake 1.0"; exit 0; fi
unit=link
while [ $# -gt 0 ]; do
  if [ "$1" = -c ]; then unit=$2; fi
  if [ "$1" = -o ]; then echo "$unit" > "$2"; fi
  shift
done
echo "$unit" >> "${folder}/calls"
if [ -f "${folder}/broken" ] && [ "$unit" = "$(cat "${folder}/broken")" ]; then echo "error: broken" >&2; exit 1; fi
`,
  );
  await Deno.chmod(path, 0o755);
  return path;
}

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "buildEmulated() compiles again what a change touches, and nothing where nothing changed",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir();
    const env = {
      CXX: await fakeCompiler(folder),
      TOKENFILTER_CACHE: `${folder}/cache`,
      TOKENFILTER_EMULATED: "",
    };
    const result = await inChild(
      env,
      `
      const { buildEmulated } = await load("ffi/build/emulated_testing.ts");
      const steps = [];
      const build = async (options) => {
        await Deno.writeTextFile("${folder}/calls", "");
        const { path, cached } = await buildEmulated(options);
        const calls = (await Deno.readTextFile("${folder}/calls")).trim().split("\\n").filter(Boolean).sort();
        steps.push({ path, cached, calls });
      };
      const patch = (sources) => sources.set("rope/rope.cu", sources.get("rope/rope.cu") + "// changed\\n");
      const patched = (unit) => unit === "rope/rope.cu";
      await build(), await build(), await build({ patch, patched }), await build({ force: true });
      return steps;`,
    );
    const [first, second, changed, forced] = result;
    assertEquals(first.cached, false);
    assertMatch(first.calls.join(" "), /link .*rope\/rope\.cu .*testing\/emulator\/machine\.cpp/);
    assertEquals(second, { path: first.path, cached: true, calls: [] });
    assertEquals(changed.calls, ["link", "rope/rope.cu"]);
    assertEquals(changed.path === first.path, false);
    assertEquals(forced, { ...first, cached: false });
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "buildEmulated() passes on what a failing compiler says, keeps what was compiled, and obeys the environment",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir();
    const env = {
      CXX: await fakeCompiler(folder),
      TOKENFILTER_CACHE: `${folder}/cache`,
      TOKENFILTER_EMULATED: "",
    };
    const body =
      `const { buildEmulated } = await load("ffi/build/emulated_testing.ts"); return (await buildEmulated()).path;`;
    await Deno.writeTextFile(`${folder}/broken`, "rope/rope.cu");
    const { error } = await inChild(env, body);
    assertMatch(error, /^NativeLibraryError: .*failed on kernels\/rope\/rope\.cu:?\nerror: broken/);
    await Deno.remove(`${folder}/broken`);
    await Deno.writeTextFile(`${folder}/calls`, "");
    assertMatch(await inChild(env, body), /libtokenfilter_emulated-[0-9a-f]{16}\./);
    const again = (await Deno.readTextFile(`${folder}/calls`)).trim().split("\n");
    assertEquals(again.includes("rope/rope.cu"), true);
    assertEquals(
      await inChild({ ...env, TOKENFILTER_EMULATED: "/some/library.so" }, body),
      "/some/library.so",
    );
    await Deno.remove(folder, { recursive: true });
  },
});
