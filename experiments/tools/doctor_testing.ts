/** Checks of the doctor in a process of its own, one after the other, each with variables: test files share one environment. */
import { examine, type Finding } from "./doctor.ts";
import { CHECKS } from "./doctor/checks.ts";

/** Name of a check, and variables that are set for it; "" counts as not set. */
export type Case = readonly [name: string, variables: Readonly<Record<string, string>>];

const check = (name: string) => CHECKS.find((check) => check.name === name)!;

/** Runs checks. @param env Variables of all of them, also for C. */
export async function examineAll(
  cases: readonly Case[],
  env: Record<string, string> = {},
): Promise<Finding[]> {
  const args = [
    "run",
    "-A",
    "--no-check",
    import.meta.filename!,
    JSON.stringify(cases),
  ];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, env }).output();
  const text = new TextDecoder().decode(stdout);
  if (text === "") throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(text);
}

if (import.meta.main) {
  const found: Finding[] = [], before = Deno.env.toObject();
  for (const [name, variables] of JSON.parse(Deno.args[0]!) as Case[]) {
    for (const [name, value] of Object.entries(variables)) {
      value ? Deno.env.set(name, value) : Deno.env.delete(name);
    }
    found.push(await examine(check(name)));
    for (const name of Object.keys(variables)) {
      before[name] === undefined ? Deno.env.delete(name) : Deno.env.set(name, before[name]);
    }
  }
  console.log(JSON.stringify(found));
}
