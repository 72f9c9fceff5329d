"""What `swclip locate` does once it knows what is asked: answers in batches, to the standard output or to a file."""

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
from swclip.cli.console import console, rate_bar
from swclip.errors import ConfigError, InputError, UnreadableError
from swclip.files import atomic_file
from swclip.ingest.named_photographs import digest_of_names, join_names, stated_name
from swclip.versions import versions

if TYPE_CHECKING:
    from swclip.gallery.gallery import Gallery
    from swclip.retrieval.locator import Locator
    from swclip.retrieval.prior import Prior


BATCHES = 4
"""Batches of the model that are answered and kept together: while the first of them is decoded, nothing computes."""

NAMED = 20
"""Photographs without an answer that are named; the others are counted."""


@dataclass
class Failures:
    """Photographs without an answer.

    Attributes:
        count: How many.
        named: (photograph, reason) of the first `NAMED`.
    """

    count: int = 0
    named: list[tuple[str, str]] = field(default_factory=list)

    def add(self, answers: Sequence[Answer]) -> None:
        """Count those among further answers."""
        for answer in answers:
            if answer.error is not None:
                self.count += 1
                if len(self.named) < NAMED:
                    self.named.append((answer.photograph, answer.error))


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Attributes:
        names: The photographs.
        options: Of `Locator.locate`, as plain values: with other ones the answers are others.
        resolutions: H3 resolutions of the cells that answers speak of.
        workers: Decoding threads.
        prior: What is known of the places beforehand.
    """

    names: Sequence[str]
    options: Mapping[str, Any]
    resolutions: Sequence[int]
    workers: int | None = None
    prior: Prior | None = None

    @property
    def step(self) -> int:
        """Photographs that are answered and kept together: all of them where they get one answer."""
        return len(self.names) if self.options["together"] else BATCHES * int(self.options["batch_size"])

    def header(self, locator: Locator) -> dict[str, Any]:
        """What a journal of these answers must have been begun with."""
        prior = None if self.prior is None else self.prior.to_dict()
        options = {**self.options, "cells": list(self.resolutions), "prior": prior}
        photographs = {"count": len(self.names), "sha256": digest_of_names(self.names)}
        return {**answering_identity(locator), "options": options, "photographs": photographs}

    def photographs_of(self, answer: Answer) -> list[str]:
        """The photographs that an answer is to, as they were named to be read."""
        stated = set(answer.photographs or (answer.photograph,))
        return [name for name in self.names if stated_name(name) in stated]


def _shift(report: Callable[[int], None], start: int, done: int, total: int) -> None:
    report(start + done)


@dataclass(frozen=True)
class Output:
    """Where answers go.

    Attributes:
        format: Their format.
        out: Their file; None for the standard output.
        region_out: A GeoJSON file for the outlines of their regions.
    """

    format: Format
    out: Path | None = None
    region_out: Path | None = None

    def check(self) -> None:
        """Raise where answers could not be put into their place: before hours of work, not after."""
        if self.out is None:
            text_form(self.format)
        given = [path for path in (self.out, self.region_out) if path is not None]
        if len({os.path.abspath(path) for path in given}) < len(given):
            raise ConfigError(f"{self.out}: --out and --region-out are the same file; give two.")
        for path in given:
            if path.is_dir():
                raise InputError(f"{path}: is a folder; give a file to write.")


def answer_in_batches(locator: Locator, asked: Asked, start: int = 0) -> Iterator[tuple[list[Answer], int]]:
    """Answers from the photograph `start` on, with how many photographs each batch is of.

    Batches begin at the same photographs whether or not a run was interrupted: what else is in a batch may change the
    last digits of an answer.
    """
    step = asked.step
    with rate_bar("Locating", len(asked.names), start) as report, _warned_once():
        for at in range(start, len(asked.names), step):
            names = asked.names[at : at + step]
            answers = locator.locate(
                names, **asked.options, prior=asked.prior, workers=asked.workers, progress=partial(_shift, report, at)
            )
            yield [_stated(answer) for answer in answers], len(names)


def _stated(answer: Answer) -> Answer:
    """An answer whose photographs are named as text can hold them."""
    stated: dict[str, Any] = {"photograph": stated_name(answer.photograph)}
    if answer.photographs:
        stated["photographs"] = tuple(map(stated_name, answer.photographs))
        stated["candidates"] = tuple(_stated_evidence(candidate) for candidate in answer.candidates)
    return answer.model_copy(update=stated)


def _stated_evidence(candidate: RankedCandidate) -> RankedCandidate:
    evidence = tuple(one.model_copy(update={"photograph": stated_name(one.photograph)}) for one in candidate.evidence)
    return candidate.model_copy(update={"evidence": evidence})


def print_answers(locator: Locator, asked: Asked, output: Output) -> tuple[Answer, Failures]:
    """Answers to the standard output as they come; the first answer, and what could not be read."""
    failures, first, done = Failures(), list[Answer](), 0
    with ExitStack() as stack:
        writers: list[AnswerWriter] = [
            stack.enter_context(text_writer(text_form(output.format, asked.resolutions), sys.stdout.write))
        ]
        if output.region_out is not None:
            beside = stack.enter_context(atomic_file(output.region_out))
            writers.append(stack.enter_context(text_file(beside, REGIONS)))
        try:
            for answers, count in answer_in_batches(locator, asked):
                for writer in writers:
                    writer.write(answers)
                sys.stdout.flush()
                failures.add(answers)
                first, done = first or answers, done + count
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: {done} of {len(asked.names)} photographs were answered. With --out FILE they would be "
                "kept, and the same command would go on from there."
            ) from None
    sys.stdout.flush()
    return first[0], failures


def write_answers(
    locator: Locator, asked: Asked, output: Output, out: Path, journal: AnswerJournal, *, restart: bool
) -> tuple[Answer, Failures]:
    """Answers to a file, by way of a journal that is held; the first answer, and what could not be read."""
    total = len(asked.names)
    journal.begin(asked.header(locator), join_names(asked.names), restart=restart)
    failures = Failures()
    if journal.done:
        console.print(f"{journal.folder}: goes on after {journal.done} of {total} photographs", markup=False)
    try:
        for answers, count in answer_in_batches(locator, asked, journal.done):
            journal.append(answers, count)
        files = {journal.finished: out}
        with ExitStack() as stack:
            writers = [stack.enter_context(answer_file(journal.finished, output.format, asked.resolutions))]
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
    except KeyboardInterrupt:
        kept = "interrupted before the first photographs were answered; nothing is kept."
        if journal.done:
            kept = (
                f"interrupted: {journal.done} of {total} photographs are answered and kept in {journal.folder}. The "
                "same command goes on from there; with --restart it begins anew."
            )
        raise KeyboardInterrupt(kept) from None
    return first[0], failures


def check_failures(failures: Failures, total: int, where: str) -> None:
    """Raise UnreadableError that counts photographs without an answer and names the first of them.

    Args:
        failures: Which.
        total: How many photographs were asked.
        where: Where the others are named.
    """
    if not failures.count:
        return
    named = "\n".join(f"  {name}: {reason}" for name, reason in failures.named)
    more = failures.count - len(failures.named)
    others = f"\n  and {more} more; {where}" if more else ""
    raise UnreadableError(f"{failures.count} of {total} photographs could not be read:\n{named}{others}")


class _Once(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._said
        self._said.add(text)
        return new


@contextmanager
def _warned_once() -> Iterator[None]:
    """What every batch would warn of is said once."""
    logger, once = logging.getLogger("swclip.retrieval.locator"), _Once()
    logger.addFilter(once)
    try:
        yield
    finally:
        logger.removeFilter(once)


def answering_identity(locator: Locator) -> dict[str, Any]:
    """Gallery, model, calibration and the libraries that compute, as plain values.

    Args:
        locator: What answers.
    """
    gallery, calibration = locator.gallery, locator.calibration
    made_with = versions()
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
        "made_with": {name: made_with[name] for name in ("swclip", "torch", "numpy")},
        "device": str(locator.model.device.type),
    }


def gallery_digest(gallery: Gallery) -> str:
    """SHA-256 of all that answers are taken from: names, positions, embeddings and hubness, in their order."""
    hashed = hashlib.sha256(_digest([gallery.candidate_ids, gallery.cities, gallery.image_ids]).encode())
    arrays = [gallery.positions_deg, gallery.location_embeddings, gallery.image_embeddings, gallery.image_rows]
    if gallery.image_hubness is not None:
        arrays.append(gallery.image_hubness)
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
