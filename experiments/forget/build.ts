/** Makes the page "What does it forget?": a folder for a site, and the page as one file that opens without a network. */
import { fileURLToPath } from "node:url";
import { run } from "../../ffi/build/command.ts";
import { UsageError } from "../../lib/errors.ts";
import { DARK, LIGHT } from "../../lib/plot/mod.ts";
import type { Recording } from "../studies/retrieval/record.ts";
import { LENGTHS, readNeedles } from "../studies/retrieval/needles.ts";

const ROOT = new URL("../../", import.meta.url);
const HERE = new URL("./", import.meta.url);
/** Name of the page as one file. */
export const ONE_FILE = "what-does-it-forget.html";

/**
 * A script of the page with all that it imports; the worker of a page on a disk may be no module.
 *
 * @throws {UsageError} If it cannot be made.
 */
async function bundle(name: string, format: "esm" | "iife"): Promise<Uint8Array<ArrayBuffer>> {
  const out = await Deno.makeTempFile({ suffix: ".js" });
  try {
    const entry = fileURLToPath(new URL(`${name}.ts`, HERE));
    const { success, stderr } = await run(
      Deno.execPath(),
      ["bundle", "--platform=browser", "--minify", `--format=${format}`, "-q", "-o", out, entry],
      { cwd: fileURLToPath(ROOT), env: { NO_COLOR: "1" } },
    );
    if (success) return await Deno.readFile(out);
    throw new UsageError(`Cannot make ${name}.js: ${stderr.trim().split("\n").slice(-5).join("; ")}`);
  } finally {
    await Deno.remove(out);
  }
}

/** The plots' colours as variables that follow the reader's scheme. */
const themeStyles = () =>
  `:root {\n${
    Object.entries(LIGHT).map(([name, light]) => `  --${name.slice(1)}: light-dark(${light}, ${DARK[name]});`)
      .join("\n")
  }\n}\n`;

/** The recording, with the numbers of the study. */
async function readRecording() {
  const url = new URL("experiments/studies/retrieval/results/recording.json", ROOT);
  const recording: Recording = JSON.parse(await Deno.readTextFile(url));
  return { ...recording, study: await Promise.all(LENGTHS.map(readNeedles)) };
}

/** Where the recorded numbers come from, as items of a list. */
function describeRecording(
  { settings, conditions, texts, heads, study }: Awaited<ReturnType<typeof readRecording>>,
) {
  const { tokens, seed, task, model, warmup, recent, block } = settings;
  const full = study.map(({ full, tokens }) => `${full} in texts of ${tokens.toLocaleString("en")} tokens`);
  const [modelDigest, promptsDigest] = ["modelSha256", "promptsSha256"].map((name) =>
    conditions[name]!.slice(0, 16)
  );
  return [
    `All of this section: ${texts.length} texts of at most ${tokens} tokens, made by the task <code>${task}</code> from seed ${seed}, read by ` +
    `${model}. The map shows the moment when the question has been read. The answer is greedy. The first ${warmup} and the last ${recent} ` +
    `tokens stay, and decisions come in blocks of ${block}.`,
    `“of ${study[0]!.items}”: numbers that the study found with three quarters evicted, the full model ${
      full.join(" and ")
    }. “–” was not measured.`,
    `Whole heads, found by one pass over random tokens: ${heads.join(", ")} (layer.head).`,
    `Conditions: ${conditions["backend"]}; ${conditions["machine"]}; version ${
      conditions["version"]
    }; SHA-256 of the model ${modelDigest}…, of the ` +
    `prompts ${promptsDigest}…. <code>experiments/studies/retrieval/record.ts</code> repeats it.`,
  ].map((line) => `      <li>${line}</li>`).join("\n");
}

const inTag = (text: string) => text.replaceAll(/<\/(script|style)/gi, "<\\/$1");

/** Writes the page's files, each a part of it or whole. @throws {UsageError} If a script cannot be made. */
export async function buildPage(folder: string): Promise<void> {
  const read = (path: string, from = HERE) => Deno.readFile(new URL(path, from));
  const [html, css] = await Promise.all(
    ["page.html", "page.css"].map((name) => Deno.readTextFile(new URL(name, HERE))),
  );
  const page = await bundle("page", "esm"), encoder = new TextEncoder(), recording = await readRecording();
  const assets: { readonly [name: string]: readonly [type: string, bytes: Uint8Array<ArrayBuffer>] } = {
    "worker.js": ["text/javascript", await bundle("worker", "iife")],
    "tokenfilter.wasm": ["application/wasm", await read("ffi/wasm/tokenfilter.wasm", ROOT)],
    "tiny.gguf": ["application/octet-stream", await read("lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", ROOT)],
    "recording.json": ["application/json", encoder.encode(JSON.stringify(recording))],
  };
  const styles = `<style>\n${themeStyles()}${css}</style>`;
  const fill = (scripts: string) =>
    html!.replace("<!--styles-->", () => styles).replace("<!--scripts-->", () => scripts)
      .replace("<!--recorded-->", () => describeRecording(recording));
  await Deno.mkdir(folder, { recursive: true });
  for (const [name, [, bytes]] of Object.entries(assets)) await Deno.writeFile(`${folder}/${name}`, bytes);
  await Deno.writeFile(`${folder}/page.js`, page);
  await Deno.writeTextFile(`${folder}/index.html`, fill('<script type="module" src="page.js"></script>'));
  const within = Object.entries(assets).map(([name, [type, bytes]]) =>
    `<script type="text/plain" id="asset-${name}" data-type="${type}">${bytes.toBase64()}</script>`
  );
  const script = `<script type="module">${inTag(new TextDecoder().decode(page))}</script>`;
  await Deno.writeTextFile(
    `${folder}/${ONE_FILE}`,
    fill([...within, script].join("\n")).replace("<body>", '<body class="one-file">'),
  );
}
