/** Runs tasks as a user does, for tests. */
const root = new URL("../", import.meta.url);

/** What a run left. */
export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let flags: Promise<string[]> | undefined;

/** The flags that make `@std` resolve here. */
function stdFlags(): Promise<string[]> {
  flags ??= new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", "--no-lock", ".std/flags.ts"],
    cwd: root,
  }).output().then(({ stdout }) =>
    new TextDecoder().decode(stdout).split(/\s+/).filter((flag) => flag !== "")
  );
  return flags;
}

/** Starts a task. Paths in `args` are taken from the project's folder. */
export async function spawnTask(task: string, args: readonly string[]): Promise<Deno.ChildProcess> {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", ...await stdFlags(), `experiments/${task}.ts`, ...args],
    cwd: root,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** What a started task leaves when it has ended. */
export async function finish(child: Deno.ChildProcess): Promise<Finished> {
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs a task to its end. */
export async function runTask(task: string, ...args: string[]): Promise<Finished> {
  return await finish(await spawnTask(task, args));
}

/** Calls a test with a fresh folder, and removes it. */
export async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Names of everything in a folder, sorted. */
export function listFolder(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
}
