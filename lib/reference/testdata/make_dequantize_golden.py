"""Writes dequantize_golden.json: random blocks of every quantised type, and their values by ggml's Python package.
usage: pip install gguf==0.19.0 numpy, then python3 make_dequantize_golden.py > dequantize_golden.json"""
import base64, json
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, quants

TYPES = dict(q4_0=Type.Q4_0, q4_1=Type.Q4_1, q5_0=Type.Q5_0, q5_1=Type.Q5_1, q8_0=Type.Q8_0, q4_k=Type.Q4_K, q6_k=Type.Q6_K,
             q2_k=Type.Q2_K, q3_k=Type.Q3_K, q5_k=Type.Q5_K, iq4_nl=Type.IQ4_NL, iq4_xs=Type.IQ4_XS, mxfp4=Type.MXFP4)
SCALES_AT = dict(q4_0=[0], q4_1=[0, 2], q5_0=[0], q5_1=[0, 2], q8_0=[0], q4_k=[0, 2], q6_k=[208],
                 q2_k=[80, 82], q3_k=[108], q5_k=[0, 2], iq4_nl=[0], iq4_xs=[0], mxfp4=[])  # f16 scales in a block
SCALES = [1.0, -0.0371, 6e-8, 65504.0, -3.14]  # a subnormal and the largest f16 among them

rng = np.random.default_rng(2)
text = lambda a: base64.b64encode(a.tobytes()).decode()
out = {'source': 'Python package gguf 0.19.0, gguf.quants.dequantize; base64 of bytes, and of float32 values'}
for name, kind in TYPES.items():
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = 512 // block_size
    data = rng.integers(0, 256, (blocks, block_bytes), dtype=np.uint8)
    for b in range(blocks):
        for i, at in enumerate(SCALES_AT[name]):
            data[b, at:at + 2] = np.array([SCALES[(b + i) % len(SCALES)]], '<f2').view(np.uint8)
    if name == 'mxfp4':
        data[:, 0] = np.resize([128, 104, 143, 127, 120], blocks)  # exponents that a float16 holds
    out[name] = {'bytes': text(data), 'values': text(quants.dequantize(data.reshape(-1), kind).astype('<f4'))}
print(json.dumps(out, indent=1))
