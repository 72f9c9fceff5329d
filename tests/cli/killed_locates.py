"""Runs `swclip ...` in forked processes, which need not import everything again, and kills them on request.

Reads JSON lines, {"arguments": [...], "kill_after_s": seconds or null}, and answers each with {"code", "took_s"}; the
code of a killed process is -9.
"""

import json
import os
import signal
import sys
import time

import torch  # noqa: F401
import transformers  # noqa: F401

import swclip.answers.table
import swclip.cli.locate
import swclip.cli.locate_run
import swclip.models.locator_model
import swclip.retrieval.locator  # noqa: F401
from swclip.cli.app import run


def main() -> None:
    """Run the requested commands until the end of the input."""
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if not child:
            os.dup2(2, 1)  # only the parent writes to standard output
            code = run(request["arguments"])
            sys.stdout.flush()
            os._exit(code)
        if request["kill_after_s"] is not None:
            time.sleep(request["kill_after_s"])
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "took_s": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
