import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { PlaceLostError, UsageError } from "../../../lib/errors.ts";
import { IN_SLOW_TIER, unless, withVariables } from "../../../lib/testing.ts";
import { Connections, endsWithin, readAddress } from "./connection.ts";
import { studyKey } from "./job.ts";
import { freePort, hasProgram, NEEDS_REDIS, RedisServer, startWorker } from "./queue_testing.ts";
import { delay, readResults, readTrials } from "../study/study_testing.ts";
import { exists } from "../cli/files.ts";
import { finish, runProcess, spawnTask, withFolder } from "../testing.ts";

const SMALL = ["--context", "64", "--tokens", "64", "--warmup", "8", "--threads", "1", "--quiet"];
const SEEDS = Array.from({ length: 24 }, (_, i) => i).join(",");

Deno.test({
  ...unless(
    NEEDS_REDIS || IN_SLOW_TIER,
    "a queue comes to what a sweep comes to, though its server is killed and a worker paused",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const text = `${folder}/text.txt`,
        args = [...SMALL, "--text", text, "--method", "random", "--seed", SEEDS];
      await Deno.writeTextFile(text, "It was the best of times, it was the worst of times. ".repeat(9));
      await using server = await RedisServer.start(folder);
      const whole = await runProcess("sweep", ...args, "--out", `${folder}/whole`);
      assertEquals([whole.code, whole.stderr], [0, ""]);
      const out = `${folder}/queued`,
        sweep = await spawnTask("sweep", [...args, "--queue", server.url, "--out", out]);
      const ended = finish(sweep),
        workers = [await startWorker(server.url, 2), await startWorker(server.url, 2)];
      const workersEnd = workers.map(finish);
      while (readTrials(out).length < 2) await delay(20);
      workers[0]!.kill("SIGSTOP");
      await server.restart(100);
      const { code, stderr } = await ended;
      assertEquals([code, stderr], [0, ""]);
      workers[0]!.kill("SIGCONT");
      for (const worker of workers) worker.kill("SIGTERM");
      for (const end of await Promise.all(workersEnd)) {
        assertEquals([end.code, end.stdout], [0, ""]);
        assertStringIncludes(end.stderr, "Ends after the trial at work\n");
      }
      assertEquals(readResults(`${out}/study.db`), readResults(`${folder}/whole/study.db`));
    }),
});

Deno.test({
  ...unless(
    NEEDS_REDIS,
    "a worker refuses trials of other code, says so on both sides, and leaves them to others",
  ),
  fn: () =>
    withFolder(async (folder) => {
      await using server = await RedisServer.start(folder);
      const address = await readAddress(server.url, { prefix: "own.prefix" });
      const args = [
        ...SMALL,
        "--method",
        "random",
        "--seed",
        "1,2",
        "--out",
        `${folder}/out`,
        "--queue",
        server.url,
      ];
      const sweep = await spawnTask("sweep", [
        ...args.filter((arg) => arg !== "--quiet"),
        "--queue-prefix",
        "own.prefix",
      ]);
      const ended = finish(sweep);
      using connections = await Connections.open(address);
      const redis = connections.connect();
      let key: string | undefined;
      while (key === undefined) [key] = await redis.keys(studyKey(address.prefix, "*"));
      await redis.set(key, (await redis.get(key))!.replace(/"codeSha256":"\w+"/, '"codeSha256":"other"'));
      const more = ["--queue", server.url, "--queue-prefix", "own.prefix", "--threads", "1"];
      const worker = await spawnTask("worker", more), workerEnds = finish(worker);
      while ((await redis.zcard(`${address.prefix}:trials:delayed`)) === 0) await delay(20);
      await delay(300);
      worker.kill("SIGTERM");
      const { code, stderr } = await workerEnds;
      assertEquals(code, 0);
      assertMatch(
        stderr,
        /Refuses the trials of a study: Cannot take trials of study \w+: found code \w+, expected other\n/,
      );
      sweep.kill("SIGINT");
      const submitter = await ended;
      assertEquals(submitter.code, 130);
      assertStringIncludes(submitter.stderr, "A worker refuses these trials: Cannot take trials");
      assertMatch(submitter.stderr, /Interrupted: 0 finished trials are in .* To go on: deno task sweep /);
    }),
});

Deno.test({
  ...unless(NEEDS_REDIS, "a queue that cannot be had, or goes away, ends in one line without the password"),
  fn: () =>
    withFolder(async (folder) => {
      await using server = await RedisServer.start(folder);
      const refuse = (url: string, part: string) =>
        assertRejects(async () => await Connections.open(await readAddress(url)), UsageError, part);
      const place = server.url.replace(/.*@/, "");
      const wrong = await refuse(
        `redis://default:secret@${place}`,
        "the server refuses the user or password",
      );
      assert(!wrong.message.includes("secret"), wrong.message);
      await refuse(`redis://${place}`, "the server refuses the user or password");
      const queue = ["--queue", `redis://default:secret@${place}`], out = `${folder}/out`;
      const ended = await Promise.all([
        runProcess("sweep", ...SMALL, "--method", "key", ...queue, "--out", out),
        runProcess("worker", "--quiet", ...queue),
      ]);
      for (const { code, stdout, stderr } of ended) {
        assertEquals([code, stdout], [2, ""]);
        assertMatch(stderr, /^Cannot reach the queue at redis:\/\/[\d.:]+: the server refuses [^\n]*\n$/);
      }
      assertEquals(exists(out), false); // the next try needs no other folder
      await refuse("redis://127.0.0.1:1", "there is no answer (connect ECONNREFUSED 127.0.0.1:1)");
      await refuse(`${server.url}/99`, "the server has no such database (ERR DB index is out of range)");
      Deno.writeTextFileSync(`${folder}/password`, "a-password\n");
      const passwordFile = `${folder}/password`;
      using connections = await Connections.open(
        await readAddress(`redis://default@${place}/3`, { patienceS: 0.2, passwordFile }),
      );
      const redis = connections.connect();
      assertEquals(await redis.ping(), "PONG");
      assertMatch(String(await redis.client("INFO")), / db=3 /);
      await server.kill();
      await assertRejects(
        () => connections.gone,
        UsageError,
        `Cannot reach the queue at redis://${place}/3: there is no answer`,
      );
    }),
});

Deno.test({
  ...unless(
    NEEDS_REDIS,
    "a queue that gives no answer is away: a short silence is waited for, a long one ends the wait",
  ),
  fn: () =>
    withFolder(async (folder) => {
      await using server = await RedisServer.start(folder);
      const address = await readAddress(server.url, { patienceS: 0.3 });
      using patient = await Connections.open({ ...address, patienceS: 60 });
      using connections = await Connections.open(address);
      const redis = connections.connect(), answers = patient.connect();
      assertEquals([await redis.ping(), await answers.ping()], ["PONG", "PONG"]);
      server.hang();
      const answer = answers.ping();
      assertEquals(await endsWithin(100, Promise.race([answer, patient.gone])), false);
      const step = connections.orGone(redis.ping(), new AbortController().signal);
      await assertRejects(() => step, PlaceLostError, "there is no answer (silent for ");
      await assertRejects(() => connections.gone, PlaceLostError);
      const told = new AbortController(), waiting = connections.orGone(redis.ping(), told.signal);
      told.abort();
      await assertRejects(() => waiting);
      server.goOn();
      assertEquals(await Promise.race([answer, patient.gone]), "PONG");
    }),
});

Deno.test({
  ...unless(NEEDS_REDIS, "sweep and worker whose queue goes away end in one line, and go on once it is back"),
  fn: () =>
    withFolder(async (folder) => {
      await using server = await RedisServer.start(folder);
      const args = [...SMALL, "--method", "random", "--seed", SEEDS], out = `${folder}/queued`;
      const patience = ["--queue", server.url, "--patience", "1"];
      const begin = async (...more: string[]) => [
        await spawnTask("sweep", [...args, ...patience, ...more]),
        await spawnTask("worker", [...patience, "--threads", "1", "--lease", "2", "--quiet"]),
      ];
      const lost = (await begin("--out", out)).map(finish);
      while (readTrials(out).length < 2) await delay(20);
      await server.kill();
      const [sweep, worker] = await Promise.all(lost);
      const line = String.raw`Cannot reach the queue at redis://[\d.:]+: there is no answer \([^\n]*\)`;
      assertEquals([sweep!.code, worker!.code, sweep!.stdout, worker!.stdout], [2, 2, "", ""]);
      assertMatch(worker!.stderr, new RegExp(`^${line}\n$`));
      assertMatch(
        sweep!.stderr,
        new RegExp(`^${line}: \\d+ finished trials are in [^\n]*To go on: [^\n]*\n$`),
      );
      const kept = readTrials(out);
      await server.revive();
      const [again, helper] = await begin("--resume", out), helped = finish(helper!);
      const { code, stderr } = await finish(again!);
      assertEquals([code, stderr], [0, ""]);
      helper!.kill("SIGTERM");
      assertEquals((await helped).code, 0);
      const all = readTrials(out);
      assertEquals([all.length, all.slice(0, kept.length)], [24, kept]);
    }),
});

Deno.test({
  ...unless(
    NEEDS_REDIS || !await hasProgram("openssl", "version") && "needs openssl",
    "a queue over TLS answers who knows its authority alone",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const key = `${folder}/key.pem`, certificate = `${folder}/certificate.pem`, port = String(freePort());
      const made = await new Deno.Command("openssl", {
        args: [
          ...[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            key,
          ],
          ...[
            "-out",
            certificate,
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
          ],
        ],
        stderr: "null",
      }).output();
      assertEquals(made.code, 0);
      const files = [
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        certificate,
      ];
      const server = new Deno.Command("redis-server", {
        args: ["--port", "0", "--tls-port", port, ...files, "--tls-auth-clients", "no", "--save", ""],
        stdout: "null",
      }).spawn();
      const address = await readAddress(`rediss://localhost:${port}`);
      try {
        let said = "no answer";
        while (said.includes("no answer")) {
          await delay(20);
          said = (await assertRejects(() => Connections.open(address), UsageError)).message;
        }
        assertStringIncludes(said, "certificate");
        await withVariables({ DENO_CERT: certificate }, async () => {
          using connections = await Connections.open(address);
          assertEquals(await connections.connect().ping(), "PONG");
        });
      } finally {
        server.kill("SIGKILL");
        await server.status;
      }
    }),
});

Deno.test("worker refuses flags of a queue where there is none", async () => {
  for (const flag of ["--lease", "--patience", "--queue-prefix", "--queue-password-file"]) {
    const { code, stdout, stderr } = await runProcess("worker", "--study", "none.db", flag, "5");
    assertEquals([code, stdout, stderr], [2, "", `Cannot use ${flag} without --queue\n`]);
  }
});

Deno.test("readAddress() takes addresses of Redis alone, and shows none of their passwords", async () => {
  const read = async (url: string) => (await readAddress(url)).options;
  assertEquals(await readAddress("rediss://u:p%20q@host:1/2"), {
    place: "rediss://host:1/2",
    options: { host: "host", port: 1, db: 2, isTls: true, username: "u", password: "p q" },
    prefix: "tokenfilter",
    patienceS: 120,
  });
  assertEquals(await read("redis://host"), { host: "host", port: 6379, db: 0, isTls: false });
  assertEquals(await read("redis://[::1]:7/"), { host: "::1", port: 7, db: 0, isTls: false });
  assertEquals((await read("redis://:50%@host")).password, "50%");
  const wrong = ["host:6379", "http://host", "redis://", "redis", "redis://host/one", "redis://host?db=2"];
  for (const url of [...wrong, "redis://u:p@ss/w?o#rdPW@host", "redis://u:p#PW@host:1"]) {
    const { message } = await assertRejects(() => readAddress(url), UsageError, "expected redis://");
    assertEquals(/PW|p@ss|host:6379/.test(message), false, message);
  }
  await assertRejects(() => readAddress("redis://host", { prefix: "a:b" }), UsageError, "--queue-prefix");
});

Deno.test("the queue's password is in a variable or a file, and not in two places", () =>
  withFolder(async (folder) => {
    const password = async (url: string, passwordFile?: string) =>
      (await readAddress(url, { passwordFile })).options.password;
    const file = `${folder}/password`;
    Deno.writeTextFileSync(file, "of the file\n");
    await withVariables({ TOKENFILTER_QUEUE_PASSWORD: "of the variable" }, async () => {
      assertEquals(await password("redis://host"), "of the variable");
      assertEquals(await password("redis://host", file), "of the file");
      assertEquals(await password("redis://u:own@host"), "own");
    });
    assertEquals(await password("redis://host"), undefined);
    await assertRejects(
      () => password("redis://u:own@host", file),
      UsageError,
      "found a password in the address",
    );
    await assertRejects(() => password("redis://host", `${folder}/none`), UsageError, "Cannot read");
    Deno.writeTextFileSync(file, "\n");
    await assertRejects(() => password("redis://host", file), UsageError, "found no password there");
  }));

Deno.test("sweep --queue takes no --jobs, and worker one source of trials", async () => {
  for (
    const [task, args, part] of [
      ["sweep", ["--queue", "redis://127.0.0.1:1", "--jobs", "2"], "Cannot use --jobs with --queue"],
      ["worker", [], "expected --study FILE, or --queue"],
      ["worker", ["--study", "a", "--queue", "redis://b"], "expected --study FILE, or --queue"],
    ] as const
  ) {
    const { command } = await import(`../${task}.ts`);
    await assertRejects(() => command.main(args), UsageError, part);
  }
});
