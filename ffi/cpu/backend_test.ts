/** Memory of the tensors of the native backend. */
import { assertEquals, assertThrows } from "@std/assert";
import { buildCpu } from "../../build.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { type CpuBackend, openCpu } from "../mod.ts";

await buildCpu();

Deno.test("free() gives memory back at once, but for values that somebody has read", async () => {
  using cpu = await openCpu() as CpuBackend;
  const bytes = (tensor: Tensor) => (tensor as HostTensor).data.byteLength;
  const [unread, read, grown] = [cpu.alloc("f32", [8]), cpu.alloc("f32", [8]), cpu.alloc("f32", [8, 1])];
  const { data } = cpu.read(read),
    larger = cpu.resizeRows(grown, 9),
    own = hostTensor("f32", [8], new Float32Array(8));
  for (const tensor of [unread, read, larger, cpu.upload(own)]) cpu.free(tensor);
  assertEquals([unread, read, larger, own, grown].map(bytes), [0, 32, 0, 32, 32]);
  assertEquals(data.length, 8);
  assertThrows(() => cpu.read(unread), Error, "Cannot read a tensor of shape [8]: it was freed");
});

Deno.test("regrowRows() copies a small tensor and gives its memory back; a large one grows where it is", async () => {
  using cpu = await openCpu() as CpuBackend;
  const first = cpu.alloc("f32", [2, 256]) as HostTensor;
  f32Data(first).fill(1);
  const small = cpu.regrowRows(first, 256),
    large = cpu.regrowRows(small, 257),
    last = cpu.regrowRows(large, 300);
  const sum = (tensor: HostTensor) => f32Data(tensor).subarray(0, 512).reduce((a, b) => a + b, 0);
  assertEquals([first, small].map(({ data }) => data.byteLength), [0, 0]);
  assertEquals([last.data.length, sum(last), large.data.buffer === last.data.buffer], [300 * 256, 512, true]);
  const copied = cpu.regrowRows(cpu.alloc("f32", [2, 256]), 256).data.buffer;
  assertEquals((copied as ArrayBuffer).resizable, false);
});
