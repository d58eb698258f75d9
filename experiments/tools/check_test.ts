/** `deno task check`, on small checkouts. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { testSlow } from "../../lib/testing.ts";
import { listChanged } from "./check/concern.ts";
import { readStdFlags } from "../commands/cli/machine/deno.ts";
import { withFolder } from "../commands/testing.ts";

const flags = await readStdFlags();

async function git(root: string, ...args: string[]): Promise<void> {
  const author = ["-c", "user.name=check", "-c", "user.email=check@localhost"];
  const { success, stderr } = await new Deno.Command("git", { args: [...author, ...args], cwd: root })
    .output();
  assert(success, new TextDecoder().decode(stderr));
}

const test = (path: string, value: number) =>
  `import { one } from "${path}";\nDeno.test("one", () => {\n  if (one !== ${value}) throw new Error("found " + one);\n});\n`;

/** A checkout: `lib/a.ts`, which `lib/b.ts` and `lib/c.ts` import; with tests of both, and a page. */
async function makeCheckout(root: string): Promise<void> {
  const files: Record<string, string> = {
    ".gitignore": "/build/\n",
    "lib/a.ts": "export const one = 1;\n",
    "lib/a_test.ts": test("./a.ts", 1),
    "lib/b.ts": `export { one } from "./a.ts";\n`,
    "lib/b_test.ts": test("./b.ts", 1),
    "lib/c.ts": `import { one } from "./a.ts";\nexport const two: number = one + 1;\n`,
    "lib/d_test.ts": `Deno.test("page", () => {\n  Deno.readTextFileSync("page.md");\n});\n`,
    "page.md": "# Page\n",
  };
  for (
    const path of ["deno.json", "imports.json", ".std/npm.json", ".std/npm.lock", ".std/strict_assert.ts"]
  ) {
    files[path] = await Deno.readTextFile(new URL(`../../${path}`, import.meta.url));
  }
  files["deno.json"] = JSON.stringify({ ...JSON.parse(files["deno.json"]!), exports: {} });
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(`${root}/${path.replace(/[^/]*$/, "")}`, { recursive: true });
    await Deno.writeTextFile(`${root}/${path}`, text);
  }
  await git(root, "init", "-q");
  await git(root, "add", ".");
  await git(root, "commit", "-q", "-m", "all");
}

/** Runs the check on a checkout in a process of its own. @returns The names of its parts by their outcome. */
async function check(root: string, ...args: string[]) {
  const program = `import { main } from "${new URL("check.ts", import.meta.url)}";` +
    `import { runTask } from "${new URL("../commands/cli/task.ts", import.meta.url)}";` +
    `await runTask((args) => main(args, "${root}"));`;
  const entry = new URL(`data:application/typescript,${encodeURIComponent(program)}`).href;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", ...flags, entry, ...args],
    cwd: new URL("../..", import.meta.url),
  }).output();
  const [said, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)) as [string, string];
  const named = (word: string) =>
    Array.from(said.matchAll(new RegExp(`^${word} +\\d+\\.\\d s  (.*)$`, "gm")), ([, name]) => name!).sort();
  return { code, said, error, ok: named("ok"), failed: named("FAILED") };
}

Deno.test("check runs format, lint, types and the tests that depend on a file", () =>
  withFolder(async (root) => {
    await makeCheckout(root);
    const { code, said, error, ok, failed } = await check(root, "lib/a.ts", "--seconds", "60");
    assertEquals(failed, [], said + error);
    assertEquals(ok, ["format", "lib/a_test.ts", "lib/b_test.ts", "lint", "types of 5 files"]);
    assertMatch(said, /\nAll 5 parts are well; \d+\.\d s\n$/);
    assertEquals(code, 0);
  }));

Deno.test("check takes what differs from HEAD, new files too, and fails where a part does", () =>
  withFolder(async (root) => {
    await makeCheckout(root);
    const idle = await check(root);
    assertEquals([idle.code, idle.said], [0, "Nothing to check: no file differs from HEAD\n"]);
    await Deno.writeTextFile(`${root}/lib/b.ts`, "export const one = 2;\n");
    await Deno.writeTextFile(`${root}/lib/e.ts`, "export var three = 3\n");
    const { code, said, ok, failed } = await check(root, "--seconds", "60");
    assertEquals([failed, ok], [["format", "lib/b_test.ts", "lint", "types of 3 files"], []], said);
    assertMatch(said, /found 2[^]*\n4 of 4 parts failed; \d+\.\d s\n$/);
    assertEquals(code, 1);
  }));

Deno.test("check finds who imports a deleted module, and tests that name a page", () =>
  withFolder(async (root) => {
    await makeCheckout(root);
    await Deno.remove(`${root}/lib/b.ts`);
    await Deno.writeTextFile(`${root}/page.md`, "# Other\n");
    const { code, said, ok, failed } = await check(root, "--seconds", "60");
    assertEquals([failed, ok], [["lib/b_test.ts", "types of 1 file"], ["lib/d_test.ts"]], said);
    assertEquals(code, 1);
  }));

Deno.test("check leaves out tests that there is no time for, and says which", () =>
  withFolder(async (root) => {
    await makeCheckout(root);
    await Deno.mkdir(`${root}/build`);
    await Deno.writeTextFile(
      `${root}/build/check_times.json`,
      `[["lib/b_test.ts",1000],["lib/a_test.ts",0.1]]`,
    );
    const { code, said, ok } = await check(root, "lib/a.ts", "--seconds", "60");
    assertEquals(ok, ["format", "lib/a_test.ts", "lint", "types of 5 files"], said);
    assertMatch(said, /^Left out, for want of time: 1 test file \(lib\/b_test\.ts\)$/m);
    assertEquals(code, 0);
  }));

testSlow(
  "check fails where a test does not end that did, and leaves out one that never did",
  () =>
    withFolder(async (root) => {
      await makeCheckout(root);
      await Deno.mkdir(`${root}/build`);
      const noted = (seconds: number) =>
        Deno.writeTextFile(`${root}/build/check_times.json`, JSON.stringify([["lib/d_test.ts", seconds]]));
      await Deno.writeTextFile(
        `${root}/lib/d_test.ts`,
        `Deno.test("endless", () => new Promise((_) => setInterval(() => {}, 1000)));\n`,
      );
      await noted(0.1);
      const ended = await check(root, "lib/d_test.ts", "--seconds", "2");
      assertEquals([ended.code, ended.failed], [1, ["lib/d_test.ts"]], ended.said);
      assertMatch(ended.said, /^does not end in \d s$/m);
      await noted(-0.1);
      const left = await check(root, "lib/d_test.ts", "--seconds", "2");
      assertEquals([left.code, left.failed], [0, []]);
      assertMatch(left.said, /^Left out, for want of time: 1 test file \(lib\/d_test\.ts\)$/m);
      const [[, seconds]] = JSON.parse(await Deno.readTextFile(`${root}/build/check_times.json`));
      assert(seconds < -0.1, `${seconds}`);
    }),
);

Deno.test("check refuses what is no file of the checkout, in one line", () =>
  withFolder(async (root) => {
    await makeCheckout(root);
    const { code, said, error } = await check(root, "lib/none.ts");
    assertEquals([code, said], [2, ""]);
    assertEquals(
      error,
      'Cannot check "lib/none.ts": found no such file in the checkout, expected files or folders\n',
    );
    assertEquals((await listChanged(root, ["lib"])).files.length, 6);
    assertEquals((await check(root, "--seconds", "0")).code, 2);
  }));
