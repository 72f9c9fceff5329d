"""The layouts that `swclip prepare` reads, by name; the layout of a folder, guessed where it is evident."""

from __future__ import annotations

from typing import get_args

from swclip.errors import ConfigError, InputError
from swclip.ingest.columns import ColumnNames
from swclip.ingest.layouts import LayoutName
from swclip.ingest.layouts.hugging_face import HUGGING_FACE
from swclip.ingest.layouts.layout import Layout, LayoutSource, first_files
from swclip.ingest.layouts.place_recognition import GSV_CITIES, MSLS
from swclip.ingest.layouts.programs import MAPILLARY_TOOLS, PANORAMAX, TAKEOUT
from swclip.ingest.layouts.vpr import VPR
from swclip.ingest.layouts.worldwide import GEOCLIP, GLOBAL_STREETSCAPES, IM2GPS3K, OSV_5M, YFCC4K, ZENSVI
from swclip.ingest.source_table import SourceTable

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        VPR, GSV_CITIES, MSLS, OSV_5M, IM2GPS3K, YFCC4K, GEOCLIP, GLOBAL_STREETSCAPES, ZENSVI, MAPILLARY_TOOLS,
        PANORAMAX, TAKEOUT, HUGGING_FACE,
    )
}  # fmt: skip
"""The layouts by name."""


def guessed_layout(source: LayoutSource) -> Layout | None:
    """The layout in which a folder or file evidently is, and which uses the options that the user gives; else None.

    Raises:
        InputError: It is in several.
    """
    if not source.path.exists():
        return None
    names = first_files(source.path)
    usable = [layout for layout in LAYOUTS.values() if not _unused(layout, source)]
    fitting = [layout for layout in usable if layout.recognise(source.path, names)]
    if len(fitting) > 1:
        choices = " or ".join(f"--layout {layout.name} ({layout.shape})" for layout in fitting)
        raise InputError(f"{source.path}: could be in several layouts; choose {choices}, or --layout none.")
    return fitting[0] if fitting else None


def read_layout(name: str, source: LayoutSource) -> SourceTable:
    """Read a source in a layout.

    Raises:
        ConfigError: The layout is not known, or does not use an option that the user gives.
        InputError: The source is not in the layout, or cannot be read.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"--layout {name}: is not known; choose one of {', '.join(get_args(LayoutName))}.")
    layout = LAYOUTS[name]
    unused = _unused(layout, source)
    if unused:
        raise ConfigError(f"the layout {name} does not use {' and '.join(unused)}; omit it, or choose --layout none.")
    if not source.path.exists():
        raise InputError(f"{source.path}: there is no such file or folder; the layout {name} is {layout.shape}.")
    return layout.read(source)


def _unused(layout: Layout, source: LayoutSource) -> list[str]:
    """The options that the user gives and that a layout does not use."""
    options = {
        "columns": ("--...-column", source.columns != ColumnNames()),
        "images": ("--images", source.images is not None),
        "crs": ("--crs", source.crs is not None),
    }
    return [flag for name, (flag, stated) in options.items() if stated and name not in layout.options]
