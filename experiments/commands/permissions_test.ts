/** The tasks of deno.json run with the permissions that they name, and no others. */
import { assert, assertEquals } from "@std/assert";
import { hostTensor } from "../../mod.ts";
import { writeSafetensors } from "../../lib/model/mod.ts";
import { finish, withFolder } from "./testing.ts";

const ROOT = new URL("../../", import.meta.url);
const SMALL = ["--context", "64", "--tokens", "64", "--threads", "1"];

Deno.test("tasks that run methods name the permissions that they need, and these are enough", () =>
  withFolder(async (folder) => {
    const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
    const tensor = () => hostTensor("f32", [40, 1, 4], new Float32Array(160).fill(1));
    const dump = writeSafetensors(new Map([["keys", tensor()], ["values", tensor()]]));
    await Deno.writeFile(`${folder}/kv.safetensors`, dump);
    await Deno.writeTextFile(
      `${folder}/text.txt`,
      "It was the best of times, it was the worst of times. ".repeat(9),
    );
    const runs: [string, string[]][] = [
      ["sweep", [...SMALL, "--method", "key", "--live", "--out", `${folder}/sweep`]],
      ["compare", [...SMALL, "--methods", "key", "--out", `${folder}/compare`]],
      ["heads", [...SMALL, "--resamples", "9", "--out", `${folder}/heads`]],
      ["score", [
        "--text",
        `${folder}/text.txt`,
        "--method",
        "key",
        "--threads",
        "1",
        "--out",
        `${folder}/score`,
      ]],
      ["eval", [
        ...[
          "--data",
          new URL("eval/testdata/items", import.meta.url).pathname,
          "--tasks",
          "piqa",
          "--threads",
          "1",
        ],
        ...["--out", `${folder}/eval`],
      ]],
      ["generate", ["--prompt", "It was", "--method", "key", "--threads", "1", "--max-tokens", "4"]],
      ["filter", ["--kv", `${folder}/kv.safetensors`, "--threads", "1", "--out", `${folder}/filter`]],
      ["worker", ["--study", `${folder}/sweep/study.db`, "--threads", "1"]],
      ["study", ["show", `${folder}/sweep`, "--plot", `${folder}/plot.html`]],
      ["diff", [`${folder}/sweep`, `${folder}/sweep`, "--out", `${folder}/diff`]],
      ["report", [folder, "--out", `${folder}/site`]],
    ];
    for (const [task, args] of runs) {
      assert(!/ run -A /.test(tasks[task]), tasks[task]);
      const [deno, ...words] = tasks[task].split(" ");
      assertEquals(deno, "deno");
      const command = new Deno.Command(Deno.execPath(), {
        args: [...words, ...args],
        cwd: ROOT,
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
      });
      const { code, stderr } = await finish(command.spawn());
      assertEquals(code, 0, `${task}: ${stderr}`);
    }
  }));
