/** Preloaded by `deno task test`: examples in the documentation assert with `console.assert`, which else only prints. */
console.assert = (condition = false, ...words: unknown[]): void => {
  if (!condition) throw new Error(["Assertion failed", ...words].join(": "));
};
