"""Answer the photographs of `swclip locate` in batches, and write the answers to standard output or to a file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swclip.answers.formats import REGIONS, Format, text_form, text_writer
from swclip.answers.journal import AnswerJournal
from swclip.answers.record import Answer, RankedCandidate
from swclip.answers.table import AnswerWriter, answer_file, text_file
from swclip.cli.console import console
from swclip.errors import ConfigError, InputError, UnreadableError
from swclip.files import atomic_file
from swclip.ingest.file_names import stated_name
from swclip.ingest.named_photographs import digest_of_names, join_names
from swclip.progress import rate_bar
from swclip.versions import versions

if TYPE_CHECKING:
    from swclip.cli.locate_matches import MatchFigures
    from swclip.gallery.gallery import Gallery
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior
    from swclip.scale.locate import ClusterAnswers


BATCHES = 4
"""Batches of the model that are answered and saved together. The model is idle only while the first is decoded."""

MAX_LISTED = 20
"""Number of unreadable photographs that are listed; the others are counted."""


@dataclass
class Failures:
    """Photographs without an answer.

    Attributes:
        count: Their number.
        listed: (photograph, reason) of the first `MAX_LISTED`.
    """

    count: int = 0
    listed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, answers: Sequence[Answer]) -> None:
        """Add the answers that have an error."""
        for answer in answers:
            if answer.error is not None:
                self.count += 1
                if len(self.listed) < MAX_LISTED:
                    self.listed.append((answer.photograph, answer.error))


@dataclass(frozen=True)
class LocateRequest:
    """What is to be located, and how.

    Attributes:
        names: The photographs.
        options: Arguments of `Locator.locate` that change the answers, as plain values.
        resolutions: H3 resolutions of the cells in the answers.
        workers: Threads that decode photographs.
        prior: The prior over positions.
        matches: Writes figures of matching patches; None for none.
        cluster: Answers on a cluster; None in this process.
    """

    names: Sequence[str]
    options: Mapping[str, Any]
    resolutions: Sequence[int]
    workers: int | None = None
    prior: Prior | None = None
    matches: MatchFigures | None = None
    cluster: ClusterAnswers | None = None

    def check(self, locator: Locator) -> None:
        """Raise ConfigError where figures of matches are requested, and the gallery has no patch features."""
        from swclip.retrieval.verification import patch_source

        if self.matches is not None:
            patch_source(locator.gallery)

    @property
    def step(self) -> int:
        """Number of photographs that are answered and saved together: all of them where they get one answer."""
        return len(self.names) if self.options["together"] else BATCHES * int(self.options["batch_size"])

    def header(self, locator: Locator) -> dict[str, Any]:
        """The header of the journal; a journal with another header is not resumed."""
        prior = None if self.prior is None else self.prior.to_dict()
        options = {**self.options, "cells": list(self.resolutions), "prior": prior}
        photographs = {"count": len(self.names), "sha256": digest_of_names(self.names)}
        device = locator.model.device.type if self.cluster is None else self.cluster.workers.device
        return {**answering_identity(locator), "device": device, "options": options, "photographs": photographs}

    def photographs_of(self, answer: Answer) -> list[str]:
        """The photographs of an answer, by the names that they are read with."""
        names = set(answer.photographs or (answer.photograph,))
        return [name for name in self.names if stated_name(name) in names]


def _shift(report: Callable[[int], None], start: int, done: int, total: int) -> None:
    report(start + done)


@dataclass(frozen=True)
class Output:
    """Where answers go.

    Attributes:
        format: The format.
        out: The file; None for standard output.
        region_out: A GeoJSON file for the outlines of the regions.
    """

    format: Format
    out: Path | None = None
    region_out: Path | None = None

    def check(self) -> None:
        """Raise where the answers cannot be written, before any work is done."""
        if self.out is None:
            text_form(self.format)
        paths = [path for path in (self.out, self.region_out) if path is not None]
        if len({os.path.abspath(path) for path in paths}) < len(paths):
            raise ConfigError(f"{self.out}: --out and --region-out are the same file; use two files.")
        for path in paths:
            if path.is_dir():
                raise InputError(f"{path}: is a folder; give a file to write.")


def answer_in_batches(locator: Locator, request: LocateRequest, start: int = 0) -> Iterator[tuple[list[Answer], int]]:
    """Yield the answers of each batch, from photograph `start`, with the batch's number of photographs.

    Batches begin at the same photographs whether or not a run was interrupted, since the other photographs of a batch
    may change the last digits of an answer.
    """
    step = request.step
    with rate_bar("Locating", len(request.names), start) as report, _warn_once():
        batches = _batches(locator, request, start, report)
        if request.cluster is not None:
            locator.warn_of_regions(single=request.prior is None)
            batches = request.cluster.batches(request.names, step, start)
        done = start
        for answers in batches:
            count = len(request.names[done : done + step])
            done += count
            report(done)
            yield [_with_stated_names(answer) for answer in answers], count


def _batches(
    locator: Locator, request: LocateRequest, start: int, report: Callable[[int], None]
) -> Iterator[list[Answer]]:
    for at in range(start, len(request.names), request.step):
        names = request.names[at : at + request.step]
        answers = locator.locate(
            names,
            **request.options,
            prior=request.prior,
            workers=request.workers,
            progress=partial(_shift, report, at),
        )
        if request.matches is not None:
            request.matches.write(locator, at, names, answers)
        yield answers


def _with_stated_names(answer: Answer) -> Answer:
    """The answer with file names that are valid UTF-8."""
    changes: dict[str, Any] = {"photograph": stated_name(answer.photograph)}
    if answer.photographs:
        changes["photographs"] = tuple(map(stated_name, answer.photographs))
        changes["candidates"] = tuple(_stated_evidence(candidate) for candidate in answer.candidates)
    return answer.model_copy(update=changes)


def _stated_evidence(candidate: RankedCandidate) -> RankedCandidate:
    evidence = tuple(
        item.model_copy(update={"photograph": stated_name(item.photograph)}) for item in candidate.evidence
    )
    return candidate.model_copy(update={"evidence": evidence})


def print_answers(locator: Locator, request: LocateRequest, output: Output) -> tuple[Answer, Failures]:
    """Write answers to standard output as they are computed; return the first answer and the failures."""
    failures, first, done = Failures(), list[Answer](), 0
    with ExitStack() as stack:
        writers: list[AnswerWriter] = [
            stack.enter_context(text_writer(text_form(output.format, request.resolutions), sys.stdout.write))
        ]
        if output.region_out is not None:
            region_file = stack.enter_context(atomic_file(output.region_out))
            writers.append(stack.enter_context(text_file(region_file, REGIONS)))
        try:
            for answers, count in answer_in_batches(locator, request):
                for writer in writers:
                    writer.write(answers)
                sys.stdout.flush()
                failures.add(answers)
                first, done = first or answers, done + count
        except KeyboardInterrupt as stopped:
            raise type(stopped)(
                f"interrupted: {done} of {len(request.names)} photographs were answered. With --out FILE the answers "
                "are kept, and the same command resumes."
            ) from None
    sys.stdout.flush()
    return first[0], failures


def write_answers(
    locator: Locator, request: LocateRequest, output: Output, out: Path, journal: AnswerJournal, *, restart: bool
) -> tuple[Answer, Failures]:
    """Write answers to a file through a journal that is held; return the first answer and the failures."""
    total = len(request.names)
    journal.begin(request.header(locator), join_names(request.names), restart=restart)
    failures = Failures()
    if journal.done:
        console.print(
            f"{journal.folder}: resuming after {journal.done} of {total} photographs", markup=False, soft_wrap=True
        )
    try:
        for answers, count in answer_in_batches(locator, request, journal.done):
            journal.append(answers, count)
        files = {journal.finished: out}
        with ExitStack() as stack:
            writers = [stack.enter_context(answer_file(journal.finished, output.format, request.resolutions))]
            if output.region_out is not None:
                files = {journal.regions: output.region_out, **files}
                writers.append(stack.enter_context(text_file(journal.regions, REGIONS)))
            report = stack.enter_context(rate_bar("Writing", total))
            first, written = list[Answer](), 0
            for answers in journal.replay():
                for writer in writers:
                    writer.write(answers)
                failures.add(answers)
                first, written = first or answers, written + len(answers)
                report(written)
        journal.finish(files)
    except KeyboardInterrupt as stopped:
        message = "interrupted before the first photographs were answered; no results were kept."
        if journal.done:
            message = (
                f"interrupted: {journal.done} of {total} photographs are answered and kept in {journal.folder}. Run "
                "the same command again to resume, or with --restart to start over."
            )
        raise type(stopped)(message) from None
    return first[0], failures


def check_failures(failures: Failures, total: int, where: str) -> None:
    """Raise UnreadableError if photographs could not be read; the message counts them and lists the first.

    Args:
        failures: The photographs without an answer.
        total: Number of all photographs.
        where: Where the user finds all reasons.
    """
    if not failures.count:
        return
    listed = "\n".join(f"  {name}: {reason}" for name, reason in failures.listed)
    more = failures.count - len(failures.listed)
    others = f"\n  and {more} more; {where}" if more else ""
    raise UnreadableError(f"{failures.count} of {total} photographs could not be read:\n{listed}{others}")


class _DropRepeated(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._seen
        self._seen.add(text)
        return new


@contextmanager
def _warn_once() -> Iterator[None]:
    """Log a warning that every batch repeats only once."""
    logger, filter_ = logging.getLogger("swclip.retrieval.locator"), _DropRepeated()
    logger.addFilter(filter_)
    try:
        yield
    finally:
        logger.removeFilter(filter_)


def answering_identity(locator: Locator) -> dict[str, Any]:
    """Gallery, model, calibration and library versions, on which the answers depend, as plain values."""
    gallery, calibration = locator.gallery, locator.calibration
    libraries = versions()
    return {
        "gallery": {
            "version": gallery.meta.get("version"),
            "model": gallery.meta.get("fingerprint"),
            "candidates": len(gallery),
            "photographs": len(gallery.image_ids),
            "content": gallery_digest(gallery),
        },
        "posterior": locator.posterior.to_dict(),
        "regions": None if calibration is None else _digest(calibration.to_dict()),
        "made_with": {name: libraries[name] for name in ("swclip", "torch", "numpy")},
    }


def gallery_digest(gallery: Gallery) -> str:
    """SHA-256 of the gallery's names, positions, vectors and hubness, in their order."""
    digest = hashlib.sha256(_digest([gallery.candidate_ids, gallery.cities, gallery.image_ids]).encode())
    arrays = [gallery.positions_deg, gallery.location_embeddings, gallery.image_embeddings, gallery.image_rows]
    arrays += [array for array in (gallery.image_hubness, gallery.image_whitened) if array is not None]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
