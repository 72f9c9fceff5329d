"""`swclip split`: split a manifest, with the candidates of the answers and a leakage report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from swclip.cli.help import ADVANCED, off


def split(
    manifest: Path,
    /,
    *,
    protocol: Literal["known-places", "new-streets", "new-city", "published"],
    out: Path,
    city: str | None = None,
    all_cities: bool = False,
    seed: int = 0,
    table: bool = False,
    picture_hash: Annotated[bool, off("--no-picture-hash")] = True,
    query_share: Annotated[float, ADVANCED] = 0.2,
    val_share: Annotated[float, ADVANCED] = 0.1,
    block_m: Annotated[float, ADVANCED] = 100.0,
    buffer_m: Annotated[float, ADVANCED] = 20.0,
    hold_out: Annotated[Literal["auto", "capture", "place"], ADVANCED] = "auto",
    gallery: Annotated[str, ADVANCED] = "auto",
    near_duplicate_bits: Annotated[int, ADVANCED] = 6,
) -> None:
    """Split a manifest into training photographs and queries.

    Writes FILE, the candidates of the answers (FILE.candidates.parquet) and a report on what queries and training data
    share (FILE.leakage.json), and prints a summary of it. With --all-cities it writes one file per city to a folder,
    for `swclip benchmark --splits FOLDER`.

    Args:
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote: the folder or its manifest.parquet.
        protocol: known-places: the area of each query was seen in training. new-streets: whole blocks are held out,
            with a buffer around them. new-city: a whole city is held out. published: the splits that the data set has
            of its own (`swclip prepare --layout`).
        out: The Parquet file to write, or a folder for splits.parquet.
        block_m: Side of the square blocks in metres.
        buffer_m: Photographs within this distance of a query are excluded from training (new-streets, new-city), in
            metres.
        query_share: Share of the places, captures or blocks whose photographs become queries.
        val_share: Share of the remaining ones whose photographs become validation queries; 0 for none.
        seed: Seed of the random split.
        hold_out: What known-places holds out. place: places with all their photographs. capture: captures (the
            photographs of a place from one sequence), where another capture of the place stays in training. auto:
            capture if at least half of the places have several captures, else place.
        gallery: The candidates of the answers. photographs: the positions and photographs of the training data.
            positions: all positions, without photographs. grid:SPACING_M: a grid over each city, which reveals nothing
            about the queries. auto: photographs for known-places, else positions.
        city: The city that new-city holds out; chosen by the seed by default.
        all_cities: Hold out each city in turn (new-city): one splits file per city, in the folder --out.
        table: Print the whole leakage report as a table.
        picture_hash: Do not compare images for the leakage report, which reads all of them.
        near_duplicate_bits: Images whose 64-bit perceptual hashes differ in at most this many bits count as
            near-duplicates.

    Examples:
        swclip split data --protocol known-places --out data/splits.parquet
        # streets that no training photograph shows
        swclip split data --protocol new-streets --out data/streets.parquet
        # each city left out once, for `swclip benchmark`
        swclip split data --protocol new-city --all-cities --out each-city
        # the train, val and test of a published data set
        swclip split data --protocol published --out data/splits.parquet
    """
    from swclip.api import photographs as api
    from swclip.cli.console import console, next_step
    from swclip.errors import ConfigError

    options: dict[str, Any] = {
        "block_m": block_m, "buffer_m": buffer_m, "query_share": query_share, "val_share": val_share, "seed": seed,
        "hold_out": hold_out, "gallery": gallery, "picture_hash": picture_hash,
        "near_duplicate_bits": near_duplicate_bits, "progress": True,
    }  # fmt: skip
    if not all_cities:
        all_splits = [api.split(manifest, protocol, out, city=city, **options)]
    elif protocol != "new-city" or city is not None:
        raise ConfigError("--all-cities holds out each city in turn; use it with --protocol new-city, without --city.")
    else:
        all_splits = api.split_each_city(manifest, out, **options)
    for splits in all_splits:
        for note in splits.meta["notes"]:
            console.print(note, markup=False, soft_wrap=True)
        print_leakage(splits.leakage or {}, splits.path.stem if all_cities else None, table=table)
        print(splits.path)
    if all_cities:
        next_step("split", "swclip", "benchmark", manifest, "--splits", out, "--out", "compared")
    else:
        next_step("split", "swclip", "train", manifest, "--splits", all_splits[0].path, "--out", "runs/first")


def print_leakage(report: dict[str, Any], name: str | None = None, *, table: bool = False) -> None:
    """Print what queries and training data share: three lines and the warnings, or all figures.

    Args:
        report: The leakage report of splits.
        name: Their name, where there are several.
        table: Print all figures.
    """
    from swclip.cli.console import console, print_table

    counts, query = report["counts"], report["query"]
    seed = "" if report["seed"] is None else f", seed {report['seed']}"
    title = f"{report['protocol']}{f', {name}' if name else ''}{seed}"
    if table:
        print_table(
            f"Splits ({title})",
            ["", "photographs"],
            [[name, f"{number:,}"] for name, number in counts.items()]
            + [["query candidates", f"{query['candidates']['n']:,}"]],
        )
        print_table(
            "Leakage: what the queries share with the training data",
            ["", "queries", "validation"],
            [[label, *(cell(part) for part in (query, report["val"]))] for label, cell in _ROWS],
        )
    else:
        for line in (
            f"Splits ({title}): {counts['train']:,} for training, {counts['val']:,} validation queries, "
            f"{counts['query']:,} queries, {query['candidates']['n']:,} candidates",
            f"Leakage: a training photograph is {_metres(query, 'nearest_training_m', 'median')} from a query "
            f"(median), within 25 m of {_share((query['within_m'] or {}).get('25'), query['n'])}; shared places: "
            f"{_groups(query['shared_places'], query['n'])}; sequences: "
            f"{_groups(query['shared_sequences'], query['n'])}",
            f"Queries with a near-duplicate image in training: {_pictures(query, 'near_duplicates')}; with an "
            f"identical file: {_pictures(query, 'exact_duplicates')}; with a candidate within 25 m: "
            f"{_share(query['candidates']['within_25m'], query['n'])}",
        ):
            console.print(line, markup=False, soft_wrap=True)
    if skipped := report["pictures"].get("skipped"):
        console.print(f"Near-duplicates: {skipped}.", markup=False, soft_wrap=True)
    if unreadable := report["pictures"].get("unreadable"):
        first = unreadable[0]
        console.print(
            f"{len(unreadable)} images could not be read and were not compared; the first is {first['image_id']}: "
            f"{first['reason']} All are listed in the report.",
            markup=False,
            soft_wrap=True,
        )
    for warning in report["warnings"]:
        console.print(f"Warning: {warning}", markup=False, soft_wrap=True)


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
    ("queries", lambda part: f"{part['n']:,}"),
    ("training photographs", lambda part: f"{part['n_training']:,}"),
    ("nearest training photograph, minimum", lambda part: _metres(part, "nearest_training_m", "min")),
    ("  5 %", lambda part: _metres(part, "nearest_training_m", "p5")),
    ("  median", lambda part: _metres(part, "nearest_training_m", "median")),
    ("  95 %", lambda part: _metres(part, "nearest_training_m", "p95")),
    *(
        (f"  within {limit} m", lambda part, limit=limit: _share((part["within_m"] or {}).get(limit), part["n"]))
        for limit in ("5", "10", "25", "50")
    ),
    ("shared places", lambda part: _groups(part["shared_places"], part["n"])),
    ("shared sequences", lambda part: _groups(part["shared_sequences"], part["n"])),
    ("near-duplicate image in training", lambda part: _pictures(part, "near_duplicates")),
    ("identical file in training", lambda part: _pictures(part, "exact_duplicates")),
    ("candidate within 25 m", lambda part: _share(part["candidates"]["within_25m"], part["n"])),
    ("nearest candidate (oracle error), median", lambda part: _metres(part["candidates"], "nearest_m", "median")),
    ("  95 %", lambda part: _metres(part["candidates"], "nearest_m", "p95")),
]
