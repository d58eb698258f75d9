/** Speed targets of the CUDA kernels on an H100, and the results of a bench against them. */
import type { BenchBar, KernelRow } from "../../../lib/plot/mod.ts";

/** Reads every target from the rows of a bench; one whose rows are not there has found nothing. */
export function readBars(rows: readonly KernelRow[]): BenchBar[] {
  const own = rows.filter(({ impl }) => impl.startsWith("tokenfilter"));
  const least = (some: readonly KernelRow[]) => Math.min(...some.map(({ timeMs }) => timeMs)); // Infinity of none
  const of = (op: string, words: string) => own.filter((row) => row.op === op && row.shape.includes(words));
  const bar = (what: string, limit: "at least" | "at most", meant: number, value: number): BenchBar => {
    const found = Number.isFinite(value) ? value : null;
    const holds = found === null ? null : limit === "at least" ? found >= meant : found <= meant;
    return { what, limit, meant, found, holds };
  };
  const decodes = of("attention_decode", "").filter(({ skip, shape }) => skip === 0 && !shape.includes("+"));
  const cached = ({ shape }: KernelRow) => Number(shape.match(/ cache=(\d+)/)![1]);
  const longest = decodes.filter((row) => cached(row) === Math.max(...decodes.map(cached)));
  const prefills = rows.filter((row) =>
    row.op === "filtered_attention" && row.phase === "prefill" && !row.recent
  );
  const lengths = [...new Set(prefills.map(({ shape }) => shape.match(/^T=\d+/)![0]))];
  const fastest = (length: string, skip: number, isOurs = true) =>
    least(
      prefills.filter((row) =>
        row.shape.startsWith(`${length} `) && row.skip === skip && own.includes(row) === isOurs
      ),
    );
  const [dense, filtered] = ["dense:", "filtered, nothing"].map((words) => least(of("decode_step", words)));
  return [
    bar(
      "decode attention, fraction of the measured copy bandwidth",
      ...["at least", 0.85, Math.min(...longest.map(({ peak }) => peak))] as const,
    ),
    ...lengths.flatMap((length) => [
      bar(
        `dense prefill of ${length}, time over PyTorch's fastest`,
        ...["at most", 1, fastest(length, 0) / fastest(length, 0, false) || NaN] as const,
      ),
      bar(
        `prefill of ${length} with half skipped, time over dense`,
        ...["at most", 0.35, fastest(length, 0.5) / fastest(length, 0)] as const,
      ),
    ]),
    bar(
      "kv_filter_step, µs, warm in a graph",
      "at most",
      6,
      1000 * least(of("kv_filter_step", "in a graph")),
    ),
    bar("kv_key_step behind the step that caches, µs", "at most", 12, 1000 * least(of("kv_key_step", ""))),
    bar(
      "the filter's work in a decode step, fraction of the dense step",
      "at most",
      0.02,
      filtered! / dense! - 1,
    ),
  ];
}
