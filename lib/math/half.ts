/** 16-bit floats: f16 (IEEE binary16) and bf16 (the upper half of a float32), to numbers and back. */

const double = new Float64Array(1);
const doubleBits = new Uint32Array(double.buffer);
const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

export function fromF16(pattern: number): number {
  floatBits[0] = (pattern & 0x7fff) << 13; // the value over 2^112
  const isFinite = (pattern & 0x7c00) !== 0x7c00;
  const magnitude = isFinite ? float[0]! * 2 ** 112 : (pattern & 0x3ff) === 0 ? Infinity : NaN;
  return pattern & 0x8000 ? -magnitude : magnitude;
}

/** Nearest binary16 bit pattern, ties to even; overflow gives infinity. */
export function toF16(value: number): number {
  double[0] = value;
  const sign = doubleBits[1]! >>> 16 & 0x8000, magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  const exponent = Math.max(-14, (doubleBits[1]! >>> 20 & 0x7ff) - 1023);
  const steps = magnitude * 2 ** (10 - exponent) + 2 ** 52 - 2 ** 52; // the sum rounds to a whole number
  return sign | ((exponent + 14) * 1024 + steps);
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
