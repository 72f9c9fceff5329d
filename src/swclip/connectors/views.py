"""Views of the panoramas of a download: part by part of its manifest, with places that are shared over all parts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from swclip.connectors.catalogue import Catalogue
from swclip.connectors.download import IMAGES
from swclip.imaging.panoramas import Panorama, ViewOptions
from swclip.ingest.panorama_views import first_at_place, panorama_notes, replace_panoramas
from swclip.ingest.rejections import Note

VIEW_COLUMNS = {"panorama_id": pa.string(), "fov_deg": pa.float64(), "pitch_deg": pa.float64()}
"""The columns that views add to a manifest."""
PANORAMA_COLUMNS = ("panorama", "camera", "pitch_deg", "roll_deg")
"""What the catalogue knows of a photograph as a panorama."""


class FetchedViews:
    """Replaces the panoramas of a download by perspective views.

    Args:
        catalogue: The download.
        order: The order of the manifest's rows, for SQL.
        computed: Whether the manifest has computed positions where there are any.
        options: The views.
        folder: Folder of the data set; pictures are written to `views` in it, those that are there are kept.
        max_pixels: Limit of the pixels of a panorama.
        progress: Called with the number of panoramas whose views are made, and their number.

    Attributes:
        panoramas: Number of panoramas that views replace.
        views: Number of views so far.
        notes: Remarks so far; of one code the numbers are added.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        order: str,
        computed: bool,
        options: ViewOptions,
        folder: Path,
        max_pixels: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._options, self._folder, self._max_pixels, self._progress = options, folder, max_pixels, progress
        done = "state = 'done'"
        first, second = ("computed_", "") if computed else ("", "computed_")
        position = [f"coalesce({first}{name}, {second}{name})" for name in ("lat_deg", "lon_deg")]
        rows = catalogue.expressions((*position, *PANORAMA_COLUMNS), done, order)
        facts = [(lat, lon, options.includes(panorama_of(*stated))) for lat, lon, *stated in rows]
        includes = np.array([included for *_, included in facts], dtype=bool)
        self._places: dict[str, str] = {}
        if includes.any():
            at = first_at_place(np.array([fact[:2] for fact in facts], dtype=np.float64), includes)
            ids = [key for (key,) in catalogue.rows(("id",), done, order)]
            self._places = {ids[row]: ids[at[row]] for row in np.flatnonzero(at >= 0).tolist()}
        self.panoramas, self.views, self._made = int(includes.sum()), 0, 0
        self._notes: dict[str, Note] = {}

    @property
    def notes(self) -> list[Note]:
        return list(self._notes.values())

    def replaced(self, table: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
        """A part of the manifest with views in place of its panoramas.

        Args:
            table: Its rows, with paths relative to the folder.
            facts: Their `PANORAMA_COLUMNS` and sha256.
        """
        panoramas = [panorama_of(*row) for row in facts[list(PANORAMA_COLUMNS)].itertuples(index=False, name=None)]
        folder = self._folder.absolute()
        whole = table.assign(
            image_path=[str(folder / name) for name in table["image_path"]],
            place_id=pd.Series([self._places.get(key) for key in table["image_id"]], dtype=object),
        )
        views, notes = replace_panoramas(
            whole, panoramas, facts["sha256"].tolist(), self._options, folder,
            base=folder / IMAGES, max_pixels=self._max_pixels, progress=self._report,
        )  # fmt: skip
        self._made += sum(self._options.includes(panorama) for panorama in panoramas)
        for note in (*panorama_notes(panoramas, self._options), *notes):
            before = self._notes.get(note.code)
            self._notes[note.code] = note if before is None else replace(before, count=before.count + note.count)
        for name in VIEW_COLUMNS:
            if name not in views:
                views[name] = None if name == "panorama_id" else math.nan
        of_view = views["panorama_id"].notna()
        self.views += int(of_view.sum())
        # What was stated of the panorama is not true of its views.
        views.loc[of_view, "camera"] = "perspective"
        views.loc[of_view, "field_of_view_deg"] = self._options.fov_deg
        views.loc[of_view, "sha256"] = None
        for name in ("recorded_heading_deg", "computed_heading_deg"):
            if name in views:
                views.loc[of_view, name] = math.nan
        return views

    def _report(self, done: int, _part: int) -> None:
        if self._progress is not None:
            self._progress(self._made + done, self.panoramas)


def panorama_of(text: str | None, camera: str | None, pitch_deg: Any, roll_deg: Any) -> Panorama | None:
    """The panorama of a photograph: as its picture says by XMP GPano, else as the service says, else by its edges.

    Args:
        text: What its picture says or shows, as JSON of a `Panorama`; None for no panorama.
        camera: The kind of camera that the service states.
        pitch_deg: Pitch of the camera that the service states, None or NaN for none.
        roll_deg: Its roll, likewise.
    """
    seen = Panorama(**json.loads(text)) if isinstance(text, str) else None
    if camera != "equirectangular" or (seen is not None and seen.evidence == "gpano"):
        return seen
    if seen is None:  # services may call parts of a sphere panoramas, without saying which part
        return Panorama("service", problem="the service states one, but its picture is not twice as wide as high")
    pitch, roll = (0.0 if value is None or math.isnan(value) else float(value) for value in (pitch_deg, roll_deg))
    return Panorama("service", None, pitch, roll)
