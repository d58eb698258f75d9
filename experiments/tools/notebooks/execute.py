"""Executes a notebook with the Deno kernel, and loses no output.

usage: python execute.py NOTEBOOK OUT --folder DIR --deno PATH [--timeout SECONDS]

Writes one JSON object a line on stdout:
  {"cell": 3}                    before a code cell runs: its index in the file
  {"cell": 3, "error": "..."}    a cell or the kernel (null) failed: the last line, exit status 1
The kernel, that of the program PATH, runs in DIR.
"""

import argparse
import json
import re
import sys
import time

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete, CellExecutionError, CellTimeoutError, DeadKernelError

# The Deno kernel sends some outputs after it has reported that it is idle. Reading goes on until it was silent for:
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


def explain(error):
    """The message of an error in one text without colours."""
    if isinstance(error, CellTimeoutError):
        return "the cell ran past its time"
    if isinstance(error, DeadKernelError):
        return "the kernel died"
    if isinstance(error, CellExecutionError) and error.ename:
        text = f"{error.ename}: {error.evalue}"
    else:
        text = str(error) if isinstance(error, CellExecutionError) else f"{type(error).__name__}: {error}"
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("notebook")
    parser.add_argument("out")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--deno", required=True)
    parser.add_argument("--timeout", type=int, default=300)
    args = parser.parse_args()
    DenoManager.deno = args.deno
    notebook = nbformat.read(args.notebook, 4)
    at = None

    def on_cell(cell, cell_index):
        nonlocal at
        at = cell_index
        print(json.dumps({"cell": at}), flush=True)

    client = PatientClient(
        notebook,
        kernel_manager_class=DenoManager,
        timeout=args.timeout,
        startup_timeout=60,
        record_timing=False,
        coalesce_streams=True,
        on_cell_execute=on_cell,
        resources={"metadata": {"path": args.folder}},
    )
    try:
        client.execute()
    except Exception as error:
        print(json.dumps({"cell": at, "error": explain(error)}), flush=True)
        sys.exit(1)
    nbformat.write(notebook, args.out)


if __name__ == "__main__":
    main()
