/** HTML as a value. Whatever is put into a template is escaped, so that no page is made of strings. */
import { createHash } from "node:crypto";
import { escapeText } from "./layout.ts";

/** Values of a template: text, which is escaped; HTML; lists of these; nothing. */
export type HtmlPart = string | number | Html | false | undefined | readonly HtmlPart[];

/** HTML that {@linkcode markup} has made, and the programs in it. */
export class Html {
  private readonly text: string;
  readonly programs: readonly string[];

  private constructor(text: string, programs: readonly string[] = []) {
    this.text = text;
    this.programs = programs;
  }

  /** As {@linkcode markup}, which is its name in templates. */
  static of(strings: TemplateStringsArray, ...parts: readonly HtmlPart[]): Html {
    const programs: string[] = [];
    const show = (part: HtmlPart): string => {
      if (part === false || part === undefined) return "";
      if (!(part instanceof Html)) {
        return Array.isArray(part) ? part.map(show).join("") : escapeHtml(String(part));
      }
      programs.push(...part.programs);
      return part.text;
    };
    return new Html(String.raw({ raw: strings }, ...parts.map(show)), programs);
  }

  /** A `<script>`; a page's policy lets it run by its digest. */
  static program(source: string): Html {
    const inline = source.replaceAll(/<\/(script)/gi, "<\\/$1").replaceAll("<!--", "<\\!--");
    return new Html(`<script>${inline}</script>`, [inline]);
  }

  /** A value that programs read: the text of a `<script type="application/json">`. */
  static data(id: string, value: unknown): Html {
    return new Html(`<script type="application/json" id="${escapeHtml(id)}">${scriptJson(value)}</script>`);
  }

  toString(): string {
    return this.text;
  }
}

/** A template of HTML: this before its quotes. (`deno fmt` would lay out a text after `html`, blanks included.) */
export const markup: typeof Html.of = Html.of;

function escapeHtml(text: string): string {
  return escapeText(text).replaceAll('"', "&quot;");
}

/** A value as JSON inside a `<script>`, or as a literal of its program. */
export function scriptJson(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll(
    "\u2029",
    "\\u2029",
  );
}

/** A policy under which a page loads nothing and runs only these programs. @param from whence it takes other scripts */
export function contentPolicy(programs: readonly string[], from = ""): string {
  const digests = programs.map((text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`);
  const scripts = [...digests, ...from === "" ? [] : [from]].join(" ") || "'none'";
  return `default-src 'none'; script-src ${scripts}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'`;
}
