/**
 * Preloaded by `deno task test`. Examples in the documentation assert with `console.assert`, which else only prints. Test
 * files run at the same time in one process: none may set its variables or its folder.
 */
console.assert = (condition = false, ...words: unknown[]): void => {
  if (!condition) throw new Error(["Assertion failed", ...words].join(": "));
};

function refuse(call: string, instead: string): never {
  throw new Error(`Cannot call ${call} in a test: other files' tests share the process; expected ${instead}`);
}

const instead = "withVariables() of lib/testing.ts, or a process of its own";
Deno.env.set = () => refuse("Deno.env.set()", instead);
// Packages of npm delete a variable when they are loaded, which is not set.
Deno.env.delete = (name) => Deno.env.has(name) && refuse("Deno.env.delete()", instead);
Deno.chdir = () => refuse("Deno.chdir()", "absolute paths, or a process of its own");
