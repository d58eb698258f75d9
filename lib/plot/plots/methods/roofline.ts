/** Measured kernels under the roofline that the machine's arithmetic and memory allow. */
import { axis, emptyFigure, escapeText, type Figure } from "../../figure/figure.ts";
import { chart, markOf, trace } from "../../figure/parts.ts";
import { NUM_SERIES_COLORS } from "../../figure/theme.ts";

export interface MachinePeak {
  readonly flopsPerSecond: number;
  readonly bytesPerSecond: number;
}

export interface KernelRow {
  readonly op: string;
  /** The engine: the backend and its level, or another library by name. */
  readonly impl: string;
  /** `prefill` or `decode`. */
  readonly phase: string;
  readonly shape: string;
  readonly dtype: string;
  readonly skip: number;
  readonly recent: number | null;
  readonly timeMs: number;
  readonly gflops: number;
  /** Billions of bytes per second that must be read or written once. */
  readonly gbps: number;
  /** Time at the peak over the measured time, of one turn, median; above 1 where data stays in a cache. */
  readonly peak: number;
}

/** The numbers of the plot: operations per byte that must move, and billions of operations per second, of each. */
type Roofline = ReturnType<typeof collectRoofline>;

export function collectRoofline(rows: readonly KernelRow[], machine: MachinePeak) {
  const measured = rows.filter(({ gflops, gbps }) => gflops > 0 && gbps > 0);
  const kinds = Map.groupBy(measured, ({ op, phase, impl }) => JSON.stringify([op, phase, impl]));
  const groups = Array.from(kinds.values(), (own) => ({
    op: own[0]!.op,
    phase: own[0]!.phase,
    impl: own[0]!.impl,
    points: own.map((row) => ({
      intensity: row.gflops / row.gbps,
      gflops: row.gflops,
      hover: describe(row),
    })),
  }));
  const ridge = machine.flopsPerSecond / machine.bytesPerSecond;
  const intensities = [ridge, ...groups.flatMap(({ points }) => points.map(({ intensity }) => intensity))];
  const left = Math.min(...intensities) / 3, right = Math.max(...intensities) * 3;
  const top = machine.flopsPerSecond / 1e9;
  const peak = [[left, left * machine.bytesPerSecond / 1e9], [ridge, top], [right, top]] as const;
  return { groups, peak };
}

function describe(row: KernelRow): string {
  const skipped = row.skip > 0
    ? ` · ${row.skip} skipped${row.recent === null ? "" : `, recent ${row.recent}`}`
    : "";
  return [
    `<b>${escapeText(`${row.op}, ${row.phase}`)}</b>`,
    escapeText(row.impl),
    escapeText(`${row.shape} · ${row.dtype}${skipped}`),
    `${row.timeMs.toPrecision(3)} ms · ${row.gflops.toFixed(1)} GFLOP/s · ${row.gbps.toFixed(1)} GB/s`,
    `${(100 * row.peak).toFixed(0)}% of the peak`,
  ].join("<br>");
}

/** Draws on logarithmic axes: colours tell ops apart, filled marks are prefills, crossed ones another library's. */
export function plotRoofline({ groups, peak }: Roofline): Figure {
  const title = "Kernels under the roofline";
  if (groups.length === 0) {
    return emptyFigure(title, "No kernel was measured here: run deno task bench --out DIR");
  }
  const ops = [...new Set(groups.map(({ op }) => op))];
  const marks = groups.map(({ op, phase, impl, points }) => {
    const color = `@series${ops.indexOf(op) % NUM_SERIES_COLORS}`, own = /^(cpu|cuda)\b/.test(impl);
    return trace({
      name: escapeText(`${op}, ${phase}${own ? "" : ` (${impl})`}`),
      x: points.map(({ intensity }) => intensity),
      y: points.map(({ gflops }) => gflops),
      hover: points.map(({ hover }) => hover),
      marker: markOf(color, own ? `circle${phase === "prefill" ? "" : "-open"}` : "x-thin", 9),
    });
  });
  const line = trace({
    name: "peak",
    x: peak.map(([intensity]) => intensity),
    y: peak.map(([, gflops]) => gflops),
    line: { color: "@ink", width: 1.5 },
  });
  return chart({
    title,
    caption:
      "Each mark is a kernel. The line is what the machine allows: bytes from memory on the slope, multiply-adds on " +
      "the flat. Both were measured here; data that stays in a cache can lie above the slope.",
    height: 420,
    data: [line, ...marks],
    xaxis: axis("operations a byte (FLOP/B)", { type: "log", dtick: 1 }),
    yaxis: axis("GFLOP/s", { type: "log", dtick: 1 }),
  });
}
