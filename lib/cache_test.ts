import { assertEquals, assertRejects } from "@std/assert";
import { prepareCacheDir } from "./cache.ts";
import { UsageError } from "./errors.ts";

Deno.test("prepareCacheDir() makes a folder and those above it, and leaves no file there", async () => {
  const base = await Deno.makeTempDir();
  try {
    await prepareCacheDir(`${base}/a/b`);
    await prepareCacheDir(`${base}/a/b`);
    assertEquals([...Deno.readDirSync(`${base}/a`)].map(({ name }) => name), ["b"]);
    assertEquals([...Deno.readDirSync(`${base}/a/b`)], []);
    await Deno.writeTextFile(`${base}/file`, "");
    await assertRejects(
      () => prepareCacheDir(`${base}/file/a`),
      UsageError,
      "Cannot write to the cache folder",
    );
  } finally {
    await Deno.remove(base, { recursive: true });
  }
});
