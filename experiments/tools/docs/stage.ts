/** The repository's pages as VitePress reads them: those that README leads to, the notebooks, and the files that they name. */
import { fileURLToPath } from "node:url";
import { joinText, readNotebook } from "../notebooks/notebook.ts";

const ROOT = new URL("../../../", import.meta.url);
const SITE = new URL("site/", import.meta.url);

/** Links of a page, code aside: `](target)`, and sources of pictures. */
const LINK = /(\]\()([^)\s]+)(?=\))|((?:src|srcset)=")([^"]+)(?=")/g;
const PICTURE = /\.(png|svg)$/;
const LANGUAGES: { readonly [ending: string]: string } = { sbatch: "bash", py: "python", ipynb: "json" };

/** A picture for light and one for dark pages, as two images: the page's own switch chooses. */
const PAIR =
  /<picture>\s*(?:<source media="\(max-width[^>]*>\s*)*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*<img (alt="[^"]*") src="([^"]+)">\s*<\/picture>/g;
const TWO_IMAGES = '<img class="in-light" $2 src="$3"><img class="in-dark" $2 src="$1">';

/** Applies a function to the text outside of code blocks. */
const outsideCode = (text: string, change: (prose: string) => string) =>
  text.split(/(^ *```.*?^ *```)/gms).map((part, i) => i % 2 === 0 ? change(part) : part).join("");

const block = (text: string, language: string) => `\`\`\`\`${language}\n${text.trimEnd()}\n\`\`\`\`\n`;

/** Text and figures of a notebook, and its entry in the gallery. */
async function describeNotebook(path: string) {
  const parts: string[] = [], figures: string[] = [];
  for (const { cell_type: type, source, outputs = [] } of (await readNotebook(path)).cells) {
    parts.push(type === "code" ? block(source, "ts") : source);
    for (const { text, data } of outputs) {
      if (text !== undefined) parts.push(block(joinText(text), "text"));
      const [, alt, svg] = joinText(data?.["text/html"] ?? "").match(
        /<img alt="([^"]*)"[^>]* src="data:image\/svg\+xml[^,]*,([^"]*)"/,
      ) ?? [];
      if (svg === undefined) continue;
      parts.push(`<img class="figure" alt="${alt}" src="./${path.split("/").at(-1)}.${figures.length}.svg">`);
      figures.push(decodeURIComponent(svg));
    }
  }
  const [, title] = parts[0]!.match(/^# (.*)/)!, [, question] = parts[0]!.match(/\*\*Question\.\*\* (.*)/)!;
  return {
    text: parts.join("\n\n"),
    figures,
    title: title!,
    question: question!.replaceAll(/`([^`]*)`/g, "<code>$1</code>"),
  };
}

/** The page of a file that is neither Markdown nor a notebook: its text, or a folder's names. */
async function describeFile(path: string): Promise<string> {
  const url = new URL(path, ROOT), ending = path.split(".").at(-1)!;
  if ((await Deno.stat(url)).isDirectory) {
    const names = Array.from(Deno.readDirSync(url), ({ name }) => `- \`${name}\``);
    return `# ${path}\n\n${names.sort().join("\n")}\n`;
  }
  const language = LANGUAGES[ending] ?? (path.includes(".") ? ending : "text");
  return `# ${path}\n\n${block(await Deno.readTextFile(url), language)}`;
}

/** Where a file of the repository is in the site's source; the index is the landing page. */
function placeOf(path: string): string {
  if (path === "README.md") return "overview.md";
  if (Deno.statSync(new URL(path, ROOT)).isDirectory) return `${path}/files.md`.replace(/^\//, "");
  return /\.md$/.test(path) || PICTURE.test(path) ? path : `${path}.md`;
}

/** An entry of the side bar. */
interface Entry {
  readonly text: string;
  readonly link: string;
  readonly items?: readonly Entry[];
  readonly collapsed?: boolean;
}

/** The first link of each row of a table or list, as entries. */
const readEntries = (text: string, folder: string): Entry[] =>
  Array.from(
    text.matchAll(/^(?:\| |- )\[([^\]]+)\]\(([^)\s]+)\.md\)/gm),
    ([, text, target]) => ({ text: text!, link: new URL(target!, `file:///${folder}`).pathname }),
  );

/** Groups of the side bar: a list per heading of the map of the docs, the notebooks after the first one. */
export async function readSidebar(notebooks: readonly Entry[]) {
  const [, ...parts] = (await readRoot("docs/index.md")).split(/^## /m);
  const commands = readEntries(await readRoot("docs/reference/cli.md"), "docs/reference/");
  const groups = parts.map((part) => ({
    text: part.split("\n")[0]!,
    items: readEntries(part, "docs/").map((entry) =>
      entry.link === "/docs/reference/cli" ? { ...entry, collapsed: true, items: commands } : entry
    ),
  }));
  const gallery = { text: "Gallery", link: "/notebooks/" };
  return groups.toSpliced(1, 0, { text: "Notebooks", items: [gallery, ...notebooks] });
}

const readRoot = (path: string) => Deno.readTextFile(new URL(path, ROOT));

/**
 * Writes a folder that VitePress builds.
 *
 * @returns Paths of the repository that became pages.
 * @throws {Deno.errors.NotFound} If a link leads nowhere.
 */
export async function stagePages(folder: string, base: string): Promise<string[]> {
  const names = Array.from(Deno.readDirSync(new URL("notebooks/", ROOT)), ({ name }) => name);
  const notebooks = names.filter((name) => name.endsWith(".ipynb")).sort().map((name) => `notebooks/${name}`);
  const todo = ["README.md", ...notebooks], seen = new Set(todo), entries: Entry[] = [], cards: string[] = [];
  /** The text of a page whose links lead to pages of the site, which are added. */
  const lead = (path: string, text: string) =>
    outsideCode(
      text,
      (prose) =>
        prose.replaceAll(PAIR, TWO_IMAGES).replaceAll(
          LINK,
          (all, before = "", link, source = "", picture) => {
            const [target, anchor] = (link ?? picture).split("#") as [string, string?];
            if (
              /^[a-z]+:/.test(target) || target === "" || !path.endsWith(".md") && PICTURE.test(target)
            ) return all;
            const found = new URL(target, new URL(path, "file:///")).pathname.replace(/^\/|\/$/g, "");
            if (!seen.has(found)) (seen.add(found), todo.push(found));
            // A page differs from its file only in the last part of its path; pictures need the dot.
            const to = `${target.startsWith(".") ? "" : "./"}${target.replace(/[^/]*\/?$/, "")}`;
            const name = placeOf(found).slice(found.replace(/[^/]*$/, "").length);
            return `${before}${source}${to}${name}${anchor === undefined ? "" : `#${anchor}`}`;
          },
        ),
    );
  for (let path = todo.shift(); path !== undefined; path = todo.shift()) {
    const place = `${folder}/${placeOf(path)}`, url = new URL(path, ROOT);
    if (PICTURE.test(path)) await copy(url, place);
    else if (notebooks.includes(path)) {
      const { text, figures, title, question } = await describeNotebook(fileURLToPath(url));
      await write(place, lead(path, text));
      for (const [i, svg] of figures.entries()) await write(`${folder}/${path}.${i}.svg`, svg);
      entries.push({ text: title, link: `/${path}` });
      const name = `.${path.slice("notebooks".length)}`;
      cards.push(
        `<a class="card" href="${name}"><img alt="" src="${name}.0.svg"><b>${title}</b><span>${question}</span></a>`,
      );
    } else {await write(
        place,
        lead(path, path.endsWith(".md") ? await readRoot(path) : await describeFile(path)),
      );}
  }
  await write(
    `${folder}/notebooks/index.md`,
    `# Notebooks\n\n<div class="gallery">\n${cards.join("\n")}\n</div>\n`,
  );
  const [picture] = (await readRoot("README.md")).match(/<picture>.*?<\/picture>/s)!;
  const landing = await Deno.readTextFile(new URL("index.md", SITE));
  await write(`${folder}/index.md`, lead("index.md", `${landing}\n${picture}\n`));
  for (const name of ["config.mjs", "anchor.ts"]) {
    await copy(new URL(name, SITE), `${folder}/.vitepress/${name}`);
  }
  for (const name of ["index.js", "MermaidDiagram.vue", "theme.css"]) {
    await copy(new URL(name, SITE), `${folder}/.vitepress/theme/${name}`);
  }
  await write(
    `${folder}/.vitepress/site.json`,
    JSON.stringify({ sidebar: await readSidebar(entries), base }),
  );
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
