/** `deno task docs`: makes a site of the docs. See `deno task docs --help`. */
import { run } from "../../ffi/build/command.ts";
import { cacheDir, prepareCacheDir } from "../../lib/cache.ts";
import { UsageError } from "../../lib/errors.ts";
import { findChromium } from "../../lib/plot/mod.ts";
import { plural } from "../../lib/plural.ts";
import { sha256 } from "../../lib/sha256.ts";
import { exists, expectWritable, isFolder, readJson } from "../commands/cli/files.ts";
import { parseOwnFlags } from "../commands/cli/flags/parse.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { checkLinks, listFiles } from "./docs/links.ts";
import { lookAtPages } from "./docs/look.ts";
import { stagePages } from "./docs/stage.ts";

const ROOT = decodeURIComponent(new URL("../../", import.meta.url).pathname);
const SITE = new URL("docs/site/", import.meta.url);
export const USAGE = `Usage: deno task docs [flags]

Makes a site of README, of the docs and of the pages that they lead to: with search, diagrams, and the API from the
code's own comments. VitePress makes it; it is fetched on first use, and later no network is needed. Fails on a link
that leads nowhere. To read the site: python3 -m http.server -d DIR

  --out DIR
      folder for the site; an earlier site there is replaced (results/docs)
  --base PATH
      where the site will be on its host, such as /tokenfilter/ (/)
  --look DIR
      look at four pages in Chromium, light and dark, wide and narrow: titles, alternative texts, contrast and widths;
      keep screenshots in DIR
  --quiet
      no progress on stderr
  --help
      print this`;

/** @throws {UsageError} If a flag is unknown, or its value cannot be used. */
function readOptions(args: readonly string[]) {
  const { out = "results/docs", base = "/", look, quiet } = parseOwnFlags(args, ["out", "base", "look"], [
    "quiet",
  ]);
  if (!/^\/([\w.~-]+\/)*$/.test(base)) {
    throw new UsageError(
      `Cannot use --base "${base}": expected a path from slash to slash, such as /tokenfilter/`,
    );
  }
  if (exists(out) && !(isFolder(out) && isReplaceable(out))) {
    throw new UsageError(
      `Cannot write to "${out}": found files that are no earlier site, expected none (choose another --out)`,
    );
  }
  if (look !== undefined && findChromium() === undefined) {
    throw new UsageError(
      "Cannot use --look: found no Chromium, expected one (install it, or set TOKENFILTER_CHROMIUM)",
    );
  }
  for (const folder of [out, ...look === undefined ? [] : [look]]) expectWritable(folder);
  return { out: out.replace(/(?<=.)\/+$/, ""), base, look, quiet };
}

/** Whether a folder is empty, or a site of this task. */
const isReplaceable = (folder: string) =>
  Array.from(Deno.readDirSync(folder)).length === 0 ||
  exists(`${folder}/hashmap.json`) && exists(`${folder}/api`);

/** The folder of VitePress and its like, in the locked versions. @throws {UsageError} If they cannot be obtained. */
async function ensurePackages(progress: Progress): Promise<string> {
  const names = ["package.json", "deno.lock"];
  const texts = await Promise.all(names.map((name) => Deno.readTextFile(new URL(name, SITE))));
  const folder = `${cacheDir()}/docs-${(await sha256(texts.join("\n"))).slice(0, 16)}`;
  await prepareCacheDir(folder);
  if (!exists(`${folder}/node_modules`)) progress.line("getting VitePress, once");
  for (const [i, name] of names.entries()) await Deno.writeTextFile(`${folder}/${name}`, texts[i]!);
  const { success, stderr } = await run(Deno.execPath(), ["install", "--frozen", "--quiet"], { cwd: folder });
  if (success) return folder;
  const line = stderr.trim().split("\n").find((line) => /error/i.test(line)) ?? "nothing";
  throw new UsageError(`Cannot get VitePress: deno failed with "${line}" (the first build needs a network)`);
}

/** Runs a command of the build. @throws {UsageError} With the end of its output, if it fails. */
async function build(what: string, args: readonly string[], cwd: string): Promise<void> {
  const { success, stdout, stderr } = await run(Deno.execPath(), args, { cwd, env: { NO_COLOR: "1" } });
  if (success) return;
  const said = (stdout + stderr).trim().split("\n").map((line) => line.trim()).filter((line) =>
    !/^(at |$)/.test(line)
  ).slice(-12);
  throw new UsageError(`Cannot make ${what}: ${said.join("; ")}`);
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { out, base, look, quiet } = readOptions(args);
  const progress = new Progress(quiet ? undefined : Deno.stderr);
  const packages = await ensurePackages(progress);
  const work = await Deno.makeTempDir({ dir: packages, prefix: "site-" });
  try {
    progress.line("making the pages");
    const pages = await stagePages(`${work}/source`, base), made = `${work}/made`;
    const { exports } = await readJson(`${ROOT}deno.json`) as { exports: { [name: string]: string } };
    const vitepress = `${packages}/node_modules/vitepress/bin/vitepress.js`;
    await build("the site", ["run", "-A", vitepress, "build", `${work}/source`, "--outDir", made], packages);
    const api = ["doc", "--html", "--name=tokenfilter", `--output=${made}/api`, ...Object.values(exports)];
    await build("the API's pages", api, ROOT);
    for (const path of listFiles(`${made}/api`).filter((path) => path.includes("%22"))) {
      await Deno.rename(`${made}/api/${path}`, `${made}/api/${path.replaceAll("%22", '"')}`); // as its links have it
    }
    const problems = checkLinks(made, base);
    if (look !== undefined) {
      progress.line("looking at the pages");
      const axe = await Deno.readTextFile(`${packages}/node_modules/axe-core/axe.min.js`);
      problems.push(...await lookAtPages(made, base, axe, look));
    }
    for (const problem of problems) writeLine(Deno.stderr, problem);
    if (problems.length > 0) return 1;
    await replaceFolder(made, out);
    writeLine(Deno.stdout, `Site of ${plural(pages.length, "page")}: ${out}`);
    return EXIT.ok;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Replaces a folder as a whole. The old one is removed only after the new one is in place. */
async function replaceFolder(made: string, out: string): Promise<void> {
  const parent = out.includes("/") ? out.replace(/\/[^/]*$/, "") || "/" : ".";
  await Deno.mkdir(parent, { recursive: true });
  const place = await Deno.makeTempDir({ dir: parent, prefix: ".tokenfilter-" });
  await copyFolder(made, `${place}/new`);
  if (exists(out)) await Deno.rename(out, `${place}/old`);
  await Deno.rename(`${place}/new`, out);
  await Deno.remove(place, { recursive: true });
}

async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    await (isDirectory ? copyFolder : Deno.copyFile)(`${from}/${name}`, `${to}/${name}`);
  }
}

if (import.meta.main) await runTask(main, USAGE);
