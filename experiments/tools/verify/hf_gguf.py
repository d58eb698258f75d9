"""A GGUF file's tokenizer and model by Hugging Face transformers, for the scripts that compare with it."""
import os

import torch
from gguf import GGUFReader
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(path):
    """Dequantised to float32. Transformers 5.24.0 takes no notice of tokenizer.ggml.pre: "smollm" splits digits first."""
    folder, file = os.path.split(os.path.abspath(path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    pre = GGUFReader(path).fields.get("tokenizer.ggml.pre")
    if pre is not None and pre.contents() == "smollm":
        split = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(split)
    return tokenizer, AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
