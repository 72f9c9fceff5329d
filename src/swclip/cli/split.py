"""`swclip split`: a manifest into training, validation and queries, with the candidates and a leakage report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.protocols import SplitDraft


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
    from swclip.cli.console import console, progress_bar
    from swclip.data.leakage import leakage_report
    from swclip.data.manifest import read_manifest
    from swclip.data.protocols import split as draw
    from swclip.data.splits import leakage_path
    from swclip.files import write_json
    from swclip.imaging.phash import check_bits, hash_photographs

    check_bits(near_duplicate_bits)
    photographs = read_manifest(manifest)
    drafts: dict[Path, SplitDraft] = {}
    for left_out, target in (_each_city(photographs, protocol, city, out) if all_cities else {city: out}).items():
        drafts[target] = draw(
            photographs,
            protocol,
            block_m=block_m,
            buffer_m=buffer_m,
            query_share=query_share,
            val_share=val_share,
            seed=seed,
            hold_out=hold_out,
            gallery=gallery,
            city=left_out,
        )
    for draft in drafts.values():
        for note in draft.notes:
            console.print(note)
    hashes = None
    if picture_hash:
        with progress_bar("Comparing pictures") as progress:
            hashes = hash_photographs(photographs.image_paths, progress=progress)
    for target, draft in drafts.items():
        leakage_path(target).unlink(missing_ok=True)  # a report of earlier splits must not stand beside these
        splits = draft.write(target)
        report = leakage_report(photographs, splits, hashes, near_duplicate_bits=near_duplicate_bits)
        write_json(leakage_path(splits.path), report)
        _show(report, target.stem if all_cities else None)
        print(splits.path)


def _each_city(photographs: Manifest, protocol: str, city: str | None, out: Path) -> dict[str | None, Path]:
    """The cities of a manifest, each with the file of the splits that leave it out."""
    from swclip.data.grouping import text_or_none
    from swclip.errors import ConfigError
    from swclip.files import file_stem

    if protocol != "new-city" or city is not None:
        raise ConfigError("--all-cities leaves out each city in turn: it goes with new-city, and not with --city.")
    if out.suffix == ".parquet":
        raise ConfigError(f"{out}: --all-cities writes a file for each city; give a folder as --out.")
    files: dict[str | None, Path] = {}
    for name in sorted({name for name in text_or_none(photographs.frame["city"]) if name is not None}):
        stem = file_stem(name)
        while out / f"{stem}.parquet" in files.values():
            stem += "-2"  # two names that differ only in what a file name cannot hold
        files[name] = out / f"{stem}.parquet"
    return files or {None: out}  # no city at all: the split itself says what is wrong


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
