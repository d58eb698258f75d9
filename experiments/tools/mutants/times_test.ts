import { assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { withFolder } from "../../commands/testing.ts";
import { readTimes } from "./times.ts";

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="4" failures="0" errors="0" time="9.5">
    <testsuite name="./lib/a_test.ts" tests="2" disabled="0" errors="0" failures="0">
        <testcase name="one &gt; 2 time=&quot;7&quot;" classname="./lib/a_test.ts" time="1.500" line="3" col="6">
        </testcase>
        <testcase name="two" classname="./lib/a_test.ts" time="0.250" line="9" col="6">
        </testcase>
    </testsuite>
    <testsuite name="./lib/b.ts#12-20.ts" tests="1" disabled="0" errors="0" failures="0">
        <testcase name="file:///lib/b.ts#12-20.ts" classname="./lib/b.ts#12-20.ts" time="0.125" line="1" col="6">
        </testcase>
    </testsuite>
</testsuites>
`;

Deno.test("readTimes() adds up what a file's tests and examples took, and refuses other files", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/times.xml`, REPORT);
    const times = await readTimes(`${folder}/times.xml`);
    assertEquals([...times], [["lib/a_test.ts", 1.75], ["lib/b.ts", 0.125]]);
    await Deno.writeTextFile(`${folder}/other.xml`, "<testsuites></testsuites>");
    await assertRejects(() => readTimes(`${folder}/other.xml`), UsageError, "found no times of tests");
    await assertRejects(() => readTimes(`${folder}/none.xml`), UsageError, "none.xml");
  }));

/** The format of Deno's report is the one that readTimes() reads. */
Deno.test("readTimes() reads what deno test writes", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(
      `${folder}/a_test.ts`,
      'Deno.test("a", () => new Promise((end) => setTimeout(end, 50)));',
    );
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--no-config", "--no-lock", "--quiet", "--junit-path=times.xml"],
      cwd: folder,
      stdout: "null",
    }).output();
    const [[file, seconds] = ["", 0]] = await readTimes(`${folder}/times.xml`);
    assertEquals([success, file, seconds > 0.04 && seconds < 60], [true, "a_test.ts", true]);
  }));
