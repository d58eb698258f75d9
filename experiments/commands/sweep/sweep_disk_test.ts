/** A disk that is full in the midst of a sweep: a real one, of a few hundred kB. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { readTrials } from "../study/study_testing.ts";
import { finish, resumeArguments, runProcess, runTask, spawnTask, withFolder } from "../testing.ts";

async function mount(folder: string, options: string): Promise<boolean> {
  try {
    const args = ["-t", "tmpfs", "-o", options, "tmpfs", folder];
    return (await new Deno.Command("mount", { args, stderr: "null" }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const unmount = (folder: string) => new Deno.Command("umount", { args: [folder] }).output();

async function canMount(): Promise<boolean> {
  const folder = await Deno.makeTempDir(),
    can = Deno.build.os === "linux" && await mount(folder, "size=100k");
  if (can) await unmount(folder);
  await Deno.remove(folder);
  return can;
}

Deno.test({
  ...unless(
    IN_SLOW_TIER || !await canMount() && "needs the right to mount",
    "sweep says that the disk is full, keeps what is finished, and goes on",
  ),
  fn: () =>
    withFolder(async (folder) => {
      assert(await mount(folder, "size=400k"));
      try {
        const seeds = Array.from({ length: 12 }, (_, i) => i).join(",");
        const small = ["--context", "32", "--tokens", "32", "--warmup", "8", "--threads", "1", "--quiet"];
        // A process of its own, whose end frees the trial that it was at.
        const full = await runProcess(
          "sweep",
          ...small,
          "--method",
          "random",
          "--seed",
          seeds,
          "--out",
          `${folder}/out`,
        );
        assertEquals([full.code, full.stdout], [2, ""]);
        assertMatch(
          full.stderr,
          /^Cannot write to study "[^"]*": found no space left on the device \(make room\): \d+ finished trials are in [^\n]*\n$/,
        );
        assert(await mount(folder, "remount,size=20m"));
        const kept = readTrials(`${folder}/out`);
        assert(kept.length > 1 && kept.length < 12, `${kept.length}`);
        assertMatch(full.stderr, new RegExp(`: ${kept.length} finished trials`));
        const { code, stderr } = await runTask("sweep", ...resumeArguments("sweep", full.stderr));
        assertEquals([code, stderr], [0, ""]);
        const all = readTrials(`${folder}/out`);
        assertEquals([all.length, all.slice(0, kept.length)], [12, kept]);
      } finally {
        await unmount(folder);
      }
    }),
});

Deno.test({
  ...unless(
    IN_SLOW_TIER || !await canMount() && "needs the right to mount",
    "a cache on a full disk is one line, whatever was to be written there",
  ),
  fn: () =>
    withFolder(async (folder) => {
      assert(await mount(folder, "size=64k,mode=700"));
      try {
        const small = [
          "--context",
          "64",
          "--tokens",
          "64",
          "--method",
          "random",
          "--threads",
          "1",
          "--quiet",
        ];
        const cache = { TOKENFILTER_CACHE: folder };
        const { code, stdout, stderr } = await finish(spawnTask("sweep", [...small, "--jobs", "1"], cache));
        assertEquals([code, stdout], [2, ""]);
        assertMatch(
          stderr,
          /^(?:compiling [^\n]*\n)?Cannot write a file: found no space left on the device \(make room, or [^\n]*\n$/,
        );
      } finally {
        await unmount(folder);
      }
    }),
});
