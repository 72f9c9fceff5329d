"""`swclip merge`: several manifests as one."""

from __future__ import annotations

from pathlib import Path


def merge(*manifests: Path, out: Path) -> None:
    """Merge several manifests into one.

    The photographs stay where they are. Columns are those of all manifests; `merged_from` says which a row is from.
    A photograph that two manifests have is kept once, and listed in duplicates.csv. Ids that several manifests have for
    different things begin with the name of their manifest.

    Args:
        manifests: Two manifests or more: folders, or their manifest.parquet.
        out: Output folder for manifest.parquet and duplicates.csv.

    Examples:
        swclip merge london leeds bristol --out cities
        # two downloads of one city; what both have is kept once
        swclip merge leeds-2025 leeds-2026 --out leeds
    """
    from swclip.api.photographs import merge as merge_manifests
    from swclip.cli.console import console, next_step, print_table
    from swclip.data.merge import DUPLICATES_NAME

    result = merge_manifests(list(manifests), out, progress=True)
    rows = [[row["name"], f"{row['photographs']:,}", f"{row['kept']:,}"] for row in result.sources.to_dict("records")]
    print_table(f"{len(result.manifest):,} photographs", ["manifest", "photographs", "kept"], rows)
    for reason, left_out in result.duplicates.groupby("reason", sort=True):
        first = left_out.iloc[0]
        console.print(
            f"Left out: {len(left_out):,} {reason}, such as {first['image_id']} of {first['manifest']} "
            f"({first['of_image_id']} of {first['of_manifest']}); all are in {out / DUPLICATES_NAME}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    for column, count in result.renamed.items():
        console.print(
            f"Note: {count:,} values of {column} are used by several manifests; they now begin with its name.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    for note in result.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    licences = result.manifest.frame["licence"].fillna("not stated").value_counts()
    console.print(
        "Licences: " + ", ".join(f"{name} ({count:,})" for name, count in licences.items()),
        markup=False,
        soft_wrap=True,
    )
    print(result.manifest.path)
    next_step("merge", "swclip", "split", out, "--protocol", "known-places", "--out", out / "splits.parquet")
