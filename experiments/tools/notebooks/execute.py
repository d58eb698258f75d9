"""Executes a notebook with the Deno kernel, some times over, and loses no output.

usage: python execute.py NOTEBOOK OUT_DIR --folder DIR --deno PATH [--repeat N] [--timeout SECONDS]

Writes OUT_DIR/1.ipynb, OUT_DIR/2.ipynb, ... one a run, each with a fresh kernel, and one JSON object a line on stdout:
  {"event": "cell", "run": 1, "cell": 3, "cells": 17}         before a code cell runs; "cell" is its index in the file
  {"event": "run", "run": 1, "seconds": 4.2}                  after a run, kernel start included
  {"event": "error", "run": 1, "cell": 3, "message": "..."}   a cell or the kernel failed: the last line, exit status 1
The kernel, that of the program PATH, runs in DIR.
"""

import argparse
import json
import os
import re
import sys
import time

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete, CellExecutionError, CellTimeoutError, DeadKernelError

# The Deno kernel sends some outputs after it has said that it is idle. Reading goes on until it has been still for:
QUIET_SECONDS = 0.05
# A cell that must give output is waited for longer, while it has given none:
PATIENCE_SECONDS = 2.0


class DenoManager(AsyncKernelManager):
    """Starts the Deno kernel of one program, whatever kernels are installed."""

    deno = "deno"

    @property
    def kernel_spec(self):
        argv = [self.deno, "jupyter", "--kernel", "--conn", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Deno", language="typescript")


class PatientClient(NotebookClient):
    """Reads on after "idle"."""

    async def _async_poll_output_msg(self, parent_msg_id, cell, cell_index):
        quiet = "quiet" in cell.metadata.get("tags", [])
        idle_since = None
        while True:
            try:
                message = await ensure_async(
                    self.kc.iopub_channel.get_msg(timeout=None if idle_since is None else QUIET_SECONDS)
                )
            except Exception:  # queue.Empty, raised in more than one form
                if idle_since is None:
                    raise
                if cell.outputs or quiet or time.monotonic() - idle_since > PATIENCE_SECONDS:
                    return
                continue
            if message["parent_header"].get("msg_id") != parent_msg_id:
                continue
            try:
                self.process_message(message, cell, cell_index)
            except CellExecutionComplete:
                idle_since = time.monotonic()


def say(**event):
    print(json.dumps(event), flush=True)


def plain(text):
    """A message without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


def explain(error):
    if isinstance(error, CellExecutionError):
        return plain(f"{error.ename}: {error.evalue}" if error.ename else str(error))
    if isinstance(error, CellTimeoutError):
        return "the cell ran past its time"
    if isinstance(error, DeadKernelError):
        return "the kernel died"
    return plain(f"{type(error).__name__}: {error}")


def execute(path, folder, run, timeout):
    """Runs every cell; the executed notebook, or an exception that names the cell in `at`."""
    notebook = nbformat.read(path, 4)
    at = None

    def on_cell(cell, cell_index):
        nonlocal at
        at = cell_index
        say(event="cell", run=run, cell=cell_index, cells=len(notebook.cells))

    client = PatientClient(
        notebook,
        kernel_manager_class=DenoManager,
        timeout=timeout,
        startup_timeout=60,
        record_timing=False,
        coalesce_streams=True,
        on_cell_execute=on_cell,
        resources={"metadata": {"path": folder}},
    )
    try:
        client.execute()
    except Exception as error:
        error.at = at
        raise
    return notebook


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("notebook")
    parser.add_argument("out")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--deno", required=True)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=300)
    args = parser.parse_args()
    DenoManager.deno = args.deno
    for run in range(1, args.repeat + 1):
        began = time.monotonic()
        try:
            notebook = execute(args.notebook, args.folder, run, args.timeout)
        except Exception as error:
            say(event="error", run=run, cell=getattr(error, "at", None), message=explain(error))
            sys.exit(1)
        nbformat.write(notebook, os.path.join(args.out, f"{run}.ipynb"))
        say(event="run", run=run, seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
