import { assertEquals } from "@std/assert";
import { NOT_ON_WINDOWS, unless, withVariables } from "../../lib/testing.ts";
import { buildObjects } from "./objects.ts";

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "buildObjects() tells how far it is after a while without a word, and at the end",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir(), { now } = performance;
    const sources = new Map([1, 2, 3, 4, 5].map((i) => [`unit${i}.cpp`, `int x${i};`]));
    // Writes what it is told to compile to where -o points.
    await Deno.writeTextFile(`${folder}/c++`, '#!/bin/sh\necho "$1" > "$3"\n', { mode: 0o755 });
    const build = async () => {
      const said: string[] = [];
      await Deno.mkdir(`${folder}/work`, { recursive: true });
      const objects = await buildObjects(
        sources,
        [...sources.keys()].map((unit) => ({ unit, args: [unit] })),
        { title: "a test", key: 0, command: `${folder}/c++` },
        `${folder}/work`,
        { onProgress: (line) => said.push(line) },
      );
      const texts = await Promise.all(objects.map(({ path }) => Deno.readTextFile(path)));
      assertEquals(texts, Array.from(sources.keys(), (unit) => `${unit}\n`));
      return said.map((line) => line.match(/^compil\w+ \d( of \d)?/)![0]);
    };
    try {
      let ms = 0;
      performance.now = () => ms += 3000; // from file to file
      await withVariables({ TOKENFILTER_CACHE: `${folder}/cache` }, async () => {
        assertEquals(await build(), ["compiling 5", "compiled 2 of 5", "compiled 4 of 5", "compiled 5 of 5"]);
        assertEquals(await build(), []);
      });
    } finally {
      performance.now = now;
      await Deno.remove(folder, { recursive: true });
    }
  },
});
