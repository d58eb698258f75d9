/** A rule with two options and a pruner with one, added as in docs/guides/write-a-rule.md: a file and a line each. */

const TOY = `/** A rule. */
import type { OptionTable } from "../../filter/option.ts";
import type { RuleMethod } from "../protocol/method.ts";

const options = {
  toyA: { type: "number", default: 0.5, range: "[0, 2]", help: "weight of the values, {range}" },
  toySquared: { type: "flag", default: false, help: "square it" },
} as const satisfies OptionTable;

/** Keys less values. */
export const toy: RuleMethod<"toy", typeof options> = {
  name: "toy",
  help: "keys less values",
  options,
  score: ({ muK, muV }, { toyA, toySquared }) => (muK - toyA * muV) ** (toySquared ? 2 : 1),
};
`;
const EVEN = `/** A pruner. */
import { createScanOutput } from "../../filter/layer.ts";
import type { OptionTable } from "../../filter/option.ts";
import { planLayers } from "../../filter/schedule.ts";
import type { PrunerMethod } from "../protocol/method.ts";
import { definePruner, type SideSequence } from "../protocol/pruner.ts";

const options = {
  evenShift: { type: "integer", default: 1, range: "[0, 9]", help: "tokens by which all is shifted" },
} as const satisfies OptionTable;

/** Skips at even distances. */
export const even: PrunerMethod<"even", typeof options> = {
  name: "even",
  help: "skips at even distances",
  options,
  nonCausal: false,
  create(shape, { evenShift, ...shared }, { trace }) {
    const plan = new Map(planLayers(shape.numLayers, shared).map((one) => [one.layer, one.skipRatio]));
    const { warmup, block, recent } = shared;
    const wrap = (seen: Map<number, number>, chunk: number): SideSequence => ({
      decide({ layer, count }, start) {
        const first = seen.get(layer) ?? 0, taken = count - start, rows = createScanOutput(taken);
        const due = (t: number) => Math.floor((t + evenShift) * plan.get(layer)!);
        rows.keep.forEach((_, i) => {
          if (first + i >= warmup && due(first + i + 1) > due(first + i)) rows.keep[i] = 0;
        });
        seen.set(layer, first + taken);
        trace?.(rows, layer, chunk);
        return { keep: rows.keep };
      },
      fork: () => wrap(new Map(seen), chunk),
    });
    const layers = [...plan.keys()], start = (chunk = 0) => wrap(new Map(), chunk);
    return definePruner({ name: "even", layers, spans: { warmup, block, recent }, start });
  },
};
`;

/** Adds methods to a copy of the project: files by the names that they export. */
export function addMethods(copy: string, files: { readonly [name: string]: string }): void {
  const path = `${copy}/lib/methods/list.ts`, names = Object.keys(files);
  for (const name of names) Deno.writeTextFileSync(`${copy}/lib/methods/rules/${name}.ts`, files[name]!);
  const imports = names.map((name) => `import { ${name} } from "./rules/${name}.ts";\n`).join("");
  const lines = names.map((name) => `  ${name},\n`).join("");
  const list = Deno.readTextFileSync(path);
  Deno.writeTextFileSync(
    path,
    list.replace("import { variance }", `${imports}$&`).replace("] as const;", `${lines}$&`),
  );
}

/** The methods by name. */
export const ADDED = { toy: TOY, even: EVEN };
