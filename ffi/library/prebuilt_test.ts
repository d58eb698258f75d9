import { assertEquals, assertRejects } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { sha256 } from "../../lib/sha256.ts";
import { LIBRARY_SUFFIX } from "../cache.ts";
import { findPrebuilt, PLATFORM } from "./prebuilt.ts";
import { packageOf, sourceKey } from "./sources.ts";

/** Calls a test with a folder in which the package of this platform lies, and the path of its library. */
async function withPackage(test: (from: string, library: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir(), own = `${folder}/node_modules/${packageOf(PLATFORM)}`;
  try {
    await Deno.mkdir(own, { recursive: true });
    await Deno.writeTextFile(`${own}/package.json`, JSON.stringify({ version: "1.2.3" }));
    await test(`${folder}/main.ts`, await Deno.realPath(own) + `/libtokenfilter_cpu.${LIBRARY_SUFFIX}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("findPrebuilt() takes the library that is listed, and says why it takes no other", () =>
  withPackage(async (from, library) => {
    const digest = await sha256("library"), name = `${packageOf(PLATFORM)}@1.2.3`;
    const list = { sources: await sourceKey("cpu"), libraries: { [PLATFORM]: digest } };
    const refused = async (trouble: string, own = list) =>
      assertEquals(await findPrebuilt(own, from), { name, trouble });
    await refused(`found no library, expected SHA-256 ${digest}`);
    await Deno.writeTextFile(library, "library");
    assertEquals(await findPrebuilt(list, from), { name, path: library });
    await refused("this release lists no library for this platform", { ...list, libraries: {} });
    await refused("it is not of these sources", { ...list, sources: "other" });
    await Deno.writeTextFile(library, "other");
    await refused(`found ${await sha256("other")}, expected SHA-256 ${digest}`);
  }));

Deno.test("findPrebuilt() finds nothing where no package is, and reports other failures", async () => {
  const folder = await Deno.makeTempDir();
  assertEquals(await findPrebuilt(undefined, `${folder}/main.ts`), undefined);
  await assertRejects(() => findPrebuilt(undefined, "no path"), TypeError);
  await Deno.remove(folder);
});

Deno.test("findPrebuilt() asks for no permission", async () => {
  const found = await inChild(
    {},
    `const { findPrebuilt } = await load("ffi/library/prebuilt.ts");
     await Deno.permissions.revoke({ name: "read" });
     return (await findPrebuilt()) ?? "none";`,
  );
  assertEquals(found, "none");
});
