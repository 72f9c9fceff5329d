"""What was evaluated and how, as texts of a page: data, split, command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from swclip.evaluation.report import Report


def setting_text(report: Report) -> str:
    """The line above a page's title: number of queries, size of the gallery, split protocol."""
    meta = report.made_with.get("splits", {})
    protocol = f", {protocol_words(meta['protocol'])}" if isinstance(meta, Mapping) and meta.get("protocol") else ""
    kind = "validation queries" if report.on == "val" else "queries"
    size = report.gallery_size
    gallery = "gallery not known" if size is None else f"{round(size):,} candidates"
    queries = f"{report.n_queries:,} {kind}"
    if report.n_unanswered:
        queries += f" answered, {report.n_unanswered:,} unanswered"
    return f"{queries}, {gallery}{protocol}"


def protocol_words(protocol: str) -> str:
    """The name of a split protocol as words.

    Example:
        >>> protocol_words("known-places")
        'known places'
    """
    return protocol.replace("-", " ")


def provenance_rows(report: Report) -> list[tuple[str, str]]:
    """How the figures were computed, in few names and texts, without the paths of this machine.

    Every setting is in `made_with` of report.json.
    """
    made, intervals = report.made_with, report.intervals
    splits, run = (value if isinstance(value, Mapping) else {} for value in (made.get("splits"), made.get("run")))
    system = f"{run['system']}, seed {run['seed']}" if {"system", "seed"} <= set(run) else None
    seeds = made.get("seeds")
    rows = {
        "command": None if made.get("command") is None else without_folders(str(made["command"])),
        "swclip": made.get("swclip"),
        "split": _split_text(splits),
        "run": system,
        "seeds of training": ", ".join(map(str, seeds)) if isinstance(seeds, list) else None,
        "true positions": None if report.truth is None else f"{report.truth.position} ({report.truth.columns})",
        "estimator": report.estimator,
        "intervals": f"{100 * intervals.level:.0f} %, {intervals.resamples:,} resamples of {intervals.blocks:,} "
        f"blocks ({intervals.block})",
    }
    return [(name, str(value)) for name, value in rows.items() if value]


def _split_text(splits: Mapping[str, Any]) -> str:
    parts = [protocol_words(str(splits["protocol"]))] if splits.get("protocol") else []
    return ", ".join([*parts, *([f"seed {splits['seed']}"] if splits.get("seed") is not None else [])])


_FOLDERS = re.compile(r"(?<![^\s'\"=])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"]*[/\\])?(?=[^\s'\"/\\])")


def without_folders(command: str) -> str:
    """A command line in which absolute paths are shortened to their last name.

    Example:
        >>> without_folders("swclip evaluate /home/ada/runs/first --out=/tmp/report --splits splits/new.parquet")
        'swclip evaluate first --out=report --splits splits/new.parquet'
    """
    return _FOLDERS.sub("", command)
