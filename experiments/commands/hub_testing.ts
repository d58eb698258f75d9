/** A stand-in for the Hugging Face hub: data sets and models in the form of the real ones, and a gate before some of them. */
import { createHash } from "node:crypto";
import { TASKS } from "../../lib/eval/mod.ts";
import { sha256 } from "../../lib/sha256.ts";
import { withFolder } from "./testing.ts";

/** Files by their place, `datasets/ORG/NAME@COMMIT/FILE` or `ORG/NAME@COMMIT/FILE`: the bytes, or the path of a file. */
export type HubContents = ReadonlyMap<string, Uint8Array<ArrayBuffer> | string>;

/** A running hub. */
export interface StandIn extends AsyncDisposable {
  /** Value of `HF_ENDPOINT`. */
  readonly endpoint: string;
  /** Requests so far: method and path. */
  readonly requests: string[];
  /** Computes the digests of all files: those of large ones take longer than a client waits for an answer. */
  prepare(): Promise<void>;
}

/** The token that opens gated repositories. */
export const HUB_TOKEN = "hf_of_a_test";

async function describe(content: Uint8Array<ArrayBuffer> | string) {
  if (typeof content !== "string") return { size: content.length, digest: await sha256(content) };
  const hash = createHash("sha256");
  for await (const chunk of (await Deno.open(content)).readable) hash.update(chunk);
  return { size: (await Deno.stat(content)).size, digest: hash.digest("hex") };
}

/**
 * Starts a hub on this machine.
 *
 * @param gated Repositories of models whose files need {@linkcode HUB_TOKEN}. As on the real hub, anybody may list them.
 */
export function serveHub(contents: HubContents, gated: ReadonlySet<string> = new Set()): StandIn {
  const requests: string[] = [], described = new Map<string, ReturnType<typeof describe>>();
  const list = (repository: string) => {
    const places = [...contents.keys()].filter((place) => place.startsWith(`${repository}@`));
    const cut = `${repository}@`.length, [sha] = places.map((place) => place.slice(cut, cut + 40));
    if (sha === undefined) return new Response("no", { status: 404 });
    return Response.json({ sha, siblings: places.map((place) => ({ rfilename: place.slice(cut + 41) })) });
  };
  const find = async (place: string) => {
    if (!described.has(place)) described.set(place, describe(contents.get(place)!));
    return await described.get(place)!;
  };
  const send = async (request: Request, place: string) => {
    const content = contents.get(place);
    if (content === undefined) return new Response("no", { status: 404 });
    const { size, digest } = await find(place);
    const headers = { "etag": `"${digest}"`, "x-linked-size": `${size}`, "content-length": `${size}` };
    if (request.method === "HEAD") return new Response(null, { headers });
    return new Response(typeof content === "string" ? (await Deno.open(content)).readable : content, {
      headers,
    });
  };
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url), { headers } = request;
    requests.push(`${request.method} ${pathname}`);
    const listed = /^\/api\/models\/(.+)\/revision\//.exec(pathname)?.[1];
    if (listed !== undefined) return list(listed);
    const [, repository = "", commit, file] = /^\/(.+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname) ?? [];
    if (gated.has(repository) && headers.get("authorization") !== `Bearer ${HUB_TOKEN}`) {
      return new Response("Access to this model is restricted", { status: 401 });
    }
    return await send(request, `${repository}@${commit}/${file}`);
  });
  return {
    endpoint: `http://127.0.0.1:${server.addr.port}`,
    requests,
    prepare: async () => {
      for (const place of contents.keys()) await find(place);
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const ITEM_FILES = new URL("eval/testdata/hub/", import.meta.url);

/** A few rows of the hub's data set of each task, in the form of the real ones. */
export async function dataOfTasks(): Promise<HubContents> {
  const contents = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { name, items } of TASKS) {
    if (items === undefined || !("file" in items) || items.hub === undefined) continue;
    const { repository, revision, files } = items.hub, folder = name === "mmlu_5shot" ? "mmlu" : name;
    for (const file of files) {
      const bytes = await Deno.readFile(new URL(`${folder}/${file}`, ITEM_FILES));
      contents.set(`datasets/${repository}@${revision}/${file}`, bytes);
    }
  }
  return contents;
}

/** Runs a test with a hub and an empty cache of it. */
export const withHub = (
  contents: HubContents,
  test: (
    options: { readonly endpoint: string; readonly hubCache: string; readonly retryMs: number },
    requests: readonly string[],
  ) => Promise<void>,
): Promise<void> =>
  withFolder(async (hubCache) => {
    await using hub = serveHub(contents);
    await test({ endpoint: hub.endpoint, hubCache, retryMs: 1 }, hub.requests);
  });
