/** One notebook from its file to a page that was looked at. */
import { writeWhole } from "../../commands/cli/files.ts";
import type { Browser } from "playwright-core";
import { checkPage } from "../browser/mod.ts";
import { CellError, convertNotebook, executeNotebook, type ExecuteOptions } from "./execute.ts";
import { digestCells, formatNotebook, type Notebook, readNotebook } from "./notebook.ts";
import { checkOutputs, checkSize, compareRuns, PLOTLY_MIME } from "./outputs.ts";
import { addStaticImages, writeHead } from "./publish.ts";

/** Arguments of a run of a notebook, in the folder of the notebooks, to which `update` writes. */
export interface ProcessArguments extends Omit<ExecuteOptions, "path" | "onProgress"> {
  readonly name: string;
  /** The notebook as it is to be run. */
  readonly notebook: Notebook;
  readonly update: boolean;
  /** Draws static images and looks at pages; where there is none, neither is done. */
  readonly browser: Browser | undefined;
  readonly onProgress: (fraction: number, label: string) => void;
}

/** The result of a run. */
export interface Processed {
  /** One line each; empty where all is well. */
  readonly problems: readonly string[];
  /** Figures among the outputs. */
  readonly figures: number;
  /** Duration of each finished run. */
  readonly seconds: readonly number[];
}

/** Runs a notebook, and leaves `NAME.ipynb`, `NAME.html` and screenshots in `out`. */
export async function processNotebook(args: ProcessArguments): Promise<Processed> {
  const { name, out, jupyter, browser, onProgress } = args;
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-notebook-" });
  try {
    const { runs, seconds } = await execute(args, work);
    const problems = [...checkOutputs(runs[0]!), ...compareRuns(runs)];
    const figures = countFigures(runs[0]!);
    if (problems.length > 0) return { problems, figures, seconds };
    onProgress(0.9, "page");
    const metadata = { ...args.notebook.metadata, tokenfilter: { cells: await digestCells(args.notebook) } };
    const executed = { ...runs[0]!, metadata };
    const finished = browser === undefined ? executed : await addStaticImages(executed);
    const text = formatNotebook(finished);
    const size = checkSize(text);
    if (size !== undefined) problems.push(size);
    await writeWhole(`${out}/${name}.ipynb`, text);
    await writeHead(`${work}/head.html`);
    await convertNotebook(jupyter, `${out}/${name}.ipynb`, `${out}/${name}.html`, `${work}/head.html`);
    if (browser !== undefined) {
      const seen = await checkPage(`${out}/${name}.html`, { browser, screenshots: `${out}/screenshots` });
      problems.push(...seen.problems.map((problem) => `page: ${problem}`));
      if (seen.plots !== figures) problems.push(`page: found ${seen.plots} plots, expected ${figures}`);
      problems.push(...seen.requests.map((url) => `page: found a request of ${url}, expected none`));
    }
    if (args.update && problems.length === 0) await writeWhole(`${args.folder}${name}.ipynb`, text);
    return { problems, figures, seconds };
  } catch (error) {
    if (!(error instanceof CellError)) throw error;
    return { problems: [error.message], figures: 0, seconds: [] };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Runs the given notebook in its folder: the file there may be older. */
async function execute(
  { name, notebook, onProgress, ...options }: ProcessArguments,
  work: string,
): Promise<{ runs: Notebook[]; seconds: number[] }> {
  const path = `${work}/${name}.ipynb`, { repeat } = options;
  await Deno.writeTextFile(path, formatNotebook(notebook));
  const seconds = await executeNotebook({
    ...options,
    path,
    out: work,
    onProgress: (fraction, run, cell) =>
      onProgress(0.9 * fraction, repeat === 1 ? `cell ${cell}` : `run ${run} of ${repeat}, cell ${cell}`),
  });
  const runs: Notebook[] = [];
  for (let run = 1; run <= repeat; run++) runs.push(await readNotebook(`${work}/${run}.ipynb`));
  return { runs, seconds };
}

function countFigures({ cells }: Notebook): number {
  return cells.flatMap(({ outputs = [] }) => outputs).filter(({ data }) =>
    data !== undefined && PLOTLY_MIME in data
  )
    .length;
}
