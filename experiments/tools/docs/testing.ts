/** A site on a server of this machine, for tests in a browser. */
const TYPES: { readonly [ending: string]: string } = {
  html: "text/html",
  js: "text/javascript",
  css: "text/css",
  svg: "image/svg+xml",
};

/** Serves a site under `/b/` until it is disposed of. */
export const serveSite = (folder: string) =>
  Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async ({ url }) => {
    const path = decodeURI(new URL(url).pathname).replace("/b/", "").replace(/(^|\/)$/, "$1index.html");
    const body = await Deno.readFile(`${folder}/${path}`).catch(() => undefined);
    if (body === undefined) return new Response("", { status: 404 });
    return new Response(body, {
      headers: { "content-type": TYPES[path.split(".").at(-1)!] ?? "text/plain" },
    });
  });
