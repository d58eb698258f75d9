/** Signals of a process of its own. */
import { assertEquals } from "@std/assert";
import { NOT_ON_WINDOWS, unless } from "../../../../lib/testing.ts";
import { withFolder } from "../../testing.ts";

/** Runs a script with {@linkcode Interrupt} in a process of its own. */
async function start(folder: string, script: string): Promise<Deno.ChildProcess> {
  const module = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  await Deno.writeTextFile(
    `${folder}/script.ts`,
    `import { endFitIfInterrupted, Interrupt } from ${module("./interrupt.ts")};
    import { setCalibration } from ${module("../../../../lib/methods/mod.ts")};
    ${script}`,
  );
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--config=deno.json", `${folder}/script.ts`],
    cwd: new URL("../../../../", import.meta.url),
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test({
  ...unless(NOT_ON_WINDOWS, "a first signal tells a task to end, and a second one ends it"),
  fn: () =>
    withFolder(async (folder) => {
      const child = await start(
        folder,
        `const interrupt = new Interrupt();
        interrupt.signal.addEventListener("abort", () => console.log("told"));
        setTimeout(() => Deno.exit(7), 20_000); // one that nothing ends
        console.log("listens");`,
      );
      const stderr = new Response(child.stderr).text(), said: string[] = [];
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        said.push(...text.trim().split("\n"));
        child.kill("SIGTERM");
      }
      assertEquals([said, (await child.status).code], [["listens", "told"], 143]);
      assertEquals(await stderr, "Ended at once, by a second signal\n");
    }),
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "a signal ends a fit, which leaves the event loop no turn"),
  fn: () =>
    withFolder(async (folder) => {
      const child = await start(
        folder,
        `setCalibration({ domain: "other", sha256: "", chunks: [] });
        using interrupt = new Interrupt();
        await interrupt.ready;
        console.log("fits");
        const latest = Date.now() + 20_000;
        try {
          while (Date.now() < latest) endFitIfInterrupted();
        } catch (error) {
          console.log(interrupt.caused(error), interrupt.code);
        }`,
      );
      const stderr = new Response(child.stderr).text(), said: string[] = [];
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        if (said.length === 0) child.kill("SIGINT");
        said.push(text.trim());
      }
      assertEquals([said, await stderr, (await child.status).code], [["fits", "true 130"], "", 0]);
    }),
});
