/** `@std/yaml` from npm, where JSR cannot be reached. */
export { parse } from "npm:deno-std@1.4.0/yaml/parse.js";
