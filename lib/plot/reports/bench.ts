/** The report of a benchmark: kernels under the roofline, time and memory against length, and the table. */
import type { WeightDType } from "../../dtype.ts";
import type { Environment } from "../../environment.ts";
import type { LengthRow } from "../../eval/lengths.ts";
import type { Figure } from "../figure/figure.ts";
import { markup } from "../figure/html.ts";
import { collectLengths, type LengthMeasure, plotLengths } from "../plots/methods/lengths.ts";
import {
  formatTime,
  renderFacts,
  renderPage,
  type ReportOptions,
  SORT_NOTE,
  tableSection,
  tabulate,
  type TextTable,
} from "../figure/page.ts";
import { drawPanels, type Panel, panel, panelsOf } from "./panels.ts";
import {
  collectRoofline,
  type KernelRow,
  type MachinePeak,
  plotRoofline,
} from "../plots/methods/roofline.ts";

/** One engine and method at one length, end to end: each timed step ends with the logits of its last token. */
export interface PeerRow {
  /** Name of the engine, with its version. */
  readonly engine: string;
  /** The method that skips attention; `dense`: none. */
  readonly method: string;
  readonly tokens: number;
  readonly prefillMs: number;
  /** Median wall time of one more token after it, milliseconds. */
  readonly decodeMs: number;
}

export interface BenchBar {
  readonly what: string;
  /** How `meant` bounds it. */
  readonly limit: "at least" | "at most";
  readonly meant: number;
  /** The measured value; null where the rows for it are missing. */
  readonly found: number | null;
  /** Whether it holds; null where nothing was measured. */
  readonly holds: boolean | null;
}

/** The content of `bench.json`. */
export interface BenchReport {
  readonly kernels: readonly KernelRow[];
  /** A model at growing lengths, dense and filtered. */
  readonly lengths: readonly LengthRow[];
  /** The model that ran at these lengths; tiny where left out. */
  readonly model?: string;
  /** Element type to which its matrices were converted. */
  readonly dtype?: WeightDType;
  /** A model end to end next to other engines; left out where it was not raced. */
  readonly peers?: readonly PeerRow[];
  readonly turns?: number;
  /** Targets that the kernels are compared with; left out if there are none. */
  readonly bars?: readonly BenchBar[];
  /** Peak throughput of the machine, as measured next to the kernels. */
  readonly peak: MachinePeak;
  readonly environment:
    & Pick<
      Environment,
      "version" | "backendDescription" | "deno" | "platform" | "startedAt"
    >
    & {
      /** Processes at work or waiting then, mean of a minute; left out where it was not asked for. */
      readonly load?: number;
    };
}

/** The plots of a benchmark's report, in order. */
const PANELS: readonly Panel<BenchReport>[] = [
  panel(({ kernels, peak }) => kernels.length > 0 ? collectRoofline(kernels, peak) : undefined, plotRoofline),
  panelsOf(({ lengths }) => collectEach(lengths, ["prefill", "decode", "memory"]), plotLengths),
  panelsOf(
    ({ peers = [] }) => collectEach(peers.map(lengthOfPeer), ["whole prefill", "whole decode"]),
    plotLengths,
  ),
];

/** Each measure against length, where something was measured. */
function collectEach(rows: readonly LengthRow[], measures: readonly LengthMeasure[]) {
  return rows.length === 0 ? [] : measures.map((measure) => collectLengths(rows, measure));
}

/** The figures of a benchmark's report, in order; only those with measurements. */
export function plotBench(report: BenchReport): Figure[] {
  return drawPanels(report, PANELS);
}

/** An engine and method as a method of that name: ours by its method, another by its name without versions. */
function lengthOfPeer({ engine, method, ...measured }: PeerRow): LengthRow {
  const [name] = engine.split(/ [(\d]/);
  const isOwn = name === "tokenfilter";
  return {
    ...measured,
    name: isOwn ? method : method === "dense" ? name! : `${name}, ${method}`,
    kvBytesHeld: 0,
    kvBytesDense: 0,
    kvBytesAllocated: 0,
  };
}

/** Lays kernels out: one row each. Shared by the terminal and the report. */
export function tabulateKernels(kernels: readonly KernelRow[]): TextTable {
  return tabulate(kernels, [
    ["op", "what is computed", (row) => row.op, true],
    ["impl", "who computes", (row) => row.impl, true],
    ["phase", "prefill: many tokens at once; decode: one", (row) => row.phase, true],
    ["shape", "sizes", (row) => row.shape, true],
    ["dtype", "type of the data", (row) => row.dtype, true],
    ["skip", "fraction of tokens skipped", (row) => row.skip.toString()],
    ["recent", "recent window", (row) => row.recent?.toString() ?? ""],
    ["ms", "median time, milliseconds", (row) => row.timeMs.toPrecision(4)],
    ["GFLOP/s", "billions of needed operations a second", (row) => row.gflops.toFixed(1)],
    ["GB/s", "billions of bytes a second that must move once", (row) => row.gbps.toFixed(1)],
    ["of peak", "time at the peak over the measured time", (row) => row.peak.toFixed(2)],
  ]);
}

/** Lays targets out: the target and the measured value, one row each. Shared by the terminal and the report. */
export function tabulateBars(bars: readonly BenchBar[]): TextTable {
  return tabulate(bars, [
    ["what", "what is measured, with its unit", (bar) => bar.what, true],
    ["target", "what it is held to", (bar) => `${bar.limit} ${bar.meant}`, true],
    ["found", "what was measured", (bar) => bar.found === null ? "-" : bar.found.toPrecision(3)],
    ["met", "-: not measured", (bar) => bar.holds === null ? "-" : bar.holds ? "yes" : "no", true],
  ]);
}

export function tabulateLengths(lengths: readonly LengthRow[]): TextTable {
  const share = ({ kvBytesHeld, kvBytesDense }: LengthRow) => (100 * kvBytesHeld / kvBytesDense).toFixed(0);
  const allocated = ({ kvBytesAllocated, kvBytesDense }: LengthRow) =>
    (100 * kvBytesAllocated / kvBytesDense).toFixed(0);
  const decode = ({ decodeMs }: LengthRow) => decodeMs === null ? "-" : decodeMs.toPrecision(3);
  const overDense = (measure: "prefillMs" | "decodeMs") => (row: LengthRow) => {
    const dense = lengths.find(({ name, tokens }) => name === "dense" && tokens === row.tokens)?.[measure];
    const own = row[measure];
    return dense == null || own === null ? "-" : (own / dense).toFixed(2);
  };
  return tabulate(lengths, [
    ["tokens", "tokens of the sequence", (row) => String(row.tokens)],
    ["method", "what decides whose attention is skipped", (row) => row.name, true],
    [
      "prefill ms",
      "median time of the prefill, without the output layer; in brackets the fastest and the slowest",
      ({ prefillMs, prefillRangeMs: range }) =>
        prefillMs.toPrecision(4) +
        (range === undefined ? "" : ` (${range.map((time) => time.toPrecision(4)).join(" to ")})`),
    ],
    ["prefill/dense", "the same over the full model's at this length", overDense("prefillMs")],
    [
      "operations/dense",
      "what the prefill would take by its operations alone, of the full model's",
      (row) => row.operations?.toFixed(2) ?? "-",
    ],
    ["decode ms", "median time of one more token", decode],
    ["decode/dense", "the same over the full model's at this length", overDense("decodeMs")],
    ["KV MB", "megabytes of keys and values in use", (row) => (row.kvBytesHeld / 1e6).toFixed(2)],
    ["KV cache", "the same against the dense cache", (row) => `${share(row)}%`],
    ["KV allocated", "bytes allocated against what the dense cache holds", (row) => `${allocated(row)}%`],
  ]);
}

/** Lays engines out: one row a length, engine and method; times over those of the first row of its length, our full model. */
export function tabulatePeers(rows: readonly PeerRow[]): TextTable {
  const toFirst = (measure: "prefillMs" | "decodeMs") => (row: PeerRow) =>
    (row[measure] / rows.find(({ tokens }) => tokens === row.tokens)![measure]).toFixed(2);
  return tabulate(rows, [
    ["tokens", "tokens of the prefill", (row) => String(row.tokens)],
    ["engine", "who computes", (row) => row.engine, true],
    ["method", "what decides whose attention is skipped", (row) => row.method, true],
    ["prefill tokens/s", "of the median time", (row) => (1000 * row.tokens / row.prefillMs).toFixed(0)],
    ["prefill time", "median time over our full model's, side by side", toFirst("prefillMs")],
    ["decode tokens/s", "one token at a time, after the prefill", (row) => (1000 / row.decodeMs).toFixed(1)],
    ["decode time", "median time of one over our full model's, side by side", toFirst("decodeMs")],
  ]);
}

/**
 * Renders a benchmark as a self-contained page.
 *
 * @returns HTML that loads nothing from anywhere.
 */
export function renderBenchReport(report: BenchReport, page: ReportOptions): string {
  const { environment, peak, kernels, lengths, peers = [], bars = [] } = report;
  const model = report.model ?? "tiny";
  const gflops = (peak.flopsPerSecond / 1e9).toFixed(0), gbps = (peak.bytesPerSecond / 1e9).toFixed(1);
  const note = kernels.length === 0
    ? "Times are medians."
    : "Kernels were verified before they were timed; times are medians.";
  return renderPage({
    ...page,
    title: "Time and memory",
    intro: markup`<p class="muted">${note}</p>${
      renderFacts([
        ["backend", environment.backendDescription],
        ["peak", `${gflops} GFLOP/s, ${gbps} GB/s`],
        ["platform", environment.platform],
        ["version", environment.version],
        ["when", formatTime(environment.startedAt)],
      ])
    }`,
    sections: [
      ...plotBench(report),
      bars.length > 0 && tableSection(
        "Speed targets",
        "What the kernels are to reach, and what was measured; - where it was not.",
        tabulateBars(bars),
      ),
      kernels.length > 0 && tableSection("All kernels", SORT_NOTE, tabulateKernels(kernels)),
      lengths.length > 0 &&
      tableSection("All lengths", `The model ${model} on the built-in text.`, tabulateLengths(lengths)),
      peers.length > 0 && tableSection(
        "Beside other engines",
        `The model ${model}, end to end: the engines took turns on the same ids, and each step ends with the logits of ` +
          "its last token.",
        tabulatePeers(peers),
      ),
    ],
  });
}
