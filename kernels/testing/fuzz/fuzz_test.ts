import { assert, assertEquals } from "@std/assert";
import { NO_PTX } from "../../../ffi/cuda/testing.ts";
import { RUNS_SLOW, unless } from "../../../lib/testing.ts";

const LIMIT_MS = 600_000;

for (
  const [library, calls, least] of RUNS_SLOW
    ? [["cpu", 20_000, 150], ["ptx", 3000, 10]] as const
    : [["cpu", 5000, 35], ["ptx", 1000, 3]] as const
) {
  const name = `the C ABI on ${library} survives ${calls} random calls`;
  const why = library === "ptx" && NO_PTX;
  Deno.test({
    ...unless(why, name),
    fn: async () => {
      const script = new URL("fuzz.ts", import.meta.url).href;
      const { success, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", script, library, "1", `${calls}`],
        cwd: new URL("../../../", import.meta.url),
        stdin: "null",
        signal: AbortSignal.timeout(LIMIT_MS),
      }).output();
      const lines = new TextDecoder().decode(stdout).trim().split("\n");
      const said = new TextDecoder().decode(stderr).slice(0, 8000);
      assert(success, `Died (${signal}) at seed ${lines.at(-1)}:\n${said}`);
      assertEquals(lines.length, calls + 1);
      const tally: { [name: string]: [number, number] } = JSON.parse(lines.at(-1)!);
      for (const [name, [taken, refused]] of Object.entries(tally)) {
        if (name === "tkf_machine_measure") assertEquals(taken, 0); // only bad calls
        else assert(taken >= least, `${name} took ${taken} calls`);
        assert(refused >= least, `${name} refused ${refused} calls`);
      }
    },
  });
}
