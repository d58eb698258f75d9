import { assertEquals, assertMatch } from "@std/assert";
import { inChild } from "../../../kernels/testing/child.ts";
import { NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";
import { listFolder, withFolder } from "../../commands/testing.ts";

Deno.test({
  ...unless(NOT_ON_WINDOWS, "fetchProgram() keeps what pip has fetched, and leaves nothing of a failure"),
  fn: () =>
    withFolder(async (folder) => {
      const cache = `${folder}/cache`,
        variables = { TOKENFILTER_CACHE: cache, PATH: `${folder}:/usr/bin:/bin` };
      const pip = (script: string) =>
        Deno.writeTextFile(`${folder}/python3`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      const install = (exit: number) =>
        pip(`while [ "$1" != --target ]; do shift; done
printf '#!/bin/sh\\nexit ${exit}\\n' > "$2/program"; chmod +x "$2/program"`);
      const fetch = async () =>
        await inChild(
          variables,
          `const { fetchProgram } = await load("experiments/tools/machine/program.ts"), said = [];
           const pinned = { name: "it", version: "1.0", sha256: "0" };
           return [await fetchProgram(pinned, "program", (line) => said.push(line)), said.length];`,
        ) as [{ path?: string; reason?: string }, number];
      await pip("echo no network >&2; exit 1");
      assertEquals(await fetch(), [{ reason: "pip has fetched none: no network" }, 1]);
      assertEquals(listFolder(cache), []);
      await install(1);
      assertMatch((await fetch())[0].reason!, /program" does not run$/);
      await install(0);
      const path = `${cache}/it-1.0-${Deno.build.arch}/program`;
      assertEquals([await fetch(), await fetch()], [[{ path }, 1], [{ path }, 0]], "it is fetched once");
    }),
});
