"""`swclip locate --matches`: figures of the patches that match between photographs and their best candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swclip.cli.console import console
from swclip.errors import ConfigError, InputError, SwclipError

if TYPE_CHECKING:
    from swclip.answers.record import Answer, RankedCandidate
    from swclip.models.patch_matching import PatchMatches
    from swclip.retrieval.locator import Locator

PictureOf = Callable[[str], bytes | Path | None]
"""The file of a gallery's photograph by its id, or the bytes of its thumbnail; None where there is neither."""


@dataclass(frozen=True)
class MatchFigures:
    """Writes a figure for each answer.

    Attributes:
        folder: The folder.
        picture_of: Where the gallery's photographs come from.
        count: Number of photographs that are located, for the names of the files.
    """

    folder: Path
    picture_of: PictureOf
    count: int

    @classmethod
    def of(cls, folder: Path, gallery: str, manifest: Path | None, count: int) -> MatchFigures:
        """Prepare the figures of a gallery.

        Raises:
            InputError: The folder is a file, or the manifest cannot be read.
            ConfigError: There is no manifest, and the gallery has no thumbnails.
        """
        from swclip.data.manifest import read_manifest
        from swclip.gallery.store import GalleryStore

        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; --matches needs a folder.")
        if manifest is not None:
            table = read_manifest(manifest)
            return cls(folder, dict(zip(table.frame["image_id"], table.image_paths, strict=True)).get, count)
        store = GalleryStore.open(gallery)
        if not store.with_thumbnail():
            raise ConfigError(
                f"{gallery}: has no thumbnails for --matches to show; add --gallery-photographs MANIFEST, or make the "
                "gallery again with thumbnails: swclip index RUN MANIFEST --thumbnails 224 --out GALLERY"
            )
        return cls(folder, store.thumbnail, count)

    def write(self, locator: Locator, first: int, names: Sequence[str], answers: Sequence[Answer]) -> None:
        """Draw a batch of answers; what cannot be drawn is said, and does not end the command.

        Args:
            locator: The locator.
            first: Number of the first photograph of the batch.
            names: The photographs of the batch.
            answers: Their answers; one where they show one place.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, (name, answer) in enumerate(zip(names, answers, strict=False), start=first + 1):
            if answer.error is not None:
                continue
            prefix = f"{number:0{len(str(self.count))}d}-" if self.count > 1 else ""
            path = self.folder / f"{prefix}{Path(name).stem}.png"
            try:
                self._draw(locator, name, answer, path)
            except SwclipError as error:
                console.print(f"{path}: not drawn: {error}", markup=False, highlight=False, soft_wrap=True)

    def _draw(self, locator: Locator, name: str, answer: Answer, path: Path) -> None:
        from swclip.imaging.decode import decode_photograph
        from swclip.models.embed_patches import compared_side, patch_features
        from swclip.reporting.answer_figure import MatchedPhotograph, write_match_figure
        from swclip.retrieval.verification import SHOWN, matches_at, patch_source

        part = compared_side(locator.model).preprocess
        candidates = answer.candidates[:SHOWN]
        (patches,) = patch_features(locator.model, [name])
        matched = matches_at(patches, patch_source(locator.gallery), [item.image_ids for item in candidates])
        rows = []
        for rank, (candidate, item) in enumerate(zip(candidates, matched, strict=True), start=1):
            source = None if item is None else self.picture_of(item[0])
            if item is not None and source is not None:
                picture = part.resized(decode_photograph(source, size_px=part.decode_px))
                rows.append(MatchedPhotograph(picture, _title(rank, candidate, *item), item[1]))
        if not rows:
            raise InputError("none of its best candidates has a photograph that can be shown.")
        query = part.resized(decode_photograph(name, size_px=part.decode_px))
        write_match_figure(path, query, Path(name).name, rows)


def _title(rank: int, candidate: RankedCandidate, image_id: str, matches: PatchMatches) -> str:
    shown = "" if len(matches) == matches.total else f", the best {len(matches)} shown"
    title = (
        f"{rank}. {candidate.probability:.0%}, {candidate.distance_m:.0f} m from the answer\n"
        f"{image_id}: {matches.total} matching patch{'' if matches.total == 1 else 'es'}{shown}"
    )
    at = candidate.image_ids.index(image_id)
    credit = [values[at] for values in (candidate.image_authors, candidate.image_licences) if values and values[at]]
    return f"{title}\nPhotograph: {', '.join(map(str, credit))}" if credit else title
