/** Libraries of macOS for arm64: what their loader reads, without a Mac. */
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";

/** Numbers of the format: its head, and load commands. */
const MAGIC = 0xfeedfacf, ARM64 = 0x0100000c, DYNAMIC_LIBRARY = 6;
const SYMBOLS = 0x2, LIBRARY = 0xc, SIGNATURE = 0x1d, BUILD_VERSION = 0x32;
/** A signature without a certificate by the linker, as arm64 requires of every library. */
const ADHOC = 0x20002;

/** The parts of a library that its loader needs. */
export interface MachO {
  /** Paths of the libraries that it loads. */
  readonly libraries: readonly string[];
  /** The oldest macOS, such as "11.0". */
  readonly oldest: string;
  /** Names that it exports, without the underscore of C. */
  readonly exported: readonly string[];
}

/** Reads a library, and checks its signature against its content. @throws {UsageError} If it is none that would load. */
export async function readMachO(bytes: Uint8Array<ArrayBuffer>): Promise<MachO> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const number = (at: number) => view.getUint32(at, true);
  const textAt = (at: number) => new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
  const expect = (holds: boolean, found: string) => {
    if (!holds) throw new UsageError(`Cannot release the library for macOS: found ${found}`);
  };
  const head = [0, 4, 12].map((at) => bytes.length < 32 ? 0 : number(at));
  expect(`${head}` === `${[MAGIC, ARM64, DYNAMIC_LIBRARY]}`, "no dynamic library for arm64");
  const commands = new Map<number, number[]>();
  for (let at = 32, left = number(16); left > 0; at += number(at + 4), left--) {
    commands.set(number(at), [...commands.get(number(at)) ?? [], at]);
  }
  const places = [SYMBOLS, SIGNATURE, BUILD_VERSION].map((command) => commands.get(command)?.[0]);
  expect(!places.includes(undefined), "no table of symbols, signature or version of macOS");
  const [symbols, signature, build] = places as [number, number, number];
  await expectSigned(bytes, view, number(signature + 8), expect);
  const texts = number(symbols + 16), exported: string[] = [];
  for (let i = 0, at = number(symbols + 8); i < number(symbols + 12); i++, at += 16) {
    const type = view.getUint8(at + 4), isExternal = (type & 0x11) === 1, isDefined = (type & 0xe) !== 0;
    if (isExternal && isDefined) exported.push(textAt(texts + number(at)).replace(/^_/, ""));
  }
  const libraries = (commands.get(LIBRARY) ?? []).map((at) => textAt(at + number(at + 8)));
  const oldest = number(build + 12);
  return { libraries, oldest: `${oldest >> 16}.${oldest >> 8 & 255}`, exported };
}

/** Compares the signature's digests of pages with the pages: the system ends a process that loads another one. */
async function expectSigned(
  bytes: Uint8Array<ArrayBuffer>,
  view: DataView,
  blob: number,
  expect: (holds: boolean, found: string) => void,
): Promise<void> {
  const directory = blob + view.getUint32(blob + 16);
  const [flags, first, pages, end] = [12, 16, 28, 32].map((at) => view.getUint32(directory + at)) as [
    number,
    number,
    number,
    number,
  ];
  const [size, type, , log] = bytes.subarray(directory + 36, directory + 40);
  const kind = `a signature of flags ${flags.toString(16)}, digests of type ${type} with ${size} bytes`;
  expect(flags === ADHOC && type === 2 && size === 32 && end === blob, kind);
  for (let page = 0; page < pages; page++) {
    const content = bytes.subarray(page << log!, Math.min((page + 1) << log!, end));
    const at = directory + first + 32 * page, signed = bytes.subarray(at, at + 32).toHex();
    expect(await sha256(content) === signed, `other bytes than those that are signed, in page ${page}`);
  }
}
