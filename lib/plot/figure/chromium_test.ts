import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { ChromiumError, dumpPage, expectChromium, findChromium } from "./chromium.ts";

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

Deno.test("dumpPage() says when the program is none, or fails", async () => {
  await assertRejects(
    () => dumpPage("", 100, "/nowhere/chromium"),
    ChromiumError,
    "Cannot start /nowhere/chromium",
  );
  await assertRejects(
    () => dumpPage("", 100, "/bin/false"),
    ChromiumError,
    "Cannot open a page in /bin/false",
  );
});
