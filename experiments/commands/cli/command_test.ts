/** What follows from the declarations of commands: lines of deno.json, helps, and completion. */
import { assert, assertEquals } from "@std/assert";
import { RACES } from "../../../lib/search/mod.ts";
import { DEFAULT_CONTEXT } from "../../../lib/eval/chunks/chunks.ts";
import { NEEDS_LINUX, unless } from "../../../lib/testing.ts";
import { listCommands } from "../completion.ts";
import { taskLine } from "./command.ts";
import { completionScript, SHELLS } from "./completion.ts";
import { STUDY, TEXT } from "./flags/flags.ts";
import { allFlags, describeCommand } from "./flags/help.ts";
import { SEARCH } from "./flags/search.ts";
import { RESULTS } from "./run/resume.ts";

const ROOT = new URL("../../../", import.meta.url);
const listed = await listCommands(), commands = listed.map(({ command }) => command);

Deno.test("the lines of deno.json are those that commands declare", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  assert(commands.length >= 15, `${commands.length} commands`);
  for (const { path, command } of listed) assertEquals(tasks[command.name], taskLine(command, path));
});

Deno.test("no help names another command, and each fits a terminal", () => {
  const names = commands.map(({ name }) => name);
  for (const command of commands) {
    const help = describeCommand(command, false), all = describeCommand(command, true);
    const wide = help.split("\n").filter((line) => line.length > 80 && !line.startsWith("  deno task "));
    assertEquals(wide, [], command.name);
    const named = [...all.matchAll(/deno task ([\w:]+)/g)].map(([, name]) => name!);
    assertEquals(named.filter((name) => name !== command.name), [], command.name);
    // A flag of several commands tells none of them apart: "score: the text", "in all but score".
    const others = names.filter((name) => name !== command.name).join("|");
    const told = new RegExp(`(^|[(;,] )(${others}): |\\ball but (${others})\\b`, "g");
    const shared = Object.values(allFlags(command)).filter(({ option }) => option === undefined);
    const flags = shared.map(({ help }) => help).join("\n");
    assertEquals([...flags.matchAll(told)].map(([text]) => text), [], command.name);
  }
});

Deno.test("a flag is of one kind in all commands", () => {
  const kinds = new Map<string, string>();
  for (const command of commands) {
    for (const [name, { kind }] of Object.entries(allFlags(command))) {
      assertEquals(kinds.get(name) ?? kind, kind, `--${name} of ${command.name}`);
      kinds.set(name, kind);
    }
  }
});

Deno.test("helps name the defaults and the choices that the code has", () => {
  assertEquals(TEXT.context.help, `tokens per chunk (${DEFAULT_CONTEXT})`);
  assertEquals(STUDY.out.help, `folder for results (${RESULTS}/<time>)`);
  assertEquals(SEARCH.race.choices.map(({ name }) => name), Object.keys(RACES));
});

/** What a shell offers at the end of a command line. */
async function complete(shell: string, words: readonly string[]): Promise<readonly string[]> {
  const script = completionScript(commands, "bash");
  const line =
    `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tokenfilter; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { success, stdout, stderr } = await new Deno.Command(shell, {
    args: ["--norc", "-c", line, "-", ...words],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim().split("\n");
}

Deno.test({
  ...unless(NEEDS_LINUX, "bash completes commands, their own flags, and values"),
  async fn() {
    assertEquals(await complete("bash", ["deno", "task", "sc"]), ["score"]);
    assertEquals(await complete("bash", ["deno", "task", "score", "--pha"]), ["--phase"]);
    assertEquals(await complete("bash", ["deno", "task", "score", "--phase", ""]), ["prefill", "decode"]);
    assertEquals(await complete("bash", ["deno", "task", "report", "--method"]), [""]);
    assertEquals(await complete("bash", ["deno", "task", "study", "re"]), ["repair"]);
    assertEquals(await complete("bash", ["deno", "task", "score", "--text", ""]), [""]); // the shell lists files
    assertEquals(await complete("bash", ["deno", "run", ""]), [""]);
    const kv = await complete("bash", ["deno", "task", "filter", "--kv-method", ""]);
    // A dump has queries, but not the model that duo-attention probes.
    assert(kv.includes("same") && kv.includes("snapkv") && !kv.includes("duo-attention"), kv.join());
  },
});

Deno.test("each shell's script is one that can be read twice", () => {
  for (const shell of SHELLS) assert(completionScript(commands, shell).includes("{_tokenfilter_deno="));
});
