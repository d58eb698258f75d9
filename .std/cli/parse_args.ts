/** `@std/cli` from npm, where JSR cannot be reached. */
export { parseArgs } from "npm:deno-std@1.4.0/cli/parse_args.js";
