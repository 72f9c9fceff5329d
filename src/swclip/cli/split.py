"""`swclip split`: a manifest into training, validation and queries, with the candidates and a leakage report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def split(
    manifest: Path,
    /,
    *,
    protocol: Literal["known-places", "new-streets", "new-city"],
    out: Path,
    block_m: float = 100.0,
    buffer_m: float = 20.0,
    query_share: float = 0.2,
    val_share: float = 0.1,
    seed: int = 0,
    hold_out: Literal["auto", "capture", "place"] = "auto",
    gallery: str = "auto",
    city: str | None = None,
    all_cities: Annotated[bool, Parameter(negative="")] = False,
    picture_hash: Annotated[bool, Parameter(negative="--no-picture-hash")] = True,
    near_duplicate_bits: int = 6,
) -> None:
    """Split a manifest into training, validation and queries.

    Writes FILE, the candidates of an answer beside it (FILE.candidates.parquet) and what queries and training share
    (FILE.leakage.json), and prints the leakage report. With --all-cities it writes a file a city into a folder, which
    `swclip benchmark --splits FOLDER` takes as it is.

    Args:
        manifest: What `swclip prepare` or `swclip synth` wrote: the folder or its manifest.parquet.
        protocol: known-places: training has seen the area of each query. new-streets: whole blocks are left out, with
            a buffer round them. new-city: a whole city is left out.
        out: The Parquet file to write, or a folder for splits.parquet.
        block_m: Side of the square blocks, metres.
        buffer_m: Photographs this near to a query are kept out of training (new-streets, new-city), metres.
        query_share: Share of the places, captures or blocks whose photographs become queries.
        val_share: Share of the remaining ones whose photographs become validation queries; 0 for none.
        seed: Seed of the draw.
        hold_out: What known-places holds out: a place with all its photographs, or a capture (one sequence's
            photographs of a place) while another capture of the place stays in training. auto: capture where at
            least half of the places have several.
        gallery: The candidates of an answer. photographs: the positions of the training side with its photographs.
            positions: every position, no photograph. grid:SPACING_M: a grid over each city, which gives nothing of
            the queries away. auto: photographs for known-places, else positions.
        city: The city that new-city leaves out; drawn by the seed if not given.
        all_cities: Leave out each city in turn (new-city): one splits file a city, in the folder that --out names.
        picture_hash: Compare the pictures for the leakage report; --no-picture-hash reads no picture.
        near_duplicate_bits: Pictures whose perceptual hashes differ in at most this many of 64 bits are
            near-duplicates.
    """
    from swclip.api import photographs as api
    from swclip.cli.console import console
    from swclip.errors import ConfigError

    options: dict[str, Any] = {
        "block_m": block_m, "buffer_m": buffer_m, "query_share": query_share, "val_share": val_share, "seed": seed,
        "hold_out": hold_out, "gallery": gallery, "picture_hash": picture_hash,
        "near_duplicate_bits": near_duplicate_bits, "progress": True,
    }  # fmt: skip
    if not all_cities:
        made = [api.split(manifest, protocol, out, city=city, **options)]
    elif protocol != "new-city" or city is not None:
        raise ConfigError("--all-cities leaves out each city in turn: it goes with new-city, and not with --city.")
    else:
        made = api.split_each_city(manifest, out, **options)
    for splits in made:
        for note in splits.meta["notes"]:
            console.print(note)
        _show(splits.leakage or {}, splits.path.stem if all_cities else None)
        print(splits.path)


def _show(report: dict[str, Any], name: str | None = None) -> None:
    from swclip.cli.console import console, print_table

    counts = report["counts"]
    print_table(
        f"Splits ({report['protocol']}{f', {name}' if name else ''}, seed {report['seed']})",
        ["", "photographs"],
        [[name, f"{number:,}"] for name, number in counts.items()]
        + [["candidates of the queries", f"{report['query']['candidates']['n']:,}"]],
    )
    columns = [report["query"], report["val"]]
    print_table(
        "Leakage: what they share with the training side",
        ["", "queries", "validation"],
        [[label, *(cell(part) for part in columns)] for label, cell in _ROWS],
    )
    if skipped := report["pictures"].get("skipped"):
        console.print(f"Near-duplicates: {skipped}.")
    if unreadable := report["pictures"].get("unreadable"):
        first = unreadable[0]
        console.print(
            f"{len(unreadable)} pictures could not be read and were not compared; the first: {first['image_id']}, "
            f"{first['reason']} All are listed in the report."
        )
    for sentence in report["warnings"]:
        console.print(f"Warning: {sentence}")


def _metres(part: dict[str, Any], group: str, key: str) -> str:
    return "-" if part[group] is None else f"{part[group][key]:,.1f} m"


def _share(value: dict[str, Any] | None, n: int) -> str:
    if value is None:
        return "-"
    count = value.get("count", 0)
    return f"{count:,} ({count / n:.1%})" if n else "0"


def _groups(value: dict[str, Any], n: int) -> str:
    if n and value["unknown"] == n:
        return "unknown"
    return f"{value['count']:,} ({value['share']:.1%} of the photographs)"


def _pictures(part: dict[str, Any], key: str) -> str:
    return "-" if part[key] is None else _share(part[key]["queries"], part["n"])


_ROWS: list[tuple[str, Any]] = [
    ("photographs asked", lambda part: f"{part['n']:,}"),
    ("training side", lambda part: f"{part['n_training']:,}"),
    ("nearest training photograph, least", lambda part: _metres(part, "nearest_training_m", "min")),
    ("  5 %", lambda part: _metres(part, "nearest_training_m", "p5")),
    ("  median", lambda part: _metres(part, "nearest_training_m", "median")),
    ("  95 %", lambda part: _metres(part, "nearest_training_m", "p95")),
    *(
        (f"  within {limit} m", lambda part, limit=limit: _share((part["within_m"] or {}).get(limit), part["n"]))
        for limit in ("5", "10", "25", "50")
    ),
    ("places in common", lambda part: _groups(part["shared_places"], part["n"])),
    ("sequences in common", lambda part: _groups(part["shared_sequences"], part["n"])),
    ("near-duplicate picture in training", lambda part: _pictures(part, "near_duplicates")),
    ("the same file in training", lambda part: _pictures(part, "exact_duplicates")),
    ("a candidate within 25 m", lambda part: _share(part["candidates"]["within_25m"], part["n"])),
    ("nearest candidate (floor), median", lambda part: _metres(part["candidates"], "nearest_m", "median")),
    ("  95 %", lambda part: _metres(part["candidates"], "nearest_m", "p95")),
]
