/** Performance goals of the kernels, and the results of a bench against them. */
import type { BenchBar } from "../../../lib/plot/mod.ts";
import type { GpuRow } from "./row.ts";

const OURS = /^tokenfilter\b/, TORCH = /^torch\b/;

/** The least time among rows, milliseconds; undefined where there are none. */
function least(rows: readonly GpuRow[]): number | undefined {
  return rows.length === 0 ? undefined : Math.min(...rows.map(({ timeMs }) => timeMs));
}

/** `over` divided by `under`, where both are there. */
function ratio(over: number | undefined, under: number | undefined): number | undefined {
  return over === undefined || under === undefined ? undefined : over / under;
}

/**
 * Reads every bar from the rows of a bench; one whose rows are not there has found nothing.
 *
 * @param rows as `benchGpu` gives them
 */
export function readBars(rows: readonly GpuRow[]): BenchBar[] {
  const of = (op: string, more: (row: GpuRow) => boolean = () => true) =>
    rows.filter((row) => row.op === op && more(row));
  const ours = (row: GpuRow) => OURS.test(row.impl);
  const bar = (what: string, limit: "at least" | "at most", meant: number, found?: number): BenchBar => ({
    ...{ what, limit, meant, found: found ?? null },
    holds: found === undefined ? null : limit === "at least" ? found >= meant : found <= meant,
  });
  const micro = (op: string, words: string) => {
    const ms = least(of(op, ({ shape }) => shape.includes(words)));
    return ms === undefined ? undefined : 1000 * ms;
  };
  const decodes = of("attention_decode", (row) => ours(row) && row.skip === 0 && !row.shape.includes("+"));
  const cached = ({ shape }: GpuRow) => Number(shape.match(/ cache=(\d+)/)![1]);
  const longest = decodes.filter((row) => cached(row) === Math.max(...decodes.map(cached)));
  const lengths = [...new Set(of("attention_prefill").map(({ shape }) => shape.match(/^T=\d+/)![0]))];
  const prefill = (length: string, more: (row: GpuRow) => boolean) =>
    least(
      of("attention_prefill", (row) =>
        row.shape.startsWith(`${length} `) && !row.shape.includes("recent") && more(row)),
    );
  const [dense, filtered] = ["dense:", "filtered, nothing skipped:"].map((words) =>
    least(of("decode_step", ({ shape }) => shape.startsWith(words)))
  );
  const added = ratio(filtered, dense);
  return [
    bar(
      "decode attention, fraction of the measured copy bandwidth",
      "at least",
      0.85,
      longest.length === 0 ? undefined : Math.min(...longest.map(({ peak }) => peak)),
    ),
    ...lengths.map((length) =>
      bar(
        `dense prefill of ${length}, time over PyTorch's fastest`,
        "at most",
        1,
        ratio(
          prefill(length, (row) => ours(row) && row.skip === 0),
          prefill(length, ({ impl }) => TORCH.test(impl)),
        ),
      )
    ),
    ...lengths.map((length) =>
      bar(
        `prefill of ${length} with half skipped, time over dense`,
        "at most",
        0.35,
        ratio(
          prefill(length, (row) => ours(row) && row.skip === 0.5),
          prefill(length, (row) => ours(row) && row.skip === 0),
        ),
      )
    ),
    bar("kv_filter_step, µs, warm in a graph", "at most", 6, micro("kv_filter_step", "in a graph")),
    bar("kv_key_step behind the step that caches, µs", "at most", 12, micro("kv_key_step", "")),
    bar(
      "the filter's work in a decode step, fraction of the dense step",
      "at most",
      0.02,
      added === undefined ? undefined : added - 1,
    ),
  ];
}
