/** How VitePress makes the site; what follows from the pages is in `site.json`. */
import { readFileSync } from "node:fs";
import { anchorOf } from "./anchor.ts";

const { sidebar, base } = JSON.parse(
  readFileSync(new URL("./site.json", import.meta.url), "utf8"),
);

/** How much a hit counts: pages before their sections, definitions before mentions, logs last. */
function boostDocument(path, _term, { titles }) {
  const page = titles.length === 0 ? 3 : 1;
  return page * (/\/(log|experiments|notebooks)\//.test(path) ? 0.3 : /reference\/(terms|metrics)/.test(path) ? 3 : 1);
}

const TAGS = /^<(!--|\/?(picture|source|img|details|summary|br)\b)/;

export default {
  title: "tokenfilter",
  description:
    "Attention skipping and KV-cache eviction for language models: measured, on a CPU, in TypeScript.",
  lang: "en",
  base,
  head: [["link", { rel: "icon", href: "data:," }]],
  markdown: {
    anchor: { slugify: anchorOf },
    theme: {
      light: "github-light-high-contrast",
      dark: "github-dark-high-contrast",
    },
    config(md) {
      const { fence } = md.renderer.rules;
      // Words such as <time> are no tags of these pages.
      md.renderer.rules.html_inline = (tokens, i) =>
        TAGS.test(tokens[i].content) ? tokens[i].content : md.utils.escapeHtml(tokens[i].content);
      // An interval stays in one line; a name such as lambada_openai may be broken.
      md.renderer.rules.text = (tokens, i) =>
        md.utils.escapeHtml(
          tokens[i].content.replaceAll(/\[[-+−\d., %]+\]/g, (interval) => interval.replaceAll(" ", "\u00a0")),
        ).replaceAll("_", "_<wbr>");
      md.renderer.rules.code_inline = (tokens, i) => {
        const words = tokens[i].content.split(" ").map((word) => `<span>${md.utils.escapeHtml(word)}</span>`);
        return `<code v-pre>${words.join(" ")}</code>`;
      };
      md.renderer.rules.fence = (tokens, i, ...rest) =>
        tokens[i].info.trim() === "mermaid"
          ? `<MermaidDiagram code="${encodeURIComponent(tokens[i].content)}" />`
          : fence(tokens, i, ...rest);
    },
  },
  themeConfig: {
    nav: [
      { text: "Docs", link: "/docs/" },
      { text: "Study", link: "/docs/results/study" },
      { text: "What does it forget?", link: "/forget/index.html", target: "_self" },
      { text: "API", link: "/api/index.html", target: "_self" },
      { text: "Changes", link: "/CHANGELOG" },
    ],
    sidebar,
    outline: [2, 3],
    search: { provider: "local", options: { miniSearch: { searchOptions: { boostDocument } } } },
  },
};
