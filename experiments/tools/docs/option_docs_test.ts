/** The descriptions of options in editors equal those of the command line. */
import { assertEquals } from "@std/assert";
import { OPTIONS } from "../../../lib/methods/mod.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { describeOption, OPTION_DOCS, writeOptionDocs } from "./option_docs.ts";

const ROOT = new URL("../../../", import.meta.url);

Deno.test("the options' docs say what their rows say: else run experiments/tools/docs/reference_pages.ts", async () => {
  assertEquals(await Deno.readTextFile(new URL(OPTION_DOCS, ROOT)), writeOptionDocs());
});

Deno.test("describeOption() gives what it does, range, default, and what it belongs to, by the names of options", () => {
  const option = {
    type: "number",
    default: 0.5,
    range: "[0, 1)",
    of: { fusion: ["key"], anchor: ["ema", "mean"] },
    help: "share of what --prune-ratio says, {range}",
    note: "--tail where given",
  } as const;
  assertEquals(
    describeOption(option),
    "Share of what `pruneRatio` says. In [0, 1). Default: 0.5; `tail` where given. Only with `fusion` key. " +
      "Only with `anchor` ema, mean.",
  );
  assertEquals(describeOption({ type: "ratios", help: "a list" }), "A list.");
});

/** Deno's language server on a file, as an editor asks it. */
class Editor implements AsyncDisposable {
  readonly #child = new Deno.Command(Deno.execPath(), {
    args: ["lsp"],
    cwd: ROOT,
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  readonly #writer = this.#child.stdin.getWriter();
  readonly #answers = new Map<number, (answer: unknown) => void>();
  readonly #done = this.#read();
  #asked = 0;

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let left = new Uint8Array(0);
    for await (const chunk of this.#child.stdout) {
      left = Uint8Array.from([...left, ...chunk]);
      for (;;) {
        const [head, length] =
          decoder.decode(left.subarray(0, 200)).match(/^Content-Length: (\d+)\r\n(?:.*\r\n)*?\r\n/) ??
            [];
        if (head === undefined || left.length < head.length + Number(length)) break;
        const body = left.subarray(head.length, head.length + Number(length));
        const { id, method, params, result, error } = JSON.parse(decoder.decode(body));
        left = left.slice(head.length + Number(length));
        // It asks for its settings.
        const settings = params?.items?.map(() => ({ enable: true })) ?? null;
        if (method !== undefined && id !== undefined) await this.#send({ id, result: settings });
        else if (method === undefined) this.#answers.get(id)?.(error ?? result);
      }
    }
  }

  async #send(message: object): Promise<void> {
    const body = new TextEncoder().encode(JSON.stringify({ jsonrpc: "2.0", ...message }));
    await this.#writer.write(new TextEncoder().encode(`Content-Length: ${body.length}\r\n\r\n`));
    await this.#writer.write(body);
  }

  async tell(method: string, params: object): Promise<void> {
    await this.#send({ method, params });
  }

  // deno-lint-ignore no-explicit-any
  async ask(method: string, params?: object): Promise<any> {
    const id = ++this.#asked, { promise, resolve } = Promise.withResolvers<unknown>();
    this.#answers.set(id, resolve);
    await this.#send({ id, method, params });
    return await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ask("shutdown");
    await this.tell("exit", {});
    await this.#writer.close();
    await this.#done;
    await this.#child.status;
  }
}

Deno.test({
  ...unless(
    IN_SLOW_TIER,
    "an editor shows each option's text where the pointer is on it, and in its completion",
  ),
  fn: async () => {
    await using editor = new Editor();
    const capabilities = { textDocument: { completion: { completionItem: { snippetSupport: false } } } };
    await editor.ask("initialize", {
      processId: null,
      rootUri: ROOT.href,
      capabilities,
      initializationOptions: { enable: true },
    });
    await editor.tell("initialized", {});
    const names = Object.keys(OPTIONS), uri = new URL("options_sample.ts", ROOT).href;
    const lines = [
      `import type { MethodOptions, TokenFilterOptions } from "./mod.ts"; import type { CustomRuleOptions } from "./lib/entries/methods.ts";`,
      ...names.map((name) => `export const ${name}Of = (options: MethodOptions) => options.${name};`),
      "export const method: MethodOptions = {  };",
      "export const filter: TokenFilterOptions = {  };",
      "export const rule: CustomRuleOptions = {  };",
    ];
    const textDocument = { uri, languageId: "typescript", version: 1, text: lines.join("\n") };
    await editor.tell("textDocument/didOpen", { textDocument });

    const text = (doc: unknown) => JSON.stringify(doc).replaceAll(/\\n|\s+/g, " ");
    for (const [i, name] of names.entries()) {
      const character = lines[i + 1]!.indexOf(`.${name};`) + 1;
      const hover = await editor.ask("textDocument/hover", {
        textDocument,
        position: { line: i + 1, character },
      });
      const said = JSON.stringify(describeOption(OPTIONS[name]!)).slice(1, -1);
      assertEquals(text(hover).includes(said), true, `${name}: ${text(hover)}`);
    }
    for (
      const [at, known] of [
        [1, names],
        [2, names],
        [3, names.filter((name) => !["preset", "fusion", "absorb", "side"].includes(name))],
      ] as const
    ) {
      const line = names.length + at, character = lines[line]!.indexOf("{") + 2;
      const { items } = await editor.ask("textDocument/completion", {
        textDocument,
        position: { line, character },
        context: { triggerKind: 1 },
      });
      for (const name of known) {
        const item = items.find(({ label }: { label: string }) => label.replace("?", "") === name);
        const { documentation } = await editor.ask("completionItem/resolve", item);
        // The type of `fusion` is narrower there.
        if (name === "fusion" && at === 2) continue;
        const said = JSON.stringify(describeOption(OPTIONS[name]!)).slice(1, -1);
        assertEquals(text(documentation).includes(said), true, `${name}: ${text(documentation)}`);
      }
    }
  },
});
