/**
 * What tests reached on the interpreter: one row a kernel of all processes that wrote to the folder `TKF_PTX_COVERAGE`.
 * `deno run -A kernels/testing/ptx/coverage.ts FOLDER [KERNELS INSTRUCTIONS]`; the exit code is 1 where less percent of the
 * kernels were launched, or less of their instructions executed.
 */

/** What was reached of one instance of a kernel, in all processes. */
interface Reached {
  launches: number;
  instructions: number;
  marks: boolean[];
}

/** Instances by architecture and mangled name. */
export function mergeCoverage(texts: Iterable<string>): Map<string, Map<string, Reached>> {
  const all = new Map<string, Map<string, Reached>>();
  for (const text of texts) {
    for (const line of text.split("\n").filter(Boolean)) {
      const [arch, name, launches, instructions, marks = ""] = line.split(" ");
      const known = all.get(arch!) ?? new Map<string, Reached>();
      all.set(arch!, known);
      const found = known.get(name!) ?? { launches: 0, instructions: 0, marks: [] };
      known.set(name!, found);
      found.launches += Number(launches);
      found.instructions += Number(instructions);
      [...marks].forEach((mark, i) => found.marks[i] ||= mark === "+");
    }
  }
  return all;
}

/** A kernel's own name in a mangled one: the last of its parts, each of which begins with its length. */
export function plainName(mangled: string): string {
  let rest = mangled.replace(/^_ZN/, ""), name = mangled;
  for (let part = rest.match(/^\d+/); part !== null; part = rest.match(/^\d+/)) {
    const end = part[0].length + Number(part[0]);
    name = rest.slice(part[0].length, end);
    rest = rest.slice(end);
  }
  return name;
}

const percentOf = (marks: readonly boolean[]) => 100 * marks.filter(Boolean).length / marks.length;
const percent = (marks: readonly boolean[]) => marks.length === 0 ? "-" : `${percentOf(marks).toFixed(1)}%`;

/** Percent of an architecture's kernels that were launched, and of the instructions of these that were executed. */
export function reachedOf(instances: ReadonlyMap<string, Reached>): readonly [number, number] {
  const all = [...instances.values()];
  return [percentOf(all.map(({ launches }) => launches > 0)), percentOf(all.flatMap(({ marks }) => marks))];
}

/** The table of an architecture, and the instances that nothing launched. */
export function coverageLines(arch: string, instances: ReadonlyMap<string, Reached>): string[] {
  const groups = Map.groupBy(instances, ([name]) => plainName(name));
  const row = (name: string, of: readonly Reached[]) => {
    const launched = of.filter(({ launches }) => launches > 0);
    const sum = (key: "launches" | "instructions") => of.reduce((total, each) => total + each[key], 0);
    return `| ${name} | ${launched.length} of ${of.length} | ${sum("launches")} | ` +
      `${(sum("instructions") / 1e6).toFixed(1)} | ${percent(of.flatMap(({ marks }) => marks))} |`;
  };
  const missed = [...instances].filter(([, { launches }]) => launches === 0).map(([name]) => name);
  return [
    `| ${arch}: kernel | instances launched | launches | M warp instructions | of their PTX executed |`,
    "| --- | ---: | ---: | ---: | ---: |",
    ...[...groups].map(([name, of]) => row(name, of.map(([, reached]) => reached))).sort(),
    row("all", [...instances.values()]),
    `not launched: ${missed.length === 0 ? "none" : missed.join(", ")}`,
  ];
}

if (import.meta.main) {
  const [folder, ...least] = Deno.args;
  const texts = Array.from(
    Deno.readDirSync(folder!),
    ({ name }) => Deno.readTextFileSync(`${folder}/${name}`),
  );
  for (const [arch, instances] of mergeCoverage(texts)) {
    console.log(coverageLines(arch, instances).join("\n"));
    if (reachedOf(instances).some((percent, i) => percent < Number(least[i] ?? 0))) Deno.exitCode = 1;
  }
}
