import { assertEquals, assertStringIncludes } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { NEEDS_LINUX, unless, withVariables } from "../../lib/testing.ts";
import { buildAlone } from "./alone.ts";
import { fakeTools } from "./fake_tools_testing.ts";

Deno.test({
  ...unless(
    NEEDS_LINUX,
    "buildAlone() runs one build at a time, and removes folders of those that were killed",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir(), cache = `${folder}/cache`;
    let running = 0, most = 0, folders: string[] = [];
    const build = () =>
      buildAlone(async (work) => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        folders = Array.from(Deno.readDirSync(cache), ({ name }) => name).filter((name) =>
          name !== "build.lock"
        );
        assertEquals(folders, [work.slice(cache.length + 1)]);
        running--;
      });
    await withVariables({ TOKENFILTER_CACHE: cache }, async () => {
      await build();
      assertEquals(Deno.statSync(cache).mode! & 0o777, 0o700);
      await Deno.mkdir(`${cache}/.build-killed/kernels`, { recursive: true });
      await Promise.all([build(), build(), build()]);
    });
    assertEquals([most, Array.from(Deno.readDirSync(cache), ({ name }) => name)], [1, ["build.lock"]]);
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  ...unless(
    NEEDS_LINUX,
    "first builds at once compile once, damaged objects anew, and a compiler that makes nothing is named",
  ),
  fn: async () => {
    const { folder, env } = await fakeTools("13.0.88", "");
    const BUILD = `
      const { buildCuda } = await load("build.ts");
      return (await buildCuda({ archs: ["90a"] })).cached;`;
    const compiled = async () => (await Deno.readTextFile(`${folder}/calls`)).match(/ -c /g)!.length;
    const built = await Promise.all(Array.from({ length: 4 }, () => inChild(env, BUILD)));
    assertEquals(built.sort(), [false, true, true, true]);
    const objects = `${env["TOKENFILTER_CACHE"]}/objects`, units = await compiled();
    const names = Array.from(Deno.readDirSync(objects), ({ name }) => name).filter((name) =>
      name.endsWith(".o")
    );
    assertEquals(names.length, units);
    // As after a power failure, and as another hand would change it.
    await Deno.writeTextFile(`${objects}/${names[0]}`, "");
    await Deno.writeTextFile(`${objects}/${names[1]}`, "another object");
    for (const { name } of Deno.readDirSync(env["TOKENFILTER_CACHE"]!)) {
      if (name !== "objects") await Deno.remove(`${env["TOKENFILTER_CACHE"]}/${name}`);
    }
    assertEquals([await inChild(env, BUILD), await compiled()], [false, units + 2]);
    await Deno.writeTextFile(`${folder}/bin/nvcc`, '#!/bin/sh\necho "release 13.0, V13.0.88"\n');
    await Deno.remove(env["TOKENFILTER_CACHE"]!, { recursive: true });
    assertStringIncludes((await inChild(env, BUILD)).error, "made nothing of kernels/");
    await Deno.remove(folder, { recursive: true });
  },
});
