/** `@std/streams` from npm, where JSR cannot be reached. */
export { TextLineStream } from "npm:deno-std@1.4.0/streams/text_line_stream.js";
