/** Tasks as they look in a terminal: no row is wrapped, no word is cut. */
import { assert, assertEquals } from "@std/assert";
import { hostTensor } from "../../mod.ts";
import { writeSafetensors } from "../../lib/model/mod.ts";
import { IN_SLOW_TIER, NEEDS_LINUX, RUNS_SLOW, unless } from "../../lib/testing.ts";
import { moduleOf, withFolder } from "./testing.ts";

/** Runs a program in a pseudo-terminal of a number of columns, and writes its output. */
const TERMINAL = `
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, int(sys.argv[1]), 0, 0))
    os.execvp(sys.argv[2], sys.argv[2:])
try:
    while data := os.read(fd, 65536):
        sys.stdout.buffer.write(data)
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

/** Lines of a task's output on a terminal; a line that is drawn again counts each time. */
async function show(columns: number, task: string, args: readonly string[]): Promise<string[]> {
  const command = [Deno.execPath(), "run", "-A", moduleOf(task), ...args];
  const { code, stdout } = await new Deno.Command("python3", {
    args: ["-c", TERMINAL, String(columns), ...command],
    cwd: new URL("../../", import.meta.url),
    stdin: "null",
    stdout: "piped",
  }).output();
  const text = new TextDecoder().decode(stdout);
  assertEquals(code, 0, text);
  return text.split(/\r?\n|\r/).map((line) => line.replaceAll(/\p{Cc}\[\d*[GJK]/gu, ""));
}

const SMALL = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1"];

Deno.test({
  ...unless(NEEDS_LINUX || IN_SLOW_TIER, "every task fits terminals of 80 and 120 columns, and cuts no word"),
  fn: () =>
    withFolder(async (folder) => {
      const tensor = () =>
        hostTensor("f32", [40, 2, 8], Float32Array.from({ length: 640 }, (_, i) => Math.sin(i * i)));
      Deno.writeFileSync(
        `${folder}/kv.safetensors`,
        writeSafetensors(new Map([["keys", tensor()], ["values", tensor()]])),
      );
      Deno.writeTextFileSync(
        `${folder}/text.txt`,
        "The old sea captain looked at the harbour and said nothing. ".repeat(3),
      );
      const runs: [string, string[], RegExp][] = [
        [
          "sweep",
          ["--context", "64", "--tokens", "64", "--threads", "1", "--method", "learned,random"],
          /^ +- +dense/,
        ],
        ["diff", [`${folder}/sweep_80_8`, `${folder}/sweep_120_8`], /^dense /],
        ["heads", [...SMALL, "--resamples", "9"], /^learned /],
        ["score", ["--text", `${folder}/text.txt`, "--method", "learned"], /"▁capt/],
        ["filter", ["--kv", `${folder}/kv.safetensors`], /^ +0 +40 /],
        ["filter", ["--kv", `${folder}/kv.safetensors`, "--all"], /^ +0 +39 /],
      ];
      if (RUNS_SLOW) runs.push(["compare", SMALL, /^random \(5 seeds\)/]);
      const words = async (columns: number, task: string, args: string[], row: RegExp) => {
        const lines = await show(columns, task, [
          ...args,
          "--out",
          `${folder}/${task}_${columns}_${args.length}`,
        ]);
        for (const line of lines) {
          assert(line.length <= columns || !line.includes(" "), `${task} at ${columns}: "${line}"`);
        }
        assert(lines.some((line) => row.test(line)), `${task}: ${lines.join("\n")}`);
        return new Set(lines.flatMap((line) => line.match(/(?<![\w/.-])[a-z]{3,}(?![\w/])/gi) ?? []));
      };
      for (const [task, args, row] of runs) {
        const narrow = await words(80, task, args, row), wide = await words(120, task, args, row);
        for (const word of narrow) {
          assert(
            wide.has(word) || ["Left", "out", "columns", "all", "csv", "FILE", "min"].includes(word),
            `${task}: "${word}"`,
          );
        }
      }
    }),
});
