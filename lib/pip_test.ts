import { assertEquals } from "@std/assert";
import { reasonOf, requirementOf, requirePackages } from "./pip.ts";

Deno.test("requirePackages() names packages by version and every digest, in a file, and has pip refuse others", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const packages = [{ name: "a", version: "1.0", sha256: "12" }, {
      name: "b-c",
      version: "2",
      sha256: ["3", "4"],
    }];
    assertEquals(packages.map(requirementOf), ["a==1.0", "b-c==2"]);
    const path = `${folder}/requirements.txt`;
    assertEquals(await requirePackages(packages, folder), ["--require-hashes", "--requirement", path]);
    const text = "a==1.0 --hash=sha256:12\nb-c==2 --hash=sha256:3 --hash=sha256:4\n";
    assertEquals(await Deno.readTextFile(path), text);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("reasonOf() finds the digests in what pip says, and else takes its last line", () => {
  const mismatch = `ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
    a==1.0 from https://host/a.whl:
        Expected sha256 12
             or        34
             Got        56

`;
  assertEquals(reasonOf(mismatch), "found a package of SHA-256 56, expected 12 or 34");
  assertEquals(reasonOf("first\nERROR: no such version\n"), "ERROR: no such version");
  assertEquals(reasonOf(" \n"), undefined);
});
