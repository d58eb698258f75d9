/** `deno task docs`: makes a site of the docs. See `deno task docs --help`. */
import { fileURLToPath } from "node:url";
import { run } from "../../../ffi/build/command.ts";
import { cacheDir, prepareCacheDir } from "../../../lib/cache.ts";
import { UsageError } from "../../../lib/errors.ts";
import { plural } from "../../../lib/plural.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { exists, expectWritable, isFolder, readJson } from "../../commands/cli/files.ts";
import { text, under } from "../../commands/cli/flags/flag.ts";
import { QUIET } from "../../commands/cli/flags/flags.ts";
import { textOf } from "../../commands/cli/flags/parse.ts";
import type { Progress } from "../../commands/cli/output/progress.ts";
import { runCommand, writeLine } from "../../commands/cli/task.ts";
import { type Asked, plainCommand } from "../../commands/run.ts";
import { buildPage } from "../../forget/build.ts";
import { stagePages } from "./stage.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const SITE = new URL("site/", import.meta.url);

/** @throws {UsageError} If the value of a flag cannot be used. */
function readOptions({ values }: Asked) {
  const out = textOf(values, "out") ?? "results/docs", base = textOf(values, "base") ?? "/";
  if (!/^\/([\w.~-]+\/)*$/.test(base)) {
    throw new UsageError(
      `Cannot use --base "${base}": expected a path from slash to slash, such as /tokenfilter/`,
    );
  }
  const isSite = () => exists(`${out}/hashmap.json`) && exists(`${out}/api`);
  if (exists(out) && !(isFolder(out) && (Array.from(Deno.readDirSync(out)).length === 0 || isSite()))) {
    throw new UsageError(
      `Cannot write to "${out}": found files that are no earlier site, expected none (choose another --out)`,
    );
  }
  expectWritable(out);
  return { out, base };
}

/** The folder of VitePress and its like, in the locked versions. @throws {UsageError} If they cannot be obtained. */
export async function ensurePackages(progress: Progress): Promise<string> {
  const names = ["package.json", "deno.lock"];
  const texts = await Promise.all(names.map((name) => Deno.readTextFile(new URL(name, SITE))));
  const folder = `${cacheDir()}/docs-${(await sha256(texts.join("\n"))).slice(0, 16)}`;
  await prepareCacheDir(folder);
  // Installing again would take modules away for a moment from another build that runs.
  const done = `${folder}/installed`;
  if (exists(done)) return folder;
  progress.line("getting VitePress, once");
  for (const [i, name] of names.entries()) await Deno.writeTextFile(`${folder}/${name}`, texts[i]!);
  const { success, stderr } = await run(Deno.execPath(), ["install", "--frozen", "--quiet"], { cwd: folder });
  if (success) {
    await Deno.writeTextFile(done, "");
    return folder;
  }
  const line = stderr.trim().split("\n").find((line) => /error/i.test(line)) ?? "nothing";
  throw new UsageError(`Cannot get VitePress: deno failed with "${line}" (the first build needs a network)`);
}

/** Runs a command of the build. @throws {UsageError} With the end of its output, if it fails. */
async function build(what: string, args: readonly string[], cwd: string): Promise<void> {
  const { success, stdout, stderr } = await run(Deno.execPath(), args, { cwd, env: { NO_COLOR: "1" } });
  if (success) return;
  const lines = (stdout + stderr).trim().split("\n").map((line) => line.trim());
  throw new UsageError(
    `Cannot make ${what}: ${lines.filter((line) => !/^(at |$)/.test(line)).slice(-12).join("; ")}`,
  );
}

/** Writes the pages of the API, each with a link to the docs. */
async function buildApi(folder: string, base: string): Promise<void> {
  const { exports } = await readJson(`${ROOT}deno.json`) as { exports: { [name: string]: string } };
  await build(
    "the API's pages",
    ["doc", "--html", "--name=tokenfilter API", `--output=${folder}`, ...Object.values(exports)],
    ROOT,
  );
  const paths = (under: string): string[] =>
    Array.from(Deno.readDirSync(under)).flatMap(({ name, isDirectory }) =>
      isDirectory ? paths(`${under}/${name}`) : `${under}/${name}`
    );
  for (const path of paths(folder).filter((path) => path.endsWith(".html"))) {
    const text = await Deno.readTextFile(path);
    const back = `<li><a href="${base}docs/" class="contextLink">tokenfilter docs</a></li>`;
    await Deno.writeTextFile(path, text.replace('<ul class="breadcrumbs">', (list) => list + back));
    // Links to names of modules have the quotation marks themselves.
    if (path.includes("%22")) await Deno.rename(path, path.replaceAll("%22", '"'));
  }
}

async function work({ out, base }: ReturnType<typeof readOptions>, { progress }: Asked): Promise<void> {
  const packages = await ensurePackages(progress);
  const source = await Deno.makeTempDir({ dir: packages, prefix: "site-" });
  try {
    progress.line("making the pages");
    const pages = await stagePages(source, base);
    await Deno.mkdir(out, { recursive: true });
    const made = await Deno.realPath(out), vitepress = `${packages}/node_modules/vitepress/bin/vitepress.js`;
    await build("the site", ["run", "-A", vitepress, "build", source, "--outDir", made], packages);
    await buildApi(`${made}/api`, base);
    progress.line("making the page that runs a model");
    await buildPage(`${made}/forget`);
    writeLine(Deno.stdout, `Site of ${plural(pages.length, "page")}: ${out}`);
  } finally {
    await Deno.remove(source, { recursive: true });
  }
}

export const command = plainCommand({
  name: "docs",
  summary: "Makes a site of README, of the docs and of the pages that they lead to.",
  usage: "[flags]",
  about:
    `It has search, diagrams, the notebooks, the API from the code's own comments, and the page "What does it forget?",
which runs a model in the browser. VitePress makes the site; it is fetched on first use, and later no network is
needed. Fails on a link that leads to no page. To read the site: python3 -m http.server -d DIR`,
  flags: {
    ...under("Results", {
      out: text("DIR", "folder for the site; an earlier site there is replaced (results/docs)"),
      base: text("PATH", "where the site will be on its host, such as /tokenfilter/ (/)"),
    }),
    ...QUIET,
  },
  permissions: "-A",
  read: readOptions,
  work,
});

if (import.meta.main) await runCommand(command);
