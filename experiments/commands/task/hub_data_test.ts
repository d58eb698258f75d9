import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { type HubRows, type Item, TASKS } from "../../../lib/eval/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { dataOfTasks, withHub } from "../hub_testing.ts";
import { finish, spawnTask, withFolder } from "../testing.ts";
import { readHubData } from "./data.ts";
import golden from "../eval/testdata/hub_golden.json" with { type: "json" };

/** The tasks whose rows the hub has. */
const ITEM_TASKS = TASKS.flatMap(({ name, items }) =>
  items !== undefined && "file" in items ? [{ name, hub: items.hub!, read: items.read }] : []
);
type ItemTask = { readonly name: string; readonly hub: HubRows };

const DATA = await dataOfTasks();

/** Requests as lm-evaluation-harness makes them of the same rows. */
const listRequests = (items: readonly Item[]) =>
  items.flatMap(({ requests, gold }, doc) =>
    requests.map(({ context, continuation }) => ({ doc, context, continuation, gold }))
  );

Deno.test("readHubData() gives the rows of which lm-evaluation-harness makes the same requests, and asks once", () =>
  withHub(DATA, async (options, requests) => {
    const arc = ITEM_TASKS.filter(({ hub }) => hub.repository === "allenai/ai2_arc");
    assertEquals(new Set(arc.map(({ hub }) => hub.files[0])).size, 2);
    for (const task of ITEM_TASKS) {
      const { rows } = await readHubData(task, options), items = task.read(rows);
      const theirs = golden.requests[task.name as keyof typeof golden.requests];
      if (task.name === "mmlu_5shot") assertEquals(items[0]!.requests[0].context.split("Answer:").length, 7);
      else assertEquals(listRequests(items), theirs, task.name);
    }
    const before = requests.length;
    assert(before >= 2 * 10);
    const again = await readHubData(arc[0]!, { ...options, offline: true });
    assertEquals([again.rows[0]!.text("id"), requests.length], ["q1", before]);
    const arcPath = `datasets--allenai--ai2_arc/snapshots/${arc[0]!.hub.revision}/${arc[0]!.hub.files[0]}`;
    assert((await Deno.lstat(`${options.hubCache}/${arcPath}`)).isSymlink);
  }));

Deno.test("readHubData() says what is wrong: nothing in the cache offline, no such file, a row without a field", () =>
  withHub(DATA, async (options) => {
    const [first] = ITEM_TASKS as [typeof ITEM_TASKS[number]],
      explain = async (own: Pick<ItemTask, "name" | "hub">, offline: boolean) =>
        (await assertRejects(() => readHubData(own, { ...options, offline }), Error)).message;
    await assertRejects(
      () => readHubData(first, { ...options, offline: true }),
      UsageError,
      "found no ARC-Easy/",
    );
    const lost = { ...first, hub: { ...first.hub, files: ["x.parquet"] } };
    assertStringIncludes(
      await explain(lost, false),
      'Cannot get "datasets/allenai/ai2_arc" from the hub: found nothing at',
    );
    const piqa = ITEM_TASKS.find(({ name }) => name === "piqa")!;
    const wrong = { ...piqa, hub: { ...piqa.hub, row: first.hub.row } };
    assertStringIncludes(
      await explain(wrong, false),
      'Cannot read "baber/piqa/piqa_validation.parquet", row 1: found no "choices", expected it next to goal, sol1',
    );
    const odd = { text: () => "a", index: (name: string, count: number) => `${name} of ${count}` } as never;
    assertEquals((piqa.hub.row(odd, "a.parquet") as { gold: unknown }).gold, "label of 2");
    const down = { ...options, endpoint: "http://127.0.0.1:9" };
    await assertRejects(
      () => readHubData(first, down),
      UsageError,
      'Cannot get the data set "allenai/ai2_arc" from the hub',
    );
  }));

Deno.test("readHubData() names a file of the cache that is not as it came, and a broken one of the hub", () =>
  withHub(DATA, async (options) => {
    const piqa = ITEM_TASKS.find(({ name }) => name === "piqa")!,
      { hub: { repository, revision, files } } = piqa;
    const place = `Cannot read "datasets/${repository}/${files[0]}"`;
    await readHubData(piqa, options);
    const folder = `${options.hubCache}/datasets--${repository.replace("/", "--")}/snapshots/${revision}`;
    const blob = await Deno.realPath(`${folder}/${files[0]}`), digest = blob.split("/").at(-1);
    const whole = await Deno.readFile(blob), changed = whole.with(100, whole[100]! ^ 1);
    await Deno.writeFile(blob, changed);
    const offline = { ...options, offline: true };
    const { message } = await assertRejects(() => readHubData(piqa, offline), UsageError);
    const found = `${place}: found digest ${await sha256(changed)} in the cache, expected ${digest}; `;
    assertEquals(message, `${found}remove "${blob}", and it is downloaded again`);
    await Deno.remove(blob);
    assertEquals((await readHubData(piqa, options)).rows.length, 2);

    for (
      const [bytes, found] of [[whole.toReversed(), "parquet file invalid"], [
        whole.slice(0, -40),
        "parquet",
      ]] as const
    ) {
      const broken = `${options.hubCache}/${await sha256(bytes)}`;
      await Deno.writeFile(broken, bytes);
      await Deno.remove(`${folder}/${files[0]}`);
      await Deno.symlink(broken, `${folder}/${files[0]}`);
      const { message } = await assertRejects(() => readHubData(piqa, offline), RangeError);
      assertStringIncludes(message, `Cannot read "${repository}/${files[0]}": ${found}`);
    }
  }));

Deno.test("eval takes a task's data from the hub, and again without it", () =>
  withHub(DATA, ({ endpoint, hubCache }, requests) =>
    withFolder(async (folder) => {
      const env = { HF_ENDPOINT: endpoint, HF_HUB_CACHE: hubCache, HF_HUB_OFFLINE: "0" };
      const runEval = async (...args: string[]) => await finish(await spawnTask("eval", args, env));
      const args = ["--data", "hub", "--tasks", "piqa", "--threads", "1", "--json", "--quiet"];
      const first = await runEval(...args, "--out", `${folder}/a`);
      assertEquals([first.code, first.stderr], [0, ""]);
      const { environment: { tasks: [task] }, items } = JSON.parse(first.stdout);
      const { repository, revision } = ITEM_TASKS.find(({ name }) => name === "piqa")!.hub;
      assertEquals([task.repository, task.revision, task.of, items.length], [repository, revision, 2, 2]);
      const before = requests.length;
      const again = await runEval(...args, "--offline", "--out", `${folder}/b`);
      assertEquals([again.code, requests.length], [0, before]);
      assertEquals(JSON.parse(again.stdout).items, items);
      const refused = await runEval("--data", "hub", "--tasks", "boolq", "--offline", "--quiet");
      assertEquals([refused.code, refused.stdout], [2, ""]);
      assertStringIncludes(refused.stderr, 'Cannot use the data set "aps/super_glue" offline');
    })));
