import { assert, assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { listFolder, withFolder } from "../../commands/testing.ts";
import { ensureJupyter, type JupyterOptions } from "./jupyter.ts";

const printed = (stdout: string) => ({ success: true, code: 0, stdout, stderr: "" });
const failed = (stderr: string) => ({ success: false, code: 1, stdout: "", stderr });

/** A machine where `answer` gives the result of each command; `commands` lists the commands that were run. */
function machine(answer: (command: string) => ReturnType<typeof printed>) {
  const commands: string[] = [];
  const run: JupyterOptions["run"] = async (program, args) => {
    const command = [program, ...args].join(" ");
    commands.push(command);
    const result = answer(command);
    if (result.success && command.includes("-m venv")) await Deno.mkdir(args.at(-1)!, { recursive: true });
    return result;
  };
  return { run, commands };
}

Deno.test("ensureJupyter() sets up once, and again for another Python", async () => {
  await withFolder(async (cache) => {
    let version = "3.11";
    const { run, commands } = machine((command) => printed(command.includes("sys.version") ? version : ""));
    const first = await ensureJupyter({ run, cache });
    assertEquals(commands.filter((command) => command.includes(" install ")).length, 1);
    assert(commands.some((command) => command.endsWith("/requirements.txt")));
    assertEquals(await ensureJupyter({ run, cache }), first);
    assertEquals(commands.filter((command) => command.includes(" install ")).length, 1);
    version = "3.12";
    await ensureJupyter({ run, cache });
    assertEquals(listFolder(cache).length, 2);
    assertEquals(listFolder(cache).filter((name) => !/^jupyter-[0-9a-f]{16}$/.test(name)), []);
  });
});

Deno.test("ensureJupyter() takes the system's pip where venv has none", async () => {
  await withFolder(async (cache) => {
    const { run, commands } = machine((command) =>
      /-m venv (?!--clear)/.test(command) ? failed("ensurepip is not available") : printed("")
    );
    await ensureJupyter({ run, cache });
    assert(commands.some((command) => /^python3 -m pip --python \S+\/bin\/python install /.test(command)));
  });
});

const CASES = {
  "there is no python3": () => failed("python3: found no program of this name"),
  "venv fails": (command: string) =>
    command.includes("-m venv") ? failed("No module named venv") : printed(""),
  "there is no pip": (command: string) =>
    /-m venv (?!--clear)|-m pip/.test(command) ? failed("No module named pip") : printed(""),
  "pip finds nothing": (command: string) =>
    command.includes(" install ") ? failed("a\nERROR: no network") : printed(""),
};
for (const [name, answer] of Object.entries(CASES)) {
  Deno.test(`ensureJupyter() says in one line what is missing and leaves nothing when ${name}`, async () => {
    await withFolder(async (cache) => {
      const { run } = machine(answer);
      const error = await assertRejects(
        () => ensureJupyter({ run, cache }),
        UsageError,
        "Cannot set up Jupyter",
      );
      assertEquals(error.message.includes("\n"), false);
      assert(error.message.includes("python3-pip"), error.message);
      assertEquals(listFolder(cache), []);
    });
  });
}

Deno.test("every requirement is pinned to one version, and to digests", async () => {
  const known = new Set<string>();
  const text = await Deno.readTextFile(new URL("requirements.txt", import.meta.url));
  for (const line of text.replaceAll(" \\\n", "").trim().split("\n")) {
    if (/^#/.test(line)) continue;
    const [, package_] = line.match(/^([\w.-]+)==[\w.]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+$/) ??
      [];
    assert(package_ !== undefined, line);
    assert(!known.has(package_), `${package_} twice`);
    known.add(package_);
  }
});

Deno.test("ensureJupyter() has pip refuse what has another digest", () =>
  withFolder(async (cache) => {
    const { run, commands } = machine(() => printed(""));
    await ensureJupyter({ run, cache });
    assert(
      commands.some((command) => / install .*--require-hashes -r \S+$/.test(command)),
      commands.join("\n"),
    );
  }));
