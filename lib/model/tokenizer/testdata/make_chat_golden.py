"""Writes chat_golden.json: token ids of texts with special tokens in them by the Python package tokenizers, conversations
by transformers' own renderer of chat templates, and small tokenizer.model files with ids by SentencePiece.
usage: pip install tokenizers==0.23.3 transformers==5.24.0 sentencepiece==0.2.3, then
       node -e 'import("./mixed_text.mjs").then((m) => process.stdout.write(JSON.stringify([m.mixedText(12_000), m.sampleText()])))' \
         | python3 make_chat_golden.py > chat_golden.json
"""
import base64
import hashlib
import io
import json
import struct
import sys
from importlib.metadata import version

import sentencepiece
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

TEXTS = ["<s>Hi</s>", "a<|im_end|>b <|im_end|> c", "<s> <s></s>\n", "no token: <|im_start|>", "<div<s>hahaha</s> <unk>"]
MESSAGES = [
    [{"role": "user", "content": "How are you?"}],
    [{"role": "user", "content": " Sum: 1 + 1 "}, {"role": "assistant", "content": "2.\n"}, {"role": "user", "content": "\nSure?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "naïve café 🦀"}],
    [{"role": "assistant", "content": "I begin."}],
]
TEMPLATES = {
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
              "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
              "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
               "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
               "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
               "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
               "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
               "{% if loop.index0 == 0 and system_message != false %}"
               "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
               "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
               "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
               "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}"
               "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
               "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
             "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
             "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
             "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "blocks": "{%- for message in messages %}\n    {%- if message.role == 'user' %}\n        {{- '<|user|>\n' ~ message.content }}\n"
              "    {% else %}\n        {{- message.role | upper }}: {{ message.content | trim }}\n    {%- endif %}\n{% endfor %}\n"
              "{%- if add_generation_prompt -%}\n<|assistant|>\n{% endif %}",
}


def render(template, messages):
    try:
        out = render_jinja_template(conversations=[messages], chat_template=template, add_generation_prompt=True,
                                    bos_token="<s>", eos_token="</s>")
        rendered = out[0] if isinstance(out, tuple) else out
        return {"text": rendered[0] if isinstance(rendered, list) else rendered}
    except Exception as error:  # the template's own refusal
        return {"error": str(error)}


def train(text, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=model, model_type="bpe", vocab_size=540, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        user_defined_symbols=["<div", "hahaha"], control_symbols=["<|im_end|>"], minloglevel=2, num_threads=1,
        max_sentence_length=100_000, **options)
    return model.getvalue()


def main():
    mixed, sample = json.load(sys.stdin)
    with open("hf_tokenizer_golden.json") as file:
        cases = json.load(file)["cases"]
    special = {}
    for name, case in cases.items():
        whole = {**case["json"], "post_processor": None}
        encode = Tokenizer.from_str(json.dumps(whole)).encode
        special[name] = [encode(text, add_special_tokens=False).ids for text in TEXTS]
    models = []
    for options in [{}, {"add_dummy_prefix": False}]:
        model = train(mixed, **options)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        # What SentencePiece itself writes for its space is a space to it.
        ids = processor.encode(mixed.replace("▁", "_"))
        models.append({"options": options, "model": base64.b64encode(model).decode(), "count": len(ids),
                       "sha256": hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest(),
                       "sample": processor.encode(sample.replace("▁", "_"))})
    chats = [{"name": name, "template": template, "rendered": [render(template, messages) for messages in MESSAGES]}
             for name, template in TEMPLATES.items()]
    source = ", ".join(f"{name} {version(name)}" for name in ["tokenizers", "transformers", "sentencepiece"])
    json.dump({"source": source, "texts": TEXTS, "special": special, "models": models, "messages": MESSAGES, "chats": chats},
              sys.stdout, ensure_ascii=False, indent=1)
    print()


if __name__ == "__main__":
    main()
