import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../errors.ts";
import { withVariables } from "../../testing.ts";
import golden from "../testdata/hub_cache_golden.json" with { type: "json" };
import { openBytes } from "../formats/_disk.ts";
import { obtainFromHub, parseHubName } from "./repository.ts";
import type { HubOptions } from "./request.ts";
import { HeldTimers } from "./stall_testing.ts";

const { commit, files, listing } = golden, REPOSITORY = "org/name";
const BIG = Uint8Array.from({ length: 200_000 }, (_, i) => i * i);
const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", BIG)).toHex();

/** Contents of the hub's files by name, with their digests. */
type Contents = ReadonlyMap<string, { readonly content: Uint8Array<ArrayBuffer>; readonly etag: string }>;
const GOLDEN: Contents = new Map(
  files.map(({ name, content, etag }) => [name, { content: new TextEncoder().encode(content), etag }]),
);
const LARGE: Contents = new Map([["big.gguf", { content: BIG, etag: digest }]]);

/** An answer instead of the hub's own; undefined: the hub's own. */
type Answer = (request: Request, count: number) => Response | undefined | Promise<Response | undefined>;

/** A hub, a cache, and the requests that come: method, path, range, authorization. */
async function withHub(
  contents: Contents,
  answer: Answer,
  test: (options: HubOptions & { hubCache: string }, requests: string[]) => Promise<void>,
): Promise<void> {
  const hubCache = await Deno.makeTempDir(), requests: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url), range = request.headers.get("range");
    const token = request.headers.get("authorization");
    requests.push([request.method, pathname, range, token].filter((part) => part !== null).join(" "));
    const own = await answer(request, requests.length);
    if (own !== undefined) return own;
    if (pathname.startsWith(`/api/models/${REPOSITORY}/revision/`)) {
      return Response.json({
        sha: commit,
        siblings: [...contents.keys()].map((rfilename) => ({ rfilename })),
      });
    }
    const file = contents.get(pathname.replace(`/${REPOSITORY}/resolve/${commit}/`, ""));
    if (file === undefined) return new Response("no", { status: 404 });
    return bodyOf(file, range);
  });
  const options = {
    hubCache,
    endpoint: `http://127.0.0.1:${server.addr.port}`,
    offline: false,
    retryMs: 1,
    stallMs: 5000,
  };
  try {
    await test(options, requests);
  } finally {
    await server.shutdown();
    await Deno.remove(hubCache, { recursive: true });
  }
}

/** A file as the hub sends it: whole, or from a byte on. */
function bodyOf(
  { content, etag }: { content: Uint8Array<ArrayBuffer>; etag: string },
  range: string | null,
): Response {
  const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  const headers = {
    etag: `"${etag}"`,
    "x-linked-etag": `"${etag}"`,
    "x-linked-size": `${content.length}`,
    ...(from > 0 && { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
  };
  return new Response(content.subarray(from), { status: from > 0 ? 206 : 200, headers });
}

/** The contents of a cache, as `make_hub_cache_golden.py` lists them. */
async function list(folder: string, below = ""): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for await (const { name, isDirectory, isSymlink } of Deno.readDir(`${folder}/${below}`)) {
    const path = `${folder}/${below}${name}`;
    if (isDirectory) found.push(...await list(folder, `${below}${name}/`));
    else {found.push([
        below + name,
        isSymlink ? `-> ${await Deno.readLink(path)}` : await Deno.readTextFile(path),
      ]);}
  }
  return found.toSorted(([a], [b]) => a < b ? -1 : 1);
}

const own: Answer = () => undefined;
const name = (text: string) => parseHubName(text)!;

Deno.test("parseHubName() takes names of the hub apart, and leaves paths alone", () => {
  const cases: [string, unknown][] = [
    ["org/name", { repository: "org/name", revision: "main", file: undefined }],
    ["org/na.me@v1/x:sub/a.gguf", { repository: "org/na.me", revision: "v1/x", file: "sub/a.gguf" }],
    ...[
      "tiny",
      "org/model.gguf",
      "./org/name",
      "/org/name",
      "a/b/c",
      "org/name:../x",
      "org/name@../x",
      "org/name:a//b",
    ]
      .map((text): [string, unknown] => [text, undefined]),
  ];
  for (const [text, want] of cases) assertEquals(parseHubName(text), want, text);
});

Deno.test("obtainFromHub() lays the cache out as Python's huggingface_hub does", async () => {
  await withHub(GOLDEN, own, async (options, requests) => {
    const folder = await obtainFromHub(name("org/name"), options);
    assertEquals(folder, `${options.hubCache}/models--org--name/snapshots/${commit}`);
    await obtainFromHub(name("org/name@v1/x"), options);
    const file = await obtainFromHub(name("org/name:sub/small.Q8_0.gguf"), options);
    assertEquals(await Deno.readTextFile(file), "GGUF");
    const { "CACHEDIR.TAG": _, ...want } = listing;
    assertEquals(Object.fromEntries(await list(options.hubCache)), want);
    assertEquals(requests.filter((request) => request.startsWith("GET /org")).length, 3);
    // A commit that is complete in the cache needs no request.
    const before = requests.length;
    assertEquals(await obtainFromHub(name(`org/name@${commit}`), options), folder);
    assertEquals(requests.length, before);
  });
});

Deno.test("obtainFromHub() finds offline what Python has downloaded", async () => {
  await withHub(new Map(), own, async (options, requests) => {
    for (const [path, text] of Object.entries(listing)) {
      const to = `${options.hubCache}/${path}`;
      await Deno.mkdir(to.slice(0, to.lastIndexOf("/")), { recursive: true });
      if (text.startsWith("-> ")) await Deno.symlink(text.slice(3), to);
      else await Deno.writeTextFile(to, text);
    }
    const offline = { ...options, offline: true };
    const folder = await obtainFromHub(name("org/name"), offline);
    assertEquals(await Deno.readTextFile(`${folder}/model.safetensors`), "weights");
    assertEquals(await obtainFromHub(name("org/name@v1/x"), offline), folder);
    for (const lost of ["org/name@v2", "org/other", "org/name:other.gguf"]) {
      await assertRejects(() => obtainFromHub(name(lost), offline), UsageError, "leave out --offline");
    }
    assertEquals(requests, []);
    // A host that cannot be reached is no reason to refuse files in the cache.
    const notices: string[] = [], nobody = { ...options, endpoint: "http://127.0.0.1:1" };
    assertEquals(
      await obtainFromHub(name("org/name"), { ...nobody, onNotice: (text) => notices.push(text) }),
      folder,
    );
    assertStringIncludes(notices[0]!, "cannot be reached");
    await assertRejects(() => obtainFromHub(name("org/other"), nobody), UsageError, "check the network");
  });
});

/** The big file's bytes from one on, and then a broken connection; `sent` ends when it may break. */
function cutAt(
  bytes: number,
  from = 0,
  sent = () => new Promise<void>((resolve) => setTimeout(resolve, 5)),
): Response {
  const { headers } = bodyOf(LARGE.get("big.gguf")!, from > 0 ? `bytes=${from}-` : null);
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(BIG.slice(from, from + bytes));
    },
    async pull(controller) {
      await sent();
      controller.error(new Error("cut"));
    },
  });
  return new Response(body, { status: from > 0 ? 206 : 200, headers });
}

const isBody = (request: Request) => request.method === "GET" && request.url.endsWith("/big.gguf");

Deno.test("obtainFromHub() goes on where a connection broke or fell silent", async () => {
  // Six cuts: more than are borne in a row without coming further.
  const isCut = (request: Request, from: number) => isBody(request) && from < 180_000;
  const firstOf = (headers: Headers) => Number(/bytes=(\d+)/.exec(headers.get("range") ?? "")?.[1] ?? 0);
  for (const isSilent of [false, true]) {
    let read = Promise.withResolvers<void>(); // of the present request: the client has all bytes before the cut
    const answer: Answer = (request) => {
      const from = firstOf(request.headers);
      return !isSilent && isCut(request, from) ? cutAt(30_000, from, () => read.promise) : undefined;
    };
    await withHub(LARGE, answer, async (options, requests) => {
      const stallMs = 4999;
      using timers = new HeldTimers(stallMs);
      const broken = async (url: string, init: RequestInit) => {
        read = Promise.withResolvers();
        const request = new Request(url, init), from = firstOf(request.headers);
        const response = await fetch(url, init);
        if (!isCut(request, from)) return response;
        const { status, headers } = response;
        if (isSilent) {
          return new Response(timers.stallAfter(response.body!, 30_000, init.signal!), { status, headers });
        }
        let left = 30_000;
        const counted = new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            controller.enqueue(chunk);
            left -= chunk.length;
            if (left <= 0) read.resolve();
          },
        });
        return new Response(response.body!.pipeThrough(counted), { status, headers });
      };
      const more = { ...(isSilent && { stallMs }), fetch: broken as typeof fetch };
      const path = await obtainFromHub(name("org/name"), { ...options, ...more });
      assertEquals(await Deno.readFile(path), BIG);
      const ranges = requests.filter((request) => request.includes("bytes=")).map((request) =>
        request.split("=")[1]
      );
      assertEquals(ranges, ["30000-", "60000-", "90000-", "120000-", "150000-", "180000-"]);
    });
  }
});

Deno.test("obtainFromHub() goes on with what an earlier process left, and starts anew where it cannot", async () => {
  for (
    const [left, answer, range] of [
      [BIG.slice(0, 50_000), own, "bytes=50000-"],
      [
        BIG.slice(0, 50_000),
        (request: Request) => isBody(request) ? bodyOf(LARGE.get("big.gguf")!, null) : undefined,
        "bytes=50000-",
      ],
      [
        BIG.map((byte) => byte ^ 1),
        own,
        undefined,
      ],
      [new Uint8Array(300_000), own, undefined],
    ] as [Uint8Array, Answer, string | undefined][]
  ) {
    await withHub(LARGE, answer, async (options, requests) => {
      const blobs = `${options.hubCache}/models--org--name/blobs`;
      await Deno.mkdir(blobs, { recursive: true });
      await Deno.writeFile(`${blobs}/${digest}.incomplete`, left);
      assertEquals(await Deno.readFile(await obtainFromHub(name("org/name"), options)), BIG);
      assertEquals(requests.some((request) => request.includes("bytes=")), range !== undefined);
      assertEquals((await Array.fromAsync(Deno.readDir(blobs))).map(({ name }) => name), [digest]);
    });
  }
});

Deno.test("obtainFromHub() refuses a file of another digest, and keeps nothing of it", async () => {
  const answer: Answer = (request) =>
    isBody(request) ? bodyOf({ content: BIG.map((byte) => byte ^ 1), etag: digest }, null) : undefined;
  await withHub(LARGE, answer, async (options) => {
    await assertRejects(() => obtainFromHub(name("org/name"), options), UsageError, `expected ${digest}`);
    const left = (await list(options.hubCache)).map(([path]) => path);
    assertEquals(left, [`.locks/models--org--name/${digest}.lock`]);
  });
});

Deno.test("files in the hub's cache that are not as they were downloaded are refused", async () => {
  await withHub(LARGE, own, async (options) => {
    const path = await obtainFromHub(name("org/name"), options);
    await openBytes(path);
    await Deno.writeFile(await Deno.realPath(path), BIG.with(1000, 7));
    await obtainFromHub(name("org/name"), options); // a large file is read once, for its digest and its tensors
    const blob = `${await Deno.realPath(path)}", and it is downloaded again`;
    await assertRejects(() => openBytes(path), UsageError, `expected ${digest}; remove "${blob}`);
  });
  await withHub(GOLDEN, own, async (options) => {
    const folder = await obtainFromHub(name("org/name"), options);
    await Deno.writeTextFile(await Deno.realPath(`${folder}/config.json`), "{}");
    for (const offline of [false, true]) {
      const get = () => obtainFromHub(name("org/name"), { ...options, offline });
      await assertRejects(get, UsageError, 'Cannot read "org/name/config.json": found digest ');
    }
  });
});

Deno.test("obtainFromHub() writes through no link, and refuses a cache of links to nowhere in one line", async () => {
  await withHub(LARGE, own, async (options) => {
    const folder = `${options.hubCache}/models--org--name`, elsewhere = `${options.hubCache}/elsewhere`;
    await Deno.mkdir(`${folder}/blobs`, { recursive: true });
    await Deno.writeTextFile(elsewhere, "mine");
    await Deno.symlink(elsewhere, `${folder}/blobs/${digest}.incomplete`);
    assertEquals(await Deno.readFile(await obtainFromHub(name("org/name"), options)), BIG);
    assertEquals(await Deno.readTextFile(elsewhere), "mine");
    await Deno.remove(folder, { recursive: true });
    await Deno.mkdir(folder);
    await Deno.symlink(`${options.hubCache}/nowhere`, `${folder}/blobs`);
    const get = () => obtainFromHub(name("org/name"), options);
    const { message } = await assertRejects(get, UsageError, "Cannot write to the cache folder");
    assert(!message.includes("\n") && message.endsWith("set HF_HUB_CACHE to another folder"), message);
  });
});

Deno.test("obtainFromHub() says what to do where the hub refuses", async () => {
  const cases: [number, string | undefined, string][] = [
    [401, undefined, "accept the licence at http://127.0.0.1"],
    [401, "hf_x", "does not accept the token"],
    [403, "hf_x", "expected a licence that you have accepted"],
    [404, undefined, "check repository, revision and file"],
    [418, undefined, "found HTTP status 418, expected 200"],
  ];
  for (const [status, token, message] of cases) {
    const answer = () => new Response("no", { status });
    await withVariables({ HF_TOKEN: token ?? "" }, () =>
      withHub(LARGE, answer, async (options, requests) => {
        const get = () => obtainFromHub(name("org/name"), options);
        const error = await assertRejects(get, UsageError, message);
        assert(!error.message.includes("\n"));
        assertEquals([requests.length, requests[0]!.includes("Bearer hf_x")], [1, token !== undefined]);
      }));
  }
});

Deno.test("obtainFromHub() waits where the hub asks for patience, as long as it says, and not for ever", async () => {
  for (const status of [429, 503]) {
    const headers = { "retry-after": "0" };
    const busy: Answer = (_, count) =>
      count % 2 === 1 ? new Response("busy", { status, headers }) : undefined;
    await withHub(LARGE, busy, async (options, requests) => {
      assertEquals(
        await Deno.readFile(await obtainFromHub(name("org/name"), { ...options, retryMs: 9e6 })),
        BIG,
      );
      assertEquals(requests.length, 6);
    });
    await withHub(LARGE, () => new Response("busy", { status }), async (options, requests) => {
      await assertRejects(
        () => obtainFromHub(name("org/name"), options),
        UsageError,
        `found HTTP status ${status}${status === 429 ? " (too many requests)" : ""}`,
      );
      assertEquals(requests.length, 4);
    });
    const long = () => new Response("busy", { status, headers: { "retry-after": "3600" } });
    await withHub(LARGE, long, async (options, requests) => {
      await assertRejects(() => obtainFromHub(name("org/name"), options), UsageError, "check the network");
      assertEquals(requests.length, 1);
    });
  }
});

Deno.test("obtainFromHub() downloads once for runs that want the same at once", async () => {
  await withHub(LARGE, own, async (options, requests) => {
    const paths = await Promise.all([1, 2, 3].map(() => obtainFromHub(name("org/name"), options)));
    assertEquals(new Set(paths).size, 1);
    assertEquals(await Deno.readFile(paths[0]!), BIG);
    assertEquals(requests.filter((request) => request.startsWith("GET /org")).length, 1);
  });
});

Deno.test("obtainFromHub() names the files that there are where it must be told which", async () => {
  const of = (...names: string[]): Contents => new Map(names.map((file) => [file, LARGE.get("big.gguf")!]));
  const cases: [Contents, string, string][] = [
    [of("a.gguf", "b.gguf"), "org/name", 'name it, as "org/name:a.gguf"'],
    [of("a-Q4_0.gguf"), "org/name:a-Q4.gguf", 'the nearest is "a-Q4_0.gguf"'],
    [of("README.md"), "org/name", "found neither safetensors with a config.json nor a .gguf file"],
    [of("x-00001-of-00002.gguf"), "org/name:x-00001-of-00002.gguf", 'found no file "x-00002-of-00002.gguf"'],
  ];
  for (const [contents, asked, message] of cases) {
    await withHub(contents, own, async (options) => {
      await assertRejects(() => obtainFromHub(name(asked), options), UsageError, message);
    });
  }
});

Deno.test("obtainFromHub() shows its token to the hub's own origin alone, whatever redirects say", async () => {
  const file = LARGE.get("big.gguf")!, seen: (string | null)[] = [];
  const other = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    seen.push(request.headers.get("authorization"));
    return bodyOf(file, request.headers.get("range"));
  });
  const host = `127.0.0.1:${other.addr.port}`,
    described = { "x-linked-etag": digest, "x-linked-size": "200000" };
  const to = (location: string, headers = {}) =>
    new Response(null, { status: 302, headers: { ...headers, location } });
  const isFile = ({ url }: Request) => url.endsWith("/big.gguf");
  const answers: { readonly [what: string]: Answer } = {
    "another host, without its scheme": (request) =>
      isFile(request) ? to(`//${host}/x`, described) : undefined,
    "another host": (request) => isFile(request) ? to(`http://${host}/x`, described) : undefined,
    "its own": (request) =>
      isFile(request) ? to(new URL(request.url).pathname.replace("name", "new")) : undefined,
  };
  try {
    for (const [what, answer] of Object.entries(answers)) {
      await withVariables({ HF_TOKEN: "hf_x" }, () =>
        withHub(LARGE, (request, count) => {
          const renamed = request.url.includes("/org/new/");
          return renamed ? bodyOf(file, null) : answer(request, count);
        }, async (options, requests) => {
          assertEquals(await Deno.readFile(await obtainFromHub(name("org/name"), options)), BIG, what);
          assert(requests.every((request) => request.endsWith("Bearer hf_x")), requests.join());
          if (what === "its own") {
            assertEquals(requests.filter((request) => request.includes("/org/new/")).length, 2);
          }
        }));
    }
    assertEquals(seen, [null, null]); // each redirected only the download
  } finally {
    await other.shutdown();
  }
});

const isList = ({ url }: Request) => url.includes("/api/models/");

Deno.test("obtainFromHub() reads no endless list, and refuses one that is none", async () => {
  const endless = () => {
    const chunk = new Uint8Array(2 ** 20).fill(32);
    return new ReadableStream<Uint8Array<ArrayBuffer>>({ pull: (controller) => controller.enqueue(chunk) });
  };
  const packed = () => {
    let left = 64;
    const spaces = new ReadableStream<Uint8Array<ArrayBuffer>>({
      pull: (controller) => left-- > 0 ? controller.enqueue(new Uint8Array(2 ** 20)) : controller.close(),
    });
    const headers = { "content-encoding": "gzip" };
    return new Response(spaces.pipeThrough(new CompressionStream("gzip")), { headers });
  };
  const lists: [() => Response, string][] = [
    [() => new Response(endless()), "found more than 16777216 bytes"],
    [packed, "found more than 16777216 bytes"],
    [() => Response.json({ sha: commit, siblings: [null] }), "found no commit and files"],
    [() => Response.json(null), "found no commit and files"],
    [
      () => Response.json({ sha: commit, siblings: [{ rfilename: `${"a".repeat(5000)}.gguf` }] }),
      "found neither safetensors",
    ],
  ];
  for (const [list, message] of lists) {
    await withHub(LARGE, (request) => isList(request) ? list() : undefined, async (options, requests) => {
      await assertRejects(() => obtainFromHub(name("org/name"), options), UsageError, message);
      assertEquals(requests.length, 1);
    });
  }
});

Deno.test("obtainFromHub() refuses a file of which no size is said, or none that there is", async () => {
  for (const size of [undefined, "-5", "1e3", "99999999999999999999"]) {
    const headers = { etag: digest, ...(size !== undefined && { "x-linked-size": size }) };
    // The server sends no length of a stream.
    const body = () => new ReadableStream({ start: (controller) => controller.close() });
    const answer: Answer = ({ method }) => method === "HEAD" ? new Response(body(), { headers }) : undefined;
    await withHub(LARGE, answer, async (options) => {
      const found = size === undefined ? "found no size" : `found size "${size}"`;
      await assertRejects(() => obtainFromHub(name("org/name"), options), UsageError, found);
    });
  }
});

Deno.test("obtainFromHub() asks a hub that comes no further a number of times, and not for ever", async () => {
  const drips = () => {
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        controller.enqueue(BIG.slice(0, 1));
      },
    });
    return new Response(body, { headers: bodyOf(LARGE.get("big.gguf")!, null).headers });
  };
  const answers: [Answer, number, string][] = [
    [(request) => isBody(request) ? drips() : undefined, 40, "bytes in 0.04 s"],
    // Ranges are ignored, and each time a little more comes.
    [(request, count) => isBody(request) ? cutAt(30_000 + 10 * count) : undefined, 5000, "big.gguf"],
  ];
  for (const [answer, stallMs, message] of answers) {
    await withHub(LARGE, answer, async (options, requests) => {
      await assertRejects(
        () => obtainFromHub(name("org/name"), { ...options, stallMs }),
        UsageError,
        "try again",
      );
      assert(requests.length < 12, `${requests.length} requests (${message})`);
    });
  }
});

Deno.test("obtainFromHub() asks a hub that is silent once, where the cache has all that is wanted", async () => {
  let isSilent = false;
  const end = Promise.withResolvers<void>();
  const answer: Answer = async () => {
    if (isSilent) await end.promise;
    return undefined;
  };
  await withHub(LARGE, answer, async (options, requests) => {
    const path = await obtainFromHub(name("org/name"), options),
      before = requests.length,
      notices: string[] = [];
    try {
      isSilent = true;
      const silent = { ...options, stallMs: 400, onNotice: (notice: string) => notices.push(notice) };
      assertEquals(await obtainFromHub(name("org/name"), silent), path);
      assertEquals([requests.length - before, notices.length], [1, 1]);
    } finally {
      end.resolve();
    }
  });
});

Deno.test("obtainFromHub() asks for a home where nothing says where the hub's cache is", async () => {
  const none = ["HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"];
  await withVariables(Object.fromEntries(none.map((name) => [name, undefined])), async () => {
    const get = () => obtainFromHub(name("org/name"), { endpoint: "http://127.0.0.1:1" });
    await assertRejects(get, UsageError, "found no HOME, expected HF_HUB_CACHE");
  });
});
