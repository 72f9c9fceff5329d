"""Runs `swclip ...` in forked processes, which need not import everything again, and kills them when told to.

Reads lines of JSON, {"arguments": [...], "kill_after_s": seconds or null}; answers each with {"code", "took_s"}, where
the code of a killed one is -9.
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
    """Run what is asked until nothing more is."""
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if not child:
            os.dup2(2, 1)  # the answers to this script's caller are the parent's to write
            code = run(asked["arguments"])
            sys.stdout.flush()
            os._exit(code)
        if asked["kill_after_s"] is not None:
            time.sleep(asked["kill_after_s"])
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "took_s": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
