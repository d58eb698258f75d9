/** The recipes of images: every task, flag, path and version that they name is there. */
import { assert, assertEquals } from "@std/assert";
import { runTask } from "../../commands/testing.ts";

const ROOT = new URL("../../../", import.meta.url);
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));
const folder = "docs/guides/clusters";
const dockerfile = await read(`${folder}/Dockerfile`), recipe = await read(`${folder}/Apptainer`);
const job = await read(`${folder}/job.yaml`);
const { tasks, version }: { tasks: Record<string, string>; version: string } = JSON.parse(
  await read("deno.json"),
);

/** Tasks of a text with their flags, comments left out. */
function commandsOf(text: string): { task: string; flags: string[] }[] {
  const plain = text.replaceAll(/^ *#.*$/gm, "").replaceAll("\\\n", " ");
  return Array.from(
    plain.matchAll(/deno task ([a-z:]+)((?: +(?!&&)[^\s&|;"]+)*)/g),
    ([, task, rest]) => ({ task: task!, flags: Array.from(rest!.matchAll(/--[\w-]+/g), ([flag]) => flag) }),
  );
}

Deno.test("recipes of images name tasks that there are, with flags that they take", async () => {
  const found = [dockerfile, recipe, job].flatMap(commandsOf);
  assertEquals(found.length, 8);
  for (const { task, flags } of found) {
    assert(Object.hasOwn(tasks, task), task);
    const { stdout } = await runTask(task, "--help", "all");
    for (const flag of flags.filter((flag) => flag !== "--help")) {
      assert(new RegExp(`${flag}\\b`).test(stdout), `${task} ${flag}`);
    }
  }
  const [, words] = dockerfile.match(/^CMD (\[.*\])$/m)!;
  assert(Object.hasOwn(tasks, JSON.parse(words!)[0]));
});

Deno.test("recipes of images have the project's versions, paths and instructions that there are", async () => {
  const contributing = await read("CONTRIBUTING.md");
  const deno = contributing.match(/deno@(\d+\.\d+\.\d+)/)![1];
  assertEquals(dockerfile.match(/^FROM denoland\/deno:debian-(\S+)$/m)![1], deno);
  assertEquals(recipe.match(/^From: denoland\/deno:debian-(\S+)$/m)![1], deno);
  const tags = [dockerfile, job, await read("docs/guides/clusters.md")].flatMap((text) =>
    Array.from(text.matchAll(/tokenfilter:(\d\S*)/g), ([, tag]) => tag!.replace(/[`.]$/, ""))
  );
  assert(tags.length >= 5);
  assertEquals(new Set(tags), new Set([version]));
  assertEquals(job.match(/workingDir: (\S+)/)![1], dockerfile.match(/^WORKDIR (\S+)$/m)![1]);
  for (const text of [dockerfile, recipe]) {
    for (const [path] of text.matchAll(new RegExp(`${folder}/[\\w.]+`, "g"))) {
      assert((await Deno.stat(new URL(path, ROOT))).isFile);
    }
  }
  const instructions = dockerfile.replaceAll("\\\n", " ").split("\n").filter((line) => /^[^#\s]/.test(line));
  const known = ["FROM", "RUN", "WORKDIR", "ENV", "COPY", "USER", "ENTRYPOINT", "CMD"];
  assertEquals(instructions.filter((line) => !known.includes(line.split(" ")[0]!)), []);
  assertEquals(instructions[0]!.split(" ")[0], "FROM");
  const sections = Array.from(recipe.matchAll(/^%(\w+)$/gm), ([, name]) => name);
  assertEquals(sections, ["files", "post", "environment", "runscript", "test"]);
  const ignored = (await read(`${folder}/Dockerfile.dockerignore`)).trim().split("\n");
  const untracked = (await read(".gitignore")).split("\n").map((line) => line.replaceAll("/", ""));
  assertEquals(ignored.filter((line) => !untracked.includes(line.replace("**/", ""))), []);
});

Deno.test("the library of the recipe for Apptainer is where its environment says", async () => {
  const [, out] = recipe.match(/build --all --out (\S+)/)!,
    [, named] = recipe.match(/TOKENFILTER_LIBRARY=(\S+)/)!;
  assertEquals(named, `${out}/libtokenfilter_cpu.so`);
  assert((await runTask("build", "--help")).stdout.includes("libtokenfilter_cpu"));
});
