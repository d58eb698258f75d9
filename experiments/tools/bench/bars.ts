/** Speed targets of the CUDA kernels on an H100, and the results of a bench against them. */
import type { BenchBar, KernelRow } from "../../../lib/plot/mod.ts";

const least = (rows: readonly KernelRow[]) => Math.min(...rows.map(({ timeMs }) => timeMs)); // Infinity of none

/** Reads every target from the rows of a bench; one whose rows are not there has found nothing. */
export function readBars(rows: readonly KernelRow[]): BenchBar[] {
  const isOwn = ({ impl }: KernelRow) => impl.startsWith("tokenfilter");
  const of = (op: string, words = "") =>
    rows.filter((row) => isOwn(row) && row.op === op && row.shape.includes(words));
  const decodes = of("attention_decode").filter(({ skip, shape }) => skip === 0 && !shape.includes("+"));
  const cached = ({ shape }: KernelRow) => Number(shape.match(/ cache=(\d+)/)![1]);
  const longest = decodes.filter((row) => cached(row) === Math.max(...decodes.map(cached)));
  const prefills = rows.filter(({ op, phase, recent }) =>
    op === "filtered_attention" && phase === "prefill" && !recent
  );
  const fastest = (length: string, skip: number, isOurs = true) =>
    least(
      prefills.filter((row) =>
        row.shape.startsWith(`${length} `) && row.skip === skip && isOwn(row) === isOurs
      ),
    );
  const lengths = new Set(prefills.map(({ shape }) => shape.match(/^T=\d+/)![0]));
  const [dense, filtered] = ["dense:", "filtered, nothing"].map((words) => least(of("decode_step", words)));
  const bars: [what: string, limit: BenchBar["limit"], meant: number, value: number][] = [
    [
      "decode attention, fraction of the measured copy bandwidth",
      ...["at least", 0.85, Math.min(...longest.map(({ peak }) => peak))] as const,
    ],
    ...[...lengths].flatMap((length): typeof bars => [
      [
        `dense prefill of ${length}, time over PyTorch's fastest`,
        ...["at most", 1, fastest(length, 0) / fastest(length, 0, false) || NaN] as const,
      ],
      [
        `prefill of ${length} with half skipped, time over dense`,
        ...["at most", 0.35, fastest(length, 0.5) / fastest(length, 0)] as const,
      ],
    ]),
    ["kv_filter_step, µs, warm in a graph", "at most", 6, 1000 * least(of("kv_filter_step", "in a graph"))],
    ["kv_key_step behind the step that caches, µs", "at most", 12, 1000 * least(of("kv_key_step"))],
    [
      "the filter's work in a decode step, fraction of the dense step",
      "at most",
      0.02,
      filtered! / dense! - 1,
    ],
  ];
  return bars.map(([what, limit, meant, value]) => {
    const found = Number.isFinite(value) ? value : null;
    return {
      what,
      limit,
      meant,
      found,
      holds: found === null ? null : (limit === "at least" ? found >= meant : found <= meant),
    };
  });
}
