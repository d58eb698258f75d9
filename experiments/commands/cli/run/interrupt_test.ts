/** Signals of a process of its own. */
import { assertEquals } from "@std/assert";
import { NOT_ON_WINDOWS, unless } from "../../../../lib/testing.ts";
import { readStdFlags } from "../machine/deno.ts";
import { withFolder } from "../../testing.ts";

Deno.test({
  ...unless(NOT_ON_WINDOWS, "a first signal tells a task to end, and a second one ends it"),
  fn: () =>
    withFolder(async (folder) => {
      const module = new URL("./interrupt.ts", import.meta.url).href, script = `${folder}/deaf.ts`;
      Deno.writeTextFileSync(
        script,
        `import { Interrupt } from ${JSON.stringify(module)};
        const interrupt = new Interrupt();
        interrupt.signal.addEventListener("abort", () => console.log("told"));
        setTimeout(() => Deno.exit(7), 20_000); // one that nothing ends
        console.log("listens");`,
      );
      const root = new URL("../../../../", import.meta.url);
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--config=deno.json", ...await readStdFlags(), script],
        cwd: root,
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const stderr = new Response(child.stderr).text(), said: string[] = [];
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        said.push(...text.trim().split("\n"));
        child.kill("SIGTERM");
      }
      assertEquals([said, (await child.status).code], [["listens", "told"], 143]);
      assertEquals(await stderr, "Ended at once, by a second signal\n");
    }),
});
