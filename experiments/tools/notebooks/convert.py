"""Converts an executed notebook to one HTML page that needs no network.

usage: python convert.py NOTEBOOK.ipynb PAGE.html [--head FILE]

The page follows the reader's light or dark setting. FILE is put into the page's head as it stands (plotly, once).
"""

import argparse
import os
import pathlib

import nbformat
from nbconvert import HTMLExporter

HERE = pathlib.Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("notebook")
    parser.add_argument("page")
    parser.add_argument("--head")
    args = parser.parse_args()
    exporter = HTMLExporter(template_name="template", extra_template_basedirs=[str(HERE)])
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    notebook = nbformat.read(args.notebook, 4)
    head = pathlib.Path(args.head).read_text("utf-8") if args.head else ""
    name = pathlib.Path(args.notebook).stem
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": name}, "tokenfilter_head": head})
    part = args.page + ".part"
    pathlib.Path(part).write_text(body, "utf-8")
    os.replace(part, args.page)


if __name__ == "__main__":
    main()
