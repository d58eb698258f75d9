/** The end of a task: results on stdout. A fault that a user can fix gets one line on stderr and exit code 2. */
import { OPTIONS } from "../../../lib/methods/bind/option_table.ts";
import { escapeControls } from "../../../lib/printable.ts";
import { readVersion } from "../../../lib/version.ts";
import { KernelError, ModelFormatError, NativeLibraryError, UsageError } from "../../../lib/errors.ts";
import type { Command, Main } from "./command.ts";
import { describeCommand } from "./flags/help.ts";

export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130, terminated: 143 } as const;

/** The line for an error that a user can fix; undefined for a defect of the program, which keeps its trace. */
export function explainError(error: unknown): string | undefined {
  if (isFileError(error)) {
    return `Cannot read or write a file: ${error.message.replace(/ \(os error \d+\)/, "").trim()}`;
  }
  const expected = error instanceof UsageError || error instanceof ModelFormatError ||
    error instanceof NativeLibraryError || error instanceof KernelError ||
    (error instanceof RangeError && error.message.startsWith("Cannot "));
  if (expected) return error.message.trim().replaceAll(/\s*\n\s*/g, "; ");
  if ((error as { code?: unknown } | null)?.code !== "ENOSPC") return undefined;
  return "Cannot write a file: found no space left on the device (make room, or take another --out or TOKENFILTER_CACHE)";
}

/** Errors of the file system that no step has explained. */
function isFileError(error: unknown): error is Error {
  const { NotFound, PermissionDenied, NotCapable, IsADirectory, NotADirectory, WriteZero, FilesystemLoop } =
    Deno.errors;
  return [NotFound, PermissionDenied, NotCapable, IsADirectory, NotADirectory, WriteZero, FilesystemLoop]
    .some((kind) => error instanceof kind);
}

/**
 * Runs a task, or prints its help or version where that is asked for.
 *
 * @param usage The text of `--help`, or a function that makes it: only `--help all` needs every flag.
 * @returns The exit code.
 */
export async function executeTask(
  main: Main,
  args: readonly string[],
  usage?: string | ((all: boolean) => string),
): Promise<number> {
  try {
    if (args.includes("--version")) {
      writeLine(Deno.stdout, `tokenfilter ${await readVersion()}`);
      return EXIT.ok;
    }
    const help = args.findIndex((arg) => /^(--help|-h)(=all)?$/.test(arg));
    if (usage !== undefined && help >= 0) {
      const all = args[help]!.endsWith("=all") || args[help + 1] === "all";
      writeLine(Deno.stdout, typeof usage === "string" ? usage : usage(all));
      return EXIT.ok;
    }
    return await main(args);
  } catch (error) {
    // The reader of a pipe has closed it, as `head` does: this is no fault.
    if (error instanceof Deno.errors.BrokenPipe) return EXIT.ok;
    const line = explainError(error);
    if (line === undefined) throw error;
    writeLine(Deno.stderr, line);
    return EXIT.usage;
  }
}

/** Permissions of Deno that a command gives up once it needs them no more. */
export type Permission = "run" | "net" | "write";

let isOwnProcess = false;

/**
 * Gives up permissions for the rest of the process and all its threads, where a command has the process for itself.
 */
export async function giveUp(...names: Permission[]): Promise<void> {
  for (const name of isOwnProcess ? names : []) await Deno.permissions.revoke({ name });
}

/** As {@linkcode executeTask}, with this process's arguments; ends the process with the exit code. */
export async function runTask(main: Main, usage?: string | ((all: boolean) => string)): Promise<never> {
  isOwnProcess = true;
  Deno.exit(await executeTask(main, Deno.args, usage));
}

/** Runs a command with this process's arguments; ends the process with the exit code. */
export async function runCommand(command: Command): Promise<never> {
  return await runTask(command.main, (all) => describeCommand(command, all));
}

/** Writes a whole text, however long it is; control characters in it are written out. */
export function writeText(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = new TextEncoder().encode(escapeControls(text));
  for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
}

/** Writes a whole text and a line end, as {@linkcode writeText}. */
export function writeLine(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  writeText(stream, `${text}\n`);
}

/** Runs a step that checks input of the user; its type and range errors are usage errors about flags. */
export function checkFlags<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    throw new UsageError(error.message.replaceAll(/option "(\w+)"/g, (_, name) => `--${flagName(name)}`));
  }
}

/** `pruneRatio` as `prune-ratio`; an option whose flag has a name of its own, by that. */
export function flagName(option: string): string {
  return OPTIONS[option]?.flag ?? option.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
