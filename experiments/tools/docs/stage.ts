/** The repository's pages as VitePress reads them: those that README leads to, and the files that they name. */
import { joinText, readNotebook } from "../notebooks/notebook.ts";

const ROOT = new URL("../../../", import.meta.url);
const SITE = new URL("site/", import.meta.url);

/** Links of a page, code aside: `](target)`, and sources of pictures. */
const LINK = /(\]\()([^)\s]+)(?=\))|((?:src|srcset)=")([^"]+)(?=")/g;
const PICTURE = /\.(png|svg)$/;
const LANGUAGES: { readonly [ending: string]: string } = {
  sbatch: "bash",
  yaml: "yaml",
  json: "json",
  py: "python",
};

/** A path from the folder of one file of a tree to another. */
function relative(from: string, to: string): string {
  const base = from.split("/").slice(0, -1), parts = to.split("/");
  while (base.length > 0 && base[0] === parts[0]) (base.shift(), parts.shift());
  return `${base.length === 0 ? "./" : "../".repeat(base.length)}${parts.join("/")}`;
}

/** A picture for light and one for dark pages, as two images: the page's own switch chooses. */
const PAIR =
  /<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*<img (alt="[^"]*") src="([^"]+)">\s*<\/picture>/g;
const partPictures = (prose: string) =>
  prose.replaceAll(PAIR, '<img class="in-light" $2 src="$3"><img class="in-dark" $2 src="$1">');

/** Applies a function to the text outside of code blocks. */
const outsideCode = (text: string, change: (prose: string) => string) =>
  text.split(/(^ *```.*?^ *```)/gms).map((part, i) => i % 2 === 0 ? change(part) : part).join("");

/** The page of a file that is no Markdown: its text, a notebook's cells, or a folder's names. */
async function describeFile(
  path: string,
  save: (name: string, svg: string) => Promise<string>,
): Promise<string> {
  const url = new URL(path, ROOT), title = `# ${path}\n\n`;
  const block = (text: string, language: string) => `\`\`\`\`${language}\n${text.trimEnd()}\n\`\`\`\`\n`;
  if ((await Deno.stat(url)).isDirectory) {
    const names = Array.from(Deno.readDirSync(url), ({ name }) => name).sort();
    return `${title}${names.map((name) => `- \`${name}\``).join("\n")}\n`;
  }
  if (!path.endsWith(".ipynb")) {
    const ending = path.split(".").at(-1)!;
    return title +
      block(await Deno.readTextFile(url), LANGUAGES[ending] ?? (path.includes(".") ? ending : "text"));
  }
  const parts: string[] = [];
  for (const { cell_type: type, source, outputs = [] } of (await readNotebook(url.pathname)).cells) {
    parts.push(type === "code" ? block(source, "ts") : source);
    for (const { text, data } of outputs) {
      if (text !== undefined) parts.push(block(joinText(text), "text"));
      const [, alt, svg] = joinText(data?.["text/html"] ?? "").match(
        /<img alt="([^"]*)"[^>]* src="data:image\/svg\+xml[^,]*,([^"]*)"/,
      ) ?? [];
      if (svg !== undefined) {
        parts.push(
          `<img alt="${alt}" style="background: #ffffff" src="${await save(`${parts.length}.svg`, svg)}">`,
        );
      }
    }
  }
  return parts.join("\n\n");
}

/** Where a file of the repository is in the site's source. */
const placeOf = (path: string, isFolder: boolean) =>
  path === "README.md"
    ? "index.md"
    : isFolder
    ? `${path}/files.md`
    : /\.md$/.test(path) || PICTURE.test(path)
    ? path
    : `${path}.md`;

/** Groups of the side bar, from the map of the docs: one list per heading, with the first link of each row. */
export function readSidebar(map: string) {
  return map.split(/^## /m).slice(1).map((part) => ({
    text: part.split("\n")[0]!,
    collapsed: false,
    items: Array.from(
      part.matchAll(/^(?:\| |- )\[([^\]]+)\]\(([^)\s]+)\.md\)/gm),
      ([, text, target]) => ({ text, link: new URL(target!, "file:///docs/").pathname }),
    ),
  }));
}

/**
 * Writes a folder that VitePress builds.
 *
 * @returns Paths of the repository that became pages.
 * @throws {Deno.errors.NotFound} If a link leads nowhere.
 */
export async function stagePages(folder: string, base: string): Promise<string[]> {
  const todo = ["README.md"], seen = new Set(todo);
  for (let path = todo.shift(); path !== undefined; path = todo.shift()) {
    const own = path, isFolder = (await Deno.stat(new URL(own, ROOT))).isDirectory;
    const place = placeOf(own, isFolder);
    if (PICTURE.test(own)) {
      await copy(new URL(own, ROOT), `${folder}/${place}`);
      continue;
    }
    const save = async (name: string, svg: string) => {
      await write(`${folder}/${own}.${name}`, decodeURIComponent(svg));
      return `./${own.split("/").at(-1)}.${name}`;
    };
    const text = own.endsWith(".md")
      ? await Deno.readTextFile(new URL(own, ROOT))
      : await describeFile(own, save);
    const linked = outsideCode(
      text,
      (prose) =>
        partPictures(prose).replaceAll(LINK, (all, before = "", link, source = "", picture) => {
          const [target, anchor] = (link ?? picture).split("#") as [string, string?];
          if (
            /^[a-z]+:/.test(target) || target === "" || !own.endsWith(".md") && PICTURE.test(target)
          ) return all;
          const found = new URL(target, new URL(own, "file:///")).pathname.replace(/^\/|\/$/g, "");
          if (!seen.has(found)) (seen.add(found), todo.push(found));
          const to = placeOf(found, Deno.statSync(new URL(found, ROOT)).isDirectory);
          return `${before}${source}${relative(place, to)}${anchor === undefined ? "" : `#${anchor}`}`;
        }),
    );
    await write(`${folder}/${place}`, linked);
  }
  const theme = `${folder}/.vitepress/theme`;
  for (const name of ["config.mjs", "anchor.ts"]) {
    await copy(new URL(name, SITE), `${folder}/.vitepress/${name}`);
  }
  for (const name of ["MermaidDiagram.vue", "theme.css"]) await copy(new URL(name, SITE), `${theme}/${name}`);
  await write(
    `${theme}/index.js`,
    `import theme from "vitepress/theme";
import MermaidDiagram from "./MermaidDiagram.vue";
import "./theme.css";
export default { extends: theme, enhanceApp: ({ app }) => app.component("MermaidDiagram", MermaidDiagram) };
`,
  );
  const sidebar = readSidebar(await Deno.readTextFile(new URL("docs/index.md", ROOT)));
  await write(`${folder}/.vitepress/site.json`, JSON.stringify({ sidebar, base }));
  return [...seen].filter((path) => !PICTURE.test(path));
}

async function write(path: string, text: string): Promise<void> {
  await Deno.mkdir(path.replace(/\/[^/]*$/, ""), { recursive: true });
  await Deno.writeTextFile(path, text);
}

async function copy(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to.replace(/\/[^/]*$/, ""), { recursive: true });
  await Deno.copyFile(from, to);
}
