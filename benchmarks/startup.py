"""Processor time of cold commands, beside those of another version of the source.

    python benchmarks/startup.py GALLERY PHOTOGRAPH --manifest MANIFEST --before OTHER/src --out results/startup

Each command runs `--runs` times in a process of its own, in turn with the same command of the other source. The sources
are compiled before, as pip does. Times are the least user and system time of the process: on a busy machine only ratios
within one run can be compared, and so a process that only imports torch is timed too. Writes startup.json and
startup.md.
"""

from __future__ import annotations

import compileall
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import markdown, new_parser, say, write_results


def main() -> None:
    """Time the commands."""
    parser = new_parser(__doc__, out_required=True)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="folder that has another version of the package")
    parser.add_argument("--only", nargs="+", metavar="COMMAND", help="the commands to time; all by default")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    now = Path(__file__).parents[1] / "src"
    for source in (now, *([options.before] if options.before else [])):
        compileall.compile_dir(source, quiet=1)
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
        commands = {name: words for name, words in commands.items() if name in (options.only or commands)}
        times: dict[str, dict[str, list[float]]] = {name: {} for name in commands}
        for run in range(options.runs):
            for name, arguments in commands.items():
                say(f"run {run + 1} of {options.runs}: {name}")
                for version, source in (("before", options.before), ("now", now)):
                    if source is not None:
                        times[name].setdefault(version, []).append(processor_s(arguments, source))
    rows = [
        (name, *(f"{min(part[version]):.2f}" if version in part else "-" for version in ("before", "now")))
        for name, part in times.items()
    ]
    table = markdown(("seconds of a processor", "before", "now"), rows)
    write_results(options.out, "startup", {"processor_s": times}, table)


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
