"""Time and memory of `swclip fetch` against the number of photographs, with the stand-in on the same machine.

    python benchmarks/fetch.py --download 1000 4000 --catalogue 1000 10000 100000 --work fetch-benchmark

Server and client are processes of their own. `--download` fetches so many small pictures (0.6 kB, other bytes each)
over HTTP, with 8 connections and no pacing. `--catalogue` is everything else, for more photographs than can be
downloaded in minutes: the search over HTTP and the plan, then the manifest, with each photograph entered as downloaded.
Memory is the largest resident set of the client, beside that of its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import new_parser, say, write_table

from swclip.connectors.area import requested_area
from swclip.connectors.catalogue import CATALOGUE_NAME, Catalogue
from swclip.connectors.dataset import Description, write_fetched
from swclip.connectors.fetch import Politeness, fetch
from swclip.connectors.panoramax import Panoramax
from swclip.connectors.stand_in import StandIn
from swclip.connectors.stand_in_shapes import Photographs
from swclip.geo.boxes import Box

AREA = Box(53.73, -1.7, 53.85, -1.4)


def serve(count: int) -> None:
    """Serve so many photographs until the standard input ends."""
    with StandIn(Photographs.generated(count, AREA)) as server:
        print(server.address, flush=True)
        sys.stdin.read()


def client(step: str, address: str, out: Path) -> None:
    """One step in this process; print its figures as JSON."""
    area = requested_area(bbox=",".join(map(str, AREA.bbox)))
    before_mb, begun, busy = _peak_mb(), time.perf_counter(), time.process_time()
    if step == "manifest":
        with Catalogue(out / CATALOGUE_NAME) as catalogue:
            result = {"file": "images/00/a.jpg", "size": 600, "sha256": "0" * 64}
            for item in catalogue.to_download():
                catalogue.outcome(item.id, "done", None, None, result)
            entered = time.perf_counter()
            write_fetched(catalogue, out, Panoramax, Description(), {}, max_pixels=100_000_000)
            begun += entered - begun  # entering them is not a part of fetch
    else:
        polite = Politeness(per_second=0.0)
        fetch("panoramax", area, out, endpoint=address, politeness=polite, dry_run=step == "search")
    figures = {
        "seconds": time.perf_counter() - begun,
        "processor seconds": time.process_time() - busy,
        "memory of imports, MB": before_mb,
        "peak memory, MB": _peak_mb(),
    }
    print(json.dumps(figures))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000.0


def measure(step: str, count: int, out: Path) -> dict[str, Any]:
    """Run one step against a server of so many photographs."""
    command = [sys.executable, __file__]
    serving = [*command, "--serve", str(count)]
    with subprocess.Popen(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        done = subprocess.run(
            [*command, "--client", step, address, str(out)], stdout=subprocess.PIPE, text=True, check=True
        )
        assert server.stdin is not None
        server.stdin.close()
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"step": step, "photographs": count, "a second": count / figures["seconds"], **figures}


def main() -> None:
    """Measure and print a table."""
    parser = new_parser(__doc__)
    parser.add_argument("--download", type=int, nargs="*", default=[1000, 4000])
    parser.add_argument("--catalogue", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--work", type=Path, default=Path("fetch-benchmark"))
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    if options.client is not None:
        client(options.client[0], options.client[1], Path(options.client[2]))
        return
    rows = []
    for count in options.catalogue:
        for step in ("search", "manifest"):
            rows.append(measure(step, count, options.work / f"catalogue-{count}"))
            say(json.dumps(rows[-1]))
    for count in options.download:
        rows.append(measure("download", count, options.work / f"download-{count}"))
        say(json.dumps(rows[-1]))
    columns = list(rows[0])
    write_table(options.out, "fetch", columns, [[_shown(row[name]) for name in columns] for row in rows])


def _shown(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
