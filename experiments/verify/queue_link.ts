/**
 * A sweep whose queue is on another host, and the link to one of its two workers is cut for 20 s. The hosts are network
 * namespaces (Linux, root): `deno run -A … experiments/verify/queue_link.ts [trials]`.
 */
import { RedisServer } from "../queue_testing.ts";
import { delay, readResults, readTrials } from "../study_testing.ts";
import { finish, runTask, spawnTask, withFolder } from "../testing.ts";
import { readStdFlags } from "../cli/deno.ts";

const trials = Number(Deno.args[0] ?? 200),
  FAR = "tokenfilter-far",
  NEAR_IP = "10.77.31.1",
  FAR_IP = "10.77.31.2";

async function ip(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("ip", { args }).output();
  if (!success) throw new Error(`ip ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

await withFolder(async (folder) => {
  await ip("netns", "add", FAR);
  try {
    await ip("link", "add", "tkf0", "type", "veth", "peer", "name", "tkf1", "netns", FAR);
    await ip("addr", "add", `${NEAR_IP}/24`, "dev", "tkf0");
    await ip("link", "set", "tkf0", "up");
    await ip("-n", FAR, "addr", "add", `${FAR_IP}/24`, "dev", "tkf1");
    await ip("-n", FAR, "link", "set", "tkf1", "up");
    const seeds = Array.from({ length: trials }, (_, i) => i).join(",");
    const small = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1"];
    const args = [...small, "--fusion", "random", "--seed", seeds, "--quiet"];
    const whole = await runTask("sweep", ...args, "--out", `${folder}/whole`);
    if (whole.code !== 0) throw new Error(whole.stderr);
    await using server = await RedisServer.start(folder, [], NEAR_IP);
    const out = `${folder}/queued`,
      ended = finish(await spawnTask("sweep", [...args, "--queue", server.url, "--out", out]));
    const own = ["--queue", server.url, "--threads", "1", "--lease", "5"];
    const near = await spawnTask("worker", own);
    const far = new Deno.Command("ip", {
      args: [
        ...["netns", "exec", FAR, Deno.execPath(), "run", "-A", ...await readStdFlags()],
        "experiments/worker.ts",
        ...own,
      ],
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const workersEnd = [near, far].map(finish);
    while (readTrials(out).length < 0.2 * trials) await delay(100);
    await ip("-n", FAR, "link", "set", "tkf1", "down");
    const before = readTrials(out).length;
    await delay(20_000);
    await ip("-n", FAR, "link", "set", "tkf1", "up");
    const during = readTrials(out).length - before;
    const { code, stderr } = await ended;
    for (const worker of [near, far]) worker.kill("SIGTERM");
    const [atNear, atFar] = (await Promise.all(workersEnd)).map(({ stderr }) =>
      stderr.match(/Finished trial/g)?.length ?? 0
    );
    const expected = readResults(`${folder}/whole/study.db`), found = readResults(`${out}/study.db`);
    const unlike = [...expected].filter(([trial, result]) =>
      JSON.stringify(found.get(trial)) !== JSON.stringify(result)
    );
    console.log(
      `exit ${code} ${stderr}, ${during} results while the link was cut, ${atNear} trials near and ${atFar} far; ` +
        `${found.size} results, ${unlike.length} unlike`,
    );
    Deno.exitCode = code === 0 && found.size === trials && unlike.length === 0 ? 0 : 1;
  } finally {
    await ip("netns", "del", FAR);
  }
});
