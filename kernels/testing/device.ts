/** What the tests of the CUDA library's ops share: the device in a thread order, tensors there and back. */
import { type OpenDevice, openTestDevice, THREAD_ORDERS, type ThreadOrder } from "../../ffi/cuda/testing.ts";
import type { HostTensor, Tensor } from "../../lib/tensor.ts";
import { unwritten } from "./inputs.ts";

/** A device, how tensors get there and back, and the thread order that its launches follow. */
export interface TestDevice extends OpenDevice {
  readonly order: ThreadOrder;
  /** A copy of a host tensor on the device. */
  on<T extends Tensor>(tensor: T): Tensor;
  /** An f32 tensor on the device that a kernel is to fill: NaN everywhere. */
  empty(...shape: number[]): Tensor;
  /** Values of a tensor of the device. */
  values(tensor: Tensor): Float32Array;
}

/** The device that tests run on, with threads in an order, ascending by default; on a GPU they have their own. */
export async function openDevice(order: ThreadOrder = "ascending"): Promise<TestDevice> {
  return withTensors(await openTestDevice({ order }), order);
}

/** Adds the ways of tensors to a device. */
export function withTensors(device: OpenDevice, order: ThreadOrder = "ascending"): TestDevice {
  const { backend } = device;
  return {
    ...device,
    order,
    on: (tensor) => backend.upload(tensor as Tensor as HostTensor),
    empty: (...shape) => backend.upload(unwritten(shape)),
    values: (tensor) => backend.read(tensor).data as Float32Array,
  };
}

/** Calls a test with the device in every thread order (a GPU: as many times). */
export async function inEveryOrder(test: (device: TestDevice) => void): Promise<void> {
  for (const order of THREAD_ORDERS) test(await openDevice(order));
}
