import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { ChromiumError, expectChromium, findChromium, openBrowser } from "./chromium.ts";

const variables = (values: Record<string, string>) => (name: string) => values[name];

Deno.test("findChromium() takes the named program, else the first on the PATH", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${folder}/chromium`); // a folder of that name is no program
    await Deno.writeTextFile(`${folder}/google-chrome`, "");
    const PATH = `/nowhere:${folder}`;
    assertEquals(findChromium(variables({ PATH })), `${folder}/google-chrome`);
    assertEquals(findChromium(variables({ PATH, TOKENFILTER_CHROMIUM: "/my/chromium" })), "/my/chromium");
    assertEquals(findChromium(variables({ PATH: "/nowhere", TOKENFILTER_CHROMIUM: "" })), undefined);
    assertEquals(findChromium(variables({})), undefined);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("expectChromium() says what to do where there is none", () => {
  const error = assertThrows(() => expectChromium(variables({})), ChromiumError, "found none of chromium");
  assertStringIncludes(error.message, "TOKENFILTER_CHROMIUM");
  assert(!error.message.includes("\n"));
});

Deno.test({
  name: "openBrowser() says when the program is none, or fails",
  // The driver keeps the programs that it has tried to start for a moment.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    for (const program of ["/nowhere/chromium", "/bin/false"]) {
      await assertRejects(() => openBrowser(program), ChromiumError, `Cannot start ${program}`);
    }
  },
});
