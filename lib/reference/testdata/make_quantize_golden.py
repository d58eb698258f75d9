"""Writes quantize_golden.json: float32 values, and their bytes in each type by ggml's Python package.
usage: pip install gguf==0.19.0 numpy, then python3 make_quantize_golden.py > quantize_golden.json"""
import base64, json
import numpy as np
from gguf import GGMLQuantizationType as Type, quants

TYPES = dict(bf16=Type.BF16, f16=Type.F16, q8_0=Type.Q8_0, q4_0=Type.Q4_0)

rng = np.random.default_rng(12)
ramp = np.arange(32, dtype='<f4') - 16
blocks = [rng.standard_normal(32) * scale for scale in [1, 0.02, 0.02, 30, 1e-6, 1e-9, 1e-36, 6e4]] + [
    np.zeros(32),
    ramp / 2, ramp * 127 / 16, np.where(ramp == 3, 127, ramp / 2),  # halves, to be rounded away from zero
    np.where(ramp < 0, -7, 7), np.where(ramp < 0, 7, -7),  # the farthest twice: the first one's sign counts
    np.where(ramp == 0, 1, 0.4375 * ramp / 16)]  # quotients that end in .5
values = np.clip(np.concatenate(blocks), -65504, 65504).astype('<f4')
text = lambda a: base64.b64encode(a.tobytes()).decode()
out = {'source': 'Python package gguf 0.19.0, gguf.quants.quantize; base64 of float32 values, and of bytes', 'values': text(values)}
for name, kind in TYPES.items():
    out[name] = text(quants.quantize(values, kind))
print(json.dumps(out, indent=1))
