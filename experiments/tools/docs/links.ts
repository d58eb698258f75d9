/** Links of a built site: each leads to a file that is there, and to a place in it. */

/** Attributes that name a file. */
const LINK = /<(?:a|img|link|script|source)\b[^>]*?\s(?:href|src|srcset)="([^"]*)"/g;

/** An attribute's value without its entities. */
const decodeEntities = (text: string) =>
  text.replaceAll(/&#x([0-9a-f]+);/gi, (_, code) => String.fromCodePoint(parseInt(code, 16))).replaceAll(
    "&quot;",
    '"',
  )
    .replaceAll("&amp;", "&");

/** Files of a folder, as paths in it. */
export function listFiles(folder: string, under = ""): string[] {
  return Array.from(Deno.readDirSync(`${folder}/${under}`)).flatMap(({ name, isDirectory }) =>
    isDirectory ? listFiles(folder, `${under}${name}/`) : [`${under}${name}`]
  );
}

/**
 * Faults in the links of the pages, one line each.
 *
 * @param base Where the site will be on its host: begins and ends with a slash.
 */
export function checkLinks(folder: string, base: string): string[] {
  const files = new Set(listFiles(folder));
  const pages = new Map(
    [...files].filter((path) => path.endsWith(".html")).map((
      path,
    ) => [path, Deno.readTextFileSync(`${folder}/${path}`)]),
  );
  const anchors = new Map(
    [...pages].map((
      [path, html],
    ) => [path, new Set(Array.from(html.matchAll(/\sid="([^"]*)"/g), ([, id]) => decodeEntities(id!)))]),
  );
  const fileOf = (path: string) =>
    [path, `${path}.html`, `${path}index.html`, `${path}/index.html`].find((file) => files.has(file));
  return [...pages].flatMap(([page, html]) =>
    Array.from(new Set(Array.from(html.matchAll(LINK), ([, link]) => decodeEntities(link!)))).flatMap(
      (link) => {
        if (/^(?!http:\/\/site\/)[a-z]+:/.test(link)) return [];
        const url = new URL(link, `http://site${base}${page}`), path = decodeURI(url.pathname);
        const file = path.startsWith(base) ? fileOf(path.slice(base.length)) : undefined;
        if (file === undefined) return [`${page}: ${link}: found no such file`];
        const anchor = decodeURIComponent(url.hash.slice(1));
        return anchor === "" || !anchors.has(file) || anchors.get(file)!.has(anchor)
          ? []
          : [`${page}: ${link}: found no such heading`];
      },
    )
  );
}
