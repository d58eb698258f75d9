"""Writes a GGUF of a large model's true shape with random q4_0 weights: for speed and memory, not for sense.

usage: python3 make_shape.py llama-2-7b|llama-3-8b|mistral-7b OUT.gguf [--layers N] [--seed 1]
       (needs gguf and numpy; 3.8 to 4.5 GB, one tensor at a time; fewer layers with --layers)

All matrices are q4_0, the output's too; norms are ones. Values have the spread of a trained model's, mean 0. The
vocabulary is the family's in kind and size: bytes, and words that no text has.
"""
import argparse

import gguf
import numpy as np

# hidden, MLP, layers, heads, KV heads, vocabulary, rotary base, context, how text becomes ids
SHAPES = {
    "llama-2-7b": (4096, 11008, 32, 32, 32, 32000, 1e4, 4096, "llama"),
    "llama-3-8b": (4096, 14336, 32, 32, 8, 128256, 5e5, 8192, "gpt2"),
    "mistral-7b": (4096, 14336, 32, 32, 8, 32768, 1e6, 32768, "llama"),
}
Q4_0 = gguf.GGMLQuantizationType.Q4_0


def write_vocabulary(writer, kind, size):
    """Of SentencePiece: <unk> <s> </s>, the bytes, words; byte-level: the bytes' characters, words, two special tokens."""
    writer.add_tokenizer_model(kind)
    if kind == "llama":
        tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
        types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
        bos = 1
    else:
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printable]
        tokens = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))] + ["th"]
        types = [gguf.TokenType.NORMAL] * len(tokens)
        bos = size - 2
    words = size - len(tokens) - (2 if kind == "gpt2" else 0)
    tokens += [f"\u2581\u2581w{i}" if kind == "llama" else f"\u0120\u0120w{i}" for i in range(words)]
    types += [gguf.TokenType.NORMAL] * words
    if kind == "gpt2":
        tokens += ["<|begin_of_text|>", "<|end_of_text|>"]
        types += [gguf.TokenType.CONTROL] * 2
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_merges(["t h"])
    else:
        writer.add_token_scores([-float(i) for i in range(size)])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(bos + 1)


def random_q4_0(random, rows, columns):
    """Blocks of 32: a scale as float16, of either sign so that values have mean 0, and 16 bytes of nibbles."""
    blocks = random.integers(0, 256, (rows, columns // 32, 18), np.uint8)
    scale = np.float16(1 / (4.6 * columns ** 0.5))
    signs = np.where(blocks[..., :1] & 1, scale, -scale).astype("<f2")
    blocks[..., :2] = signs.view(np.uint8)
    return blocks.reshape(rows, -1)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("shape", choices=SHAPES)
    a.add_argument("out")
    a.add_argument("--layers", type=int)
    a.add_argument("--seed", type=int, default=1)
    a = a.parse_args()
    hidden, mlp, layers, heads, kv_heads, vocab, base, context, kind = SHAPES[a.shape]
    layers = a.layers or layers
    head = hidden // heads
    writer = gguf.GGUFWriter(a.out, "llama")
    writer.add_name(f"{a.shape}, {layers} layers, random")
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(mlp)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    write_vocabulary(writer, kind, vocab)
    tensors = [("token_embd", vocab, hidden)]
    for layer in range(layers):
        tensors += [(f"blk.{layer}.{name}", *shape) for name, shape in {
            "attn_norm": (hidden,), "attn_q": (hidden, hidden), "attn_k": (kv_heads * head, hidden),
            "attn_v": (kv_heads * head, hidden), "attn_output": (hidden, hidden), "ffn_norm": (hidden,),
            "ffn_gate": (mlp, hidden), "ffn_up": (mlp, hidden), "ffn_down": (hidden, mlp)}.items()]
    tensors += [("output_norm", hidden), ("output", vocab, hidden)]
    for name, *shape in tensors:
        if len(shape) == 1:
            writer.add_tensor_info(f"{name}.weight", shape, np.dtype(np.float32), 4 * shape[0])
        else:
            stored = [shape[0], shape[1] // 32 * 18]
            writer.add_tensor_info(f"{name}.weight", stored, np.dtype(np.uint8), stored[0] * stored[1], raw_dtype=Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(a.seed)
    for name, *shape in tensors:
        writer.write_tensor_data(np.ones(shape, np.float32) if len(shape) == 1 else random_q4_0(random, *shape))
    writer.close()


if __name__ == "__main__":
    main()
