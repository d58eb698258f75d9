"""Writes tool_chat_golden.json anew: the text that Python's jinja2 makes of its template, messages and tools.

    pip install jinja2==3.1.6 && python3 make_tool_chat_golden.py

Settings and the filter tojson are those of transformers' chat templates. The template has the parts of Qwen2.5's.
"""

import json
import pathlib

from jinja2.sandbox import ImmutableSandboxedEnvironment

path = pathlib.Path(__file__).with_name("tool_chat_golden.json")
golden = json.loads(path.read_text())
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
values = {name: golden[name] for name in ["messages", "tools"]}
golden["text"] = environment.from_string(golden["template"]).render(add_generation_prompt=True, **values)
path.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
