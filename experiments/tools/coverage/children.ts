/**
 * Preloaded by `deno task coverage`: code of `deno eval` writes no coverage, so processes that tests start with it get the
 * same code by `deno run`.
 */
const { Command } = Deno;

/** Arguments that run the same code and write coverage. */
function withCoverage(args: readonly string[]): string[] {
  if (args[0] !== "eval") return [...args];
  const [, ...flags] = args, code = flags.pop()!;
  return ["run", "-A", ...flags, `data:text/javascript,${encodeURIComponent(code)}`];
}

Deno.Command = class extends Command {
  constructor(command: string | URL, options: Deno.CommandOptions = {}) {
    super(
      command,
      command === Deno.execPath() ? { ...options, args: withCoverage(options.args ?? []) } : options,
    );
  }
};
