/** 16-bit floats: f16 (IEEE binary16) and bf16 (the upper half of a float32), to numbers and back. */

const half = new Float16Array(1);
const halfBits = new Uint16Array(half.buffer);
const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

export function fromF16(pattern: number): number {
  halfBits[0] = pattern;
  return half[0]!;
}

/** Nearest binary16 bit pattern, ties to even; overflow gives infinity. */
export function toF16(value: number): number {
  half[0] = value;
  return halfBits[0]!;
}

export function fromBf16(pattern: number): number {
  floatBits[0] = pattern << 16;
  return float[0]!;
}

/** Nearest bfloat16 bit pattern of the value rounded to float32, ties to even. */
export function toBf16(value: number): number {
  float[0] = value;
  const pattern = floatBits[0]!;
  if (Number.isNaN(value)) return (pattern >>> 16) | 0x40;
  return ((pattern + 0x7fff + ((pattern >>> 16) & 1)) >>> 16) & 0xffff;
}
