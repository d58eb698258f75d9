import { fileURLToPath } from "node:url";
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";
import { readResults } from "./study_testing.ts";
import { command } from "../sweep.ts";
import { listFolder, runTask, withFolder } from "../testing.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const SMALL = [
  "--context",
  "64",
  "--tokens",
  "64",
  "--warmup",
  "8",
  "--method",
  "random",
  "--seed",
  "1,2,3,4,5",
];

/** A stand-in for Slurm's: runs each task of the array that the script asks for, one after the other. */
const SBATCH = `#!/bin/bash
set -euo pipefail
array=
if [[ $1 == --array=* ]]; then array=\${1#--array=} && shift; fi
array=\${array:-$(sed -n 's/^#SBATCH --array=//p' "$1")}
first=\${array%-*} last=\${array#*-}
export SLURM_ARRAY_TASK_COUNT=$((last - first + 1)) SLURM_CPUS_PER_TASK=1
for ((SLURM_ARRAY_TASK_ID = first; SLURM_ARRAY_TASK_ID <= last; SLURM_ARRAY_TASK_ID++)); do
  export SLURM_ARRAY_TASK_ID
  bash "$@"
done
`;

Deno.test({
  ...unless(NOT_ON_WINDOWS, "the sbatch script's shards, merged, are the sweep"),
  fn: () =>
    withFolder(async (folder) => {
      const bin = `${folder}/bin`, out = `${folder}/out`;
      await Deno.mkdir(bin);
      await Deno.symlink(Deno.execPath(), `${bin}/deno`);
      await Deno.writeTextFile(`${bin}/sbatch`, SBATCH, { mode: 0o755 });
      const submitted = await new Deno.Command(`${bin}/sbatch`, {
        args: ["--array=1-2", `${ROOT}docs/guides/clusters/sweep.sbatch`, out, ...SMALL],
        cwd: ROOT,
        env: { PATH: `${bin}:${Deno.env.get("PATH")}` },
      }).output();
      assertEquals([submitted.code, listFolder(out)], [0, ["shard-1", "shard-2"]]);
      const sizes = [1, 2].map((part) => readResults(`${out}/shard-${part}/study.db`).size);
      assertEquals(sizes, [3, 2]);
      const parts = sizes.map((_, i) => `${out}/shard-${i + 1}`);
      const merged = await runTask("study", "merge", ...parts, "--out", `${out}/study.db`);
      assertEquals([merged.code, merged.stdout], [0, `5 new trials in ${out}/study.db\n`]);
      const report = await runTask("sweep", ...SMALL, "--threads", "1", "--resume", out);
      assertEquals(report.code, 0, report.stderr);
      assertEquals(report.stderr.includes("[1/5]"), false); // nothing was left to run
      const whole = await runTask("sweep", ...SMALL, "--threads", "1", "--quiet", "--out", `${folder}/whole`);
      assertEquals([whole.code, whole.stderr], [0, ""]);
      assertEquals(readResults(`${out}/study.db`), readResults(`${folder}/whole/study.db`));
    }),
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "the Kubernetes Job's command starts a worker"),
  fn: () =>
    withFolder(async (folder) => {
      await Deno.symlink(Deno.execPath(), `${folder}/deno`);
      const job = await Deno.readTextFile(`${ROOT}docs/guides/clusters/job.yaml`);
      const [command, ...args]: string[] = JSON.parse(job.match(/command: (\[.*\])/)![1]!);
      const { code, stderr } = await new Deno.Command(command!, {
        args,
        cwd: ROOT,
        env: { PATH: `${folder}:${Deno.env.get("PATH")}`, QUEUE_URL: "redis://127.0.0.1:1", NO_COLOR: "1" },
      }).output();
      const last = new TextDecoder().decode(stderr).trim().split("\n").at(-1)!;
      assertEquals(code, 2);
      assertStringIncludes(last, "Cannot reach the queue at redis://127.0.0.1:1: there is no answer");
    }),
});

Deno.test("--shard refuses a part that there is not", async () => {
  for (
    const [shard, part] of [
      ["0/2", "expected I/N with I from 1 to N"],
      ["3/2", "expected I/N"],
      ["1/9", "expected at most as many parts as trials, 5"],
    ] as const
  ) {
    await assertRejects(
      () => command.main([...SMALL, "--shard", shard]),
      UsageError,
      `Cannot use --shard ${shard}: ${part}`,
    );
  }
});
