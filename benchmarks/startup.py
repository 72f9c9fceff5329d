"""Processor time of cold commands, beside those of another version of the source.

    python benchmarks/startup.py GALLERY PHOTOGRAPH --manifest MANIFEST --before OTHER/src --out results/startup

Each command runs `--runs` times in a process of its own, in turn with the same command of the other source. Times are
the least user and system time of the process: on a busy machine only ratios within one run can be compared, and so a
process that only imports torch is timed too. Writes startup.json and startup.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import command_line, markdown, say, write_text

from swclip.files import write_json


def main() -> None:
    """Time the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True, help="folder that has another version of the package")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    now = Path(__file__).parents[1] / "src"
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "swclip --help": ["-m", "swclip", "--help"],
            "swclip locate --help": ["-m", "swclip", "locate", "--help"],
            "swclip doctor": ["-m", "swclip", "doctor"],
            "swclip gallery info": ["-m", "swclip", "gallery", "info", str(options.gallery)],
            "swclip split": [
                *("-m", "swclip", "split", str(options.manifest), "--protocol", "known-places"),
                *("--out", f"{folder}/splits.parquet"),
            ],
            "swclip locate, one photograph": ["-m", "swclip", "locate", str(options.gallery), str(options.photograph)],
            "import torch": ["-c", "import torch"],
        }
        times: dict[str, dict[str, list[float]]] = {name: {"before": [], "now": []} for name in commands}
        for run in range(options.runs):
            for name, arguments in commands.items():
                say(f"run {run + 1} of {options.runs}: {name}")
                for version, source in (("before", options.before), ("now", now)):
                    times[name][version].append(processor_s(arguments, source))
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "startup.json", {"command": command_line(), "processor_s": times})
    rows = [
        (name, f"{min(both['before']):.2f}", f"{min(both['now']):.2f}", f"{min(both['before']) / min(both['now']):.1f}")
        for name, both in times.items()
    ]
    write_text(options.out / "startup.md", markdown(("seconds of a processor", "before", "now", "ratio"), rows))


def processor_s(arguments: list[str], source: Path) -> float:
    """User and system time of a Python process, with the package in `source`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "doctor" not in arguments:  # which fails where the machine has a fault
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
