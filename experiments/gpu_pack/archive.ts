/** Archives that depend on what they hold alone: names, bytes and whether a file is a program. */
import { UsageError } from "../../lib/errors.ts";
import type { PackedFile } from "./content.ts";

const BLOCK = 512;
/** Longest parts of a path in a tar header. */
const NAME_BYTES = 100, PREFIX_BYTES = 155;

/** A header of the ustar format. @throws {RangeError} If the path is too long for it. */
function header(path: string, bytes: number, mode: number): Uint8Array {
  const block = new Uint8Array(BLOCK), encoder = new TextEncoder();
  const put = (text: string, at: number) => block.set(encoder.encode(text), at);
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, "0")}\0`;
  let name = path, prefix = "";
  // A long path is cut at a slash: the front goes into a field of its own.
  for (
    let cut = path.indexOf("/");
    encoder.encode(name).length > NAME_BYTES;
    cut = path.indexOf("/", cut + 1)
  ) {
    if (cut < 0) break;
    prefix = path.slice(0, cut);
    name = path.slice(cut + 1);
  }
  if (encoder.encode(name).length > NAME_BYTES || encoder.encode(prefix).length > PREFIX_BYTES) {
    throw new RangeError(`Cannot pack "${path}": found a path too long for a tar archive`);
  }
  put(name, 0);
  put(octal(mode, 7), 100);
  put(octal(0, 7), 108);
  put(octal(0, 7), 116);
  put(octal(bytes, 11), 124);
  put(octal(0, 11), 136);
  put(" ".repeat(8), 148); // the checksum counts itself as blanks
  put("0", 156);
  put("ustar\0" + "00", 257);
  put(prefix, 345);
  put(octal(block.reduce((sum, byte) => sum + byte, 0), 6) + " ", 148);
  return block;
}

async function* tar(files: readonly PackedFile[]): AsyncGenerator<Uint8Array> {
  for (const { from, to } of files) {
    const content = await Deno.readFile(from);
    const program = ((await Deno.stat(from)).mode ?? 0) & 0o100;
    yield header(to, content.length, program ? 0o755 : 0o644);
    yield content;
    yield new Uint8Array((BLOCK - content.length % BLOCK) % BLOCK);
  }
  yield new Uint8Array(2 * BLOCK);
}

/** Writes files as a `.tar.gz`, in the order given. @throws {RangeError} If a path is too long. */
export async function writeArchive(path: string, files: readonly PackedFile[]): Promise<void> {
  const content = ReadableStream.from(tar(files)) as ReadableStream<Uint8Array<ArrayBuffer>>;
  const file = await Deno.open(path, { write: true, create: true, truncate: true });
  await content.pipeThrough(new CompressionStream("gzip")).pipeTo(file.writable);
}

/** Python's lzma makes a quarter less of Deno than gzip does, and is there wherever python3 is. */
const COMPRESS = `
import lzma, shutil, sys
with open(sys.argv[1], "rb") as source, lzma.open(sys.argv[2], "wb", preset=6) as target:
    shutil.copyfileobj(source, target, 1 << 20)
`;

/** Writes one file as a `.xz`. @throws {UsageError} If there is no python3 that can. */
export async function writeCompressed(path: string, from: string): Promise<void> {
  const said = await new Deno.Command("python3", { args: ["-c", COMPRESS, from, path], stdin: "null" })
    .output()
    .then(({ success, stderr }) => success ? undefined : new TextDecoder().decode(stderr), String);
  if (said === undefined) return;
  throw new UsageError(`Cannot compress "${from}" by python3's lzma: ${said.trim().split("\n").at(-1)}`);
}
