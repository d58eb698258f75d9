import { assertEquals } from "@std/assert";
import { parseResources } from "./resources.ts";

const SAID = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1kILi3EEvPKfPfi' for 'sm_80'
ptxas info    : Function properties for _Z1kILi3EEvPKfPfi
    16 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 22 registers, used 1 barriers, 128 bytes smem, 372 bytes cmem[0]
ptxas info    : Compile time = 10.675 ms
ptxas info    : Compiling entry function '_Z2mmPf' for 'sm_90a'
ptxas info    : Function properties for _Z2mmPf
    0 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
ptxas info    : Function properties for called
    40 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
`;

Deno.test("parseResources() reads registers, shared memory, stack and spills of each kernel", () => {
  assertEquals(parseResources(SAID), [
    {
      symbol: "_Z1kILi3EEvPKfPfi",
      arch: "sm_80",
      registers: 22,
      sharedBytes: 128,
      stackBytes: 16,
      spillBytes: 0,
    },
    { symbol: "_Z2mmPf", arch: "sm_90a", registers: 255, sharedBytes: 0, stackBytes: 0, spillBytes: 20 },
  ]);
  assertEquals(parseResources("nothing of the kind\n"), []);
});
