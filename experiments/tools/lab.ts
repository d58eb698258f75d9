/** `deno task lab`: JupyterLab on the notebooks, with the Deno kernel that runs this task. See `deno task lab --help`. */
import { PLOTLY_VARIABLE, readPlotly } from "../../lib/plot/mod.ts";
import { makeFolder, writeWhole } from "../commands/cli/files.ts";
import { type HttpServer, serveHttp } from "../commands/cli/machine/http.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { runTask } from "../commands/cli/task.ts";
import { ensureJupyter } from "./notebooks/jupyter.ts";
import { prepareKernels } from "./notebooks/kernels.ts";

const FOLDER = decodeURIComponent(new URL("../../notebooks/", import.meta.url).pathname);
export const USAGE = `Usage: deno task lab [flags of JupyterLab]

Starts JupyterLab on the project's notebooks with the Deno kernel, and builds the kernels they run on. JupyterLab is
installed on first use, in the project's cache; the user's own Jupyter is not touched. Flags go to JupyterLab as they
are, such as --no-browser or --port 8899. Plots are drawn by the project's own plotly, which this task serves to the
browser on 127.0.0.1, so that none needs a network. Ctrl-C ends it.`;

/** The kernel's description for Jupyter: the Deno of this process. */
export function describeKernel(deno: string): string {
  return JSON.stringify(
    {
      argv: [deno, "jupyter", "--kernel", "--conn", "{connection_file}"],
      display_name: "Deno",
      language: "typescript",
    },
    null,
    2,
  ) + "\n";
}

/** Adds the kernel to the Jupyter of a folder. */
export async function installKernel(folder: string): Promise<void> {
  const kernel = `${folder}/share/jupyter/kernels/deno`;
  makeFolder(kernel);
  await writeWhole(`${kernel}/kernel.json`, describeKernel(Deno.execPath()));
}

/** Serves plotly's text to pages on this machine, whatever they ask for, until it is disposed of. */
export async function servePlotly(text: string): Promise<HttpServer> {
  const headers = {
    "content-type": "text/javascript; charset=utf-8",
    // Pages of another port check its digest, which takes their permission to read it.
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
  };
  return await serveHttp({ hostname: "127.0.0.1", port: 0 }, () => new Response(text, { headers }));
}

/** Environment variables of JupyterLab and its kernels. */
export function describeEnvironment(
  folder: string,
  { port }: Pick<HttpServer, "port">,
): { readonly [name: string]: string } {
  return {
    PYTHONNOUSERSITE: "1",
    JUPYTER_PREFER_ENV_PATH: "1",
    JUPYTER_PATH: `${folder}/share/jupyter`,
    [PLOTLY_VARIABLE]: `http://127.0.0.1:${port}/plotly.min.js`,
  };
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const progress = new Progress(Deno.stderr);
  const onProgress = (message: string) => progress.line(message);
  const [{ python, folder }] = await Promise.all([
    ensureJupyter({ lab: true, onProgress }),
    prepareKernels(onProgress),
  ]);
  await installKernel(folder);
  const own = [
    `--ServerApp.root_dir=${FOLDER}`,
    "--MultiKernelManager.default_kernel_name=deno",
    ...(Deno.uid() === 0 ? ["--allow-root"] : []),
  ];
  await using plotly = await servePlotly(await readPlotly());
  const lab = new Deno.Command(python, {
    args: ["-m", "jupyterlab", ...own, ...args],
    env: describeEnvironment(folder, plotly),
  }).spawn();
  // Ctrl-C reaches JupyterLab too, which asks and then ends; this process waits for it.
  const wait = () => {};
  Deno.addSignalListener("SIGINT", wait);
  Deno.addSignalListener("SIGTERM", () => lab.kill("SIGTERM"));
  const { code } = await lab.status;
  return code;
}

if (import.meta.main) await runTask(main, USAGE);
