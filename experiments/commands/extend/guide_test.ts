/**
 * The steps of docs/guides/write-a-rule.md, done as they are written there in a copy of the tree, with two methods that have
 * options; and then the repository's own checks and tests.
 */
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { run } from "../../../ffi/build/command.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { finish, withFolder } from "../testing.ts";
import { ADDED, addMethods } from "./method_testing.ts";
import { listTree } from "../../tools/machine/checkout_testing.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const GUIDE = "docs/guides/write-a-rule.md";
const text = await Deno.readTextFile(`${ROOT}${GUIDE}`);
const [, steps] = text.match(/^## Keep it$(.*?)^## /ms)!;
/** Code of the steps, in their order: the rule's file, the lines of the list, its test, and the line of its source. */
const [rule, listed, test, source] = Array.from(
  steps!.matchAll(/^ *```(?:ts ignore|json)\n(.*?)^ *```$/gms),
  ([, code]) => code!.replaceAll(/^ {3}/gm, ""),
);

Deno.test("the guide shows a whole rule, its lines of the list, its test and its source", () => {
  const [, name] = rule!.match(/export const (\w+): RuleMethod</)!;
  assert(rule!.split("\n").length < 15);
  assertEquals(
    listed,
    `import { ${name} } from "./rules/${name}.ts"; // with the imports\n  ${name}, // at the end of METHODS\n`,
  );
  assertMatch(test!, new RegExp(`^Deno.test\\("${name} .*rate\\("${name}", m, makeSpec`));
  assertMatch(source!, new RegExp(`^  "${name}": \\{ "score": ".*", "adapted": ".*" \\},\n$`));
});

Deno.test({
  ...unless(
    IN_SLOW_TIER,
    "after the steps of the guide the repository's own checks and tests of methods pass",
  ),
  fn: () =>
    withFolder(async (copy) => {
      const tree = await listTree(ROOT);
      for (const to of tree) {
        await Deno.mkdir(`${copy}/${to}`.replace(/[^/]*$/, ""), { recursive: true });
        await Deno.copyFile(`${ROOT}${to}`, `${copy}/${to}`);
      }
      // The checks list the tree by git.
      for (const args of [["init", "-q"], ["add", "-A"]]) {
        assert((await run("git", args, { cwd: copy })).success);
      }
      const flags: string[] = [];
      const deno = async (...args: string[]) => {
        const env = { TOKENFILTER_TEST_SLOW: "", NO_COLOR: "1" };
        const command = new Deno.Command(Deno.execPath(), {
          args,
          cwd: copy,
          env,
          stdout: "piped",
          stderr: "piped",
        });
        const { code, stdout, stderr } = await finish(command.spawn());
        assertEquals(code, 0, `deno ${args.slice(0, 3).join(" ")}: ${(stdout + stderr).slice(-4000)}`);
      };

      const [, name] = rule!.match(/export const (\w+)/)!,
        numbers = `${copy}/lib/methods/rules/rules_test.ts`;
      addMethods(copy, { [name!]: rule!, ...ADDED });
      await Deno.writeTextFile(numbers, `\n${test}`, { append: true });
      const sources = `${copy}/experiments/tools/docs/method_sources.json`;
      const more = Object.keys(ADDED).map((name) => source!.replace(/"\w+"/, `"${name}"`)).join("");
      const known = await Deno.readTextFile(sources);
      await Deno.writeTextFile(sources, known.replace("{\n", `{\n${source}${more}`));
      await deno("run", "-A", "--no-check", ...flags, "experiments/tools/docs/reference_pages.ts");

      const changed = tree.filter((path) => /^lib\/methods\/.*\.ts$/.test(path));
      const added = [name!, ...Object.keys(ADDED)].map((name) => `lib/methods/rules/${name}.ts`);
      await deno("fmt", "--check", ...added, "lib/methods");
      await deno("lint", "--quiet", ...added, ...changed);
      await deno("check", ...flags, "mod.ts", "experiments/commands/sweep.ts", numbers);
      // Tests of the list of methods, and tests that go through it.
      const isOwn = (path: string) =>
        /^(lib\/(methods|sweep|entries)\/.*|experiments\/tools\/docs\/\w+|experiments\/commands\/cli\/.*)_test\.ts$/
          .test(path);
      const tests = tree.filter((path) =>
        isOwn(path) ||
        /^lib\/.*_test\.ts$/.test(path) && Deno.readTextFileSync(`${ROOT}${path}`).includes("METHODS")
      );
      assert(tests.length > 50, `${tests.length} test files`);
      await deno(
        "test",
        "-A",
        "--no-check",
        "--parallel",
        "--preload=experiments/tools/tests/strict_assert.ts",
        ...flags,
        ...tests,
      );
    }),
});
