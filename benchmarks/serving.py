"""Photographs per second of `swclip serve`, with and without batches on the model.

    python benchmarks/serving.py GALLERY PHOTO... [--requests N] [--clients N] [--rounds N] [--batch N] [--threads N]

Two services of one gallery run side by side, with batches of up to N and of one; they get requests in turn, never at
the same time. The clients are in this process; each sends one photograph, waits for the answer, and sends the next.
`ratio` is the median over the rounds of photographs per second with batches divided by those without.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from common import new_parser, table_of_figures, write_results

_BATCHES = "swclip_batch_photographs"


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--requests", type=int, default=100, help="per round")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    options = parser.parse_args()

    photographs = [path.read_bytes() for path in options.photographs]
    results: dict[str, list[dict[str, float]]] = {"batched": [], "one by one": []}
    services = {
        "batched": _started(options.gallery, options.threads, options.clients, options.batch),
        "one by one": _started(options.gallery, options.threads, options.clients, 1),
    }
    try:
        for _, address in services.values():
            asyncio.run(_request(address, photographs, options.clients, options.clients))  # lazy initialisation
        for _ in range(options.rounds):
            for name, (_, address) in services.items():
                results[name].append(asyncio.run(_request(address, photographs, options.requests, options.clients)))
        sizes = {name: _mean_batch(address) for name, (_, address) in services.items()}
    finally:
        for process, _ in services.values():
            process.terminate()
            process.communicate(timeout=120)
    pairs = zip(results["batched"], results["one by one"], strict=True)
    report = {
        "requests_a_round": options.requests,
        "clients": options.clients,
        "threads": options.threads,
        "max_batch": options.batch,
        "mean_batch": sizes,
        "per_second": {name: [round(result["per_second"], 2) for result in rounds] for name, rounds in results.items()},
        "median_latency_s": {
            name: round(statistics.median(result["median_s"] for result in rounds), 3)
            for name, rounds in results.items()
        },
        "ratio": round(statistics.median(with_["per_second"] / without["per_second"] for with_, without in pairs), 2),
    }
    write_results(options.out, "serving", report, table_of_figures(report))


def _started(gallery: Path, threads: int, clients: int, max_batch: int) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "swclip", "serve", str(gallery), "--port=0", f"--threads={threads}"]
    command += ["--quiet", f"--max-batch={max_batch}", f"--concurrency={clients}", "--timeout-s=300"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(r"serves at (http://\S+)", line):
            return process, match[1]
    raise SystemExit(f"the service ended with {process.wait()}")


async def _request(address: str, photographs: Sequence[bytes], requests: int, clients: int) -> dict[str, float]:
    left, took = iter(range(requests)), []

    async def send(client: httpx.AsyncClient) -> None:
        for number in left:
            began = time.perf_counter()
            files = [("photographs", ("a.jpg", photographs[number % len(photographs)]))]
            (await client.post("/v2/locate", files=files)).raise_for_status()
            took.append(time.perf_counter() - began)

    async with httpx.AsyncClient(base_url=address, timeout=300, trust_env=False) as client:
        began = time.perf_counter()
        await asyncio.gather(*(send(client) for _ in range(clients)))
        return {"per_second": requests / (time.perf_counter() - began), "median_s": statistics.median(took)}


def _mean_batch(address: str) -> float:
    lines = httpx.get(f"{address}/metrics", trust_env=False).text.splitlines()
    total, batches = (
        float(next(line for line in lines if line.startswith(f"{_BATCHES}_{kind} ")).split()[1])
        for kind in ("sum", "count")
    )
    return round(total / batches, 2)


if __name__ == "__main__":
    main()
