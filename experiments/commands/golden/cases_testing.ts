/** The command lines of the golden tests: every method, policy, option, feed, type of cache, backend and level. */

/** A command line by its parts, with the flags that all of a kind share. */
const all = (shared: string, lines: readonly string[]) => lines.map((line) => `${shared} ${line}`.trimEnd());
const flags = (flag: string, values: string) => values.split(" ").map((value) => `--${flag} ${value}`);

const ONLINE =
  "variance mean static key value min max product random random-protected periodic input-norm learned";
const KEYS =
  "received missed leave-one-out keydiff cur knorm streaming h2o tova snapkv expected-attention leverage " +
  "lagkv curdkv keydiff-cache keydiff-merge adakv duo-attention razor-attention foresight";
const OFFLINE = "attention-drop mlp-drop shortgpt sleb flap wanda-sp probe-pruning";
const EVICTED = "--kv-ratio 0.5 --warmup 16 --recent 4 --block 8";
const CALIBRATED = "--calibration TMP/text.txt --calibration-domain same --calibration-tokens 200";

const SCORES = all("score --text TMP/text.txt --json", [
  "",
  ...flags("method", `${ONLINE} oracle`),
  // Each rule once more, by the other path: token by token, on a rounded cache.
  ...flags("method", ONLINE).map((method) =>
    `${method} --invert --cache-dtype bf16 --phase decode --tokens 48`
  ),
  ...flags("kv-method", KEYS).map((method) => `--side key ${method} ${EVICTED}`),
  ...flags("preset", "paper keys retrieval local").map((preset) => `${preset} --warmup 40 --recent 8`),
  // Feeds and caches
  "--chunk 7",
  "--phase decode --tokens 48",
  "--method variance --chunk 7",
  "--method learned --chunk 7 --cache-dtype f16",
  "--kv-method snapkv --kv-ratio 0.5 --warmup 16 --recent 4 --block 8 --chunk 7 --cache-dtype bf16",
  "--cache-dtype bf16",
  // Policies
  ...flags("threshold", "window robbins-monro fixed topk").map((policy) => `--method mean ${policy}`),
  "--threshold window --threshold-window 24 --phase decode --tokens 64",
  "--threshold budget --threshold-window 24 --chunk 7",
  "--threshold robbins-monro --eta 0.5 --phase decode --tokens 64",
  "--threshold fixed --theta 0.6 --chunk 7",
  // Options
  "--method variance --tau 4 --lambda 1 --eps 0.01",
  "--method static --alpha 0.2 --anchor mean",
  "--gamma 0.5 --absorb kept --key-state pre-rope",
  "--prune-ratio 0.25 --tail 1 --warmup 8",
  "--schedule ramp --slope 0.1 --prune-ratio 0.3",
  "--schedule allocated",
  "--skip-ratios TMP/ratios.json",
  "--cache-skipped --recent 0",
  "--side query --recent 3",
  "--side key --warmup 16 --recent 4",
  "--kv-method keydiff --kv-ratio 0.75 --kv-tail 0.8 --warmup 16",
  ...flags("substitute", "mean last").map((substitute) => `${substitute} --method key`),
  "--substitute local --sinks 2 --recent 8 --warmup 36",
  "--method random-protected --protect 0.3 --shuffle --seed 3",
  "--method random --seed 18446744073709551615",
  "--method learned --block 8 --ridge 100 --projections 4 --features norm+query --seed 5",
  `--method sleb --barrier 2 ${CALIBRATED}`,
  `--method flap --compensation false ${CALIBRATED}`,
  ...flags("whole", "0+4 auto heads").map((whole) => `${whole} --side key --kv-method key ${EVICTED}`),
  `--whole heads --whole-fraction 0.5 --side key --kv-method value ${EVICTED}`,
  "--dtype q4_0 --method variance",
]);

const FILTERS = all("filter --json --kv", [
  ...flags("method", ONLINE.replace(/ input-norm.*/, "")).map((method) => `TMP/dump.safetensors ${method}`),
  ...flags("threshold", "window robbins-monro fixed topk").map((policy) => `TMP/dump.safetensors ${policy}`),
  "TMP/dump.safetensors --invert --skip-ratio 0.25 --layer 3 --method random",
  "TMP/dump.safetensors --backend reference --method product --threshold window",
  "TMP/bf16.safetensors --warmup 4",
]);

const REFERENCE = all("score --text TMP/text.txt --backend reference --tokens 24 --warmup 12 --json", [
  "--method variance",
  "--method learned --chunk 7",
  "--method mean --threshold robbins-monro --cache-dtype bf16 --phase decode",
  "--side key --kv-method h2o --recent 4 --block 4 --kv-ratio 0.5",
]);

const SMALL = "--context 48 --tokens 96 --warmup 8";
const SCORED = "--method variance --prune-ratio 0.4 --recent 2 --filter-from 50%";

/** Runs that leave or read files, and those whose text is kept. Later ones read what earlier ones leave. */
const OTHERS = [
  "score --ids TMP/ids.json --preset paper --warmup 8 --tokens 40 --json --threads 2",
  "score --text TMP/text.txt --method mean --tokens 40 --warmup 8 --out TMP/score",
  "filter --kv TMP/dump.safetensors --tokens 24 --warmup 4 --out TMP/filter",
  "score --text TMP/text.txt --method learned --json --trace TMP/learned.parquet",
  "score --replay TMP/learned.parquet --json",
  "score --text TMP/text.txt --preset paper --tokens 64 --phase decode --json --trace TMP/paper.parquet",
  "score --replay TMP/paper.parquet --json",
  "sweep --context 64 --tokens 64 --out TMP/sweep_default",
  `sweep --grid TMP/grid.json --cache-dtype bf16 --json ${SMALL} --out TMP/sweep_grid`,
  `sweep --grid TMP/grid.json --cache-dtype bf16 --resume ${SMALL} --out TMP/sweep_grid`,
  `sweep --method mean,value --prune-ratio 0.25 --json ${SMALL} --out TMP/sweep_rules`,
  "sweep --space TMP/space.json --trials 8 --race --context 16 --tokens 96 --warmup 4 --json --out TMP/search",
  `heads --resamples 20 --json ${SMALL} --out TMP/heads`,
  `heads --resamples 20 --method learned --threshold window --prune-ratio 0.25 --json ${SMALL} --out TMP/heads_learned`,
  "score --replay TMP/heads_learned/trace.parquet --cache-dtype bf16 --json",
  `compare --methods variance,keys,shuffled,random,random-protected,oracle --seeds 2 ${SMALL} --out TMP/compare`,
  `compare --methods random,variance,keys,${
    OFFLINE.replaceAll(" ", ",")
  } --seeds 1 ${CALIBRATED} --json ${SMALL} --out TMP/compare_offline`,
  `eval --tasks copy,needle --items 2 --length 128 ${SCORED} --out TMP/eval`,
  `eval --data DATA --tasks arc_easy,boolq,winogrande,mmlu,lambada_openai --items 1 ${SCORED} --json --out TMP/eval_items`,
  "generate --text TMP/text.txt --max-tokens 24 --matmul exact --preset keys --warmup 16 --recent 8 --full-model --json",
  "generate --text TMP/text.txt --max-tokens 24 --matmul exact --method learned --temperature 0.8 --top-p 0.9 --sampling-seed 3 --json",
  "diff TMP/sweep_grid TMP/sweep_rules",
  "diff TMP/sweep_grid TMP/sweep_rules --json",
  "report TMP/sweep_default TMP/heads TMP/compare --out TMP/site",
];

/** Command lines, in the order in which they run: all, or each `step`-th of those that need no other. `DATA` stands for a folder of items. */
export function linesOf(step = 1): readonly string[] {
  const single = [...SCORES, ...REFERENCE, ...FILTERS];
  return step === 1 ? [...single, ...OTHERS] : single.filter((_, i) => i % step === 0);
}
