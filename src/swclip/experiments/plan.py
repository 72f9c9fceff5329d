"""What an experiment will fetch and how long it will take, before anything is downloaded."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swclip.connectors.area import RequestedArea
from swclip.connectors.fetch import SERVICES, FetchResult, Politeness, fetch
from swclip.connectors.search import Plan
from swclip.errors import InputError, ServiceError, SwclipError
from swclip.experiments.description import AreaTable, Experiment
from swclip.files import file_stem
from swclip.progress import Steps

DATA = "data"
"""Folder of the photographs, one folder a city."""

BYTES_PER_SECOND = 4e6
"""Assumed rate of a connection. A statement for the plan, not a measurement."""

_PROBE_PHOTOGRAPHS, _PROBE_STEPS = 64, 3


@dataclass(frozen=True)
class Hours:
    """How long a stage will take.

    Attributes:
        stage: Its name.
        hours: Hours on this machine.
        basis: What they rest on.
    """

    stage: str
    hours: float
    basis: str


@dataclass(frozen=True)
class ExperimentPlan:
    """Plan of an experiment.

    Attributes:
        areas: What will be fetched of each city.
        problems: Cities without a plan, and systems that cannot be trained, and why.
        hours: Duration by stage; evaluation is not included.
    """

    areas: dict[str, Plan]
    problems: dict[str, SwclipError]
    hours: list[Hours]

    @property
    def photographs(self) -> int:
        """Photographs of all cities."""
        return sum(plan.photographs for plan in self.areas.values())

    @property
    def bytes_to_download(self) -> int:
        """Size of the photographs that are not there yet."""
        return sum(plan.bytes_to_download for plan in self.areas.values())

    def raise_problems(self) -> None:
        """Raise the problems as one error, if there are any.

        Raises:
            InputError: Areas have no photograph.
            ServiceError: The service refuses.
        """
        if self.problems:
            kinds = {type(error) for error in self.problems.values()}
            kind = kinds.pop() if len(kinds) == 1 else ServiceError
            raise kind("\n".join(f"{name}: {error}" for name, error in self.problems.items()))


def plan_experiment(
    experiment: Experiment,
    out: Path,
    *,
    endpoint: str | None = None,
    partial: bool = False,
    politeness: Politeness | None = None,
    device: str = "auto",
    progress: Steps | None = None,
) -> ExperimentPlan:
    """Search the areas, and estimate size and time. The searches are kept, and are not repeated by the experiment.

    Args:
        experiment: The experiment.
        out: Its folder.
        endpoint: As for `fetch`.
        partial: As for `fetch`.
        politeness: As for `fetch`.
        device: The device of the trials that estimate the time.
        progress: Called with the step, the number of what is done and the number of all.

    Raises:
        ConfigError: An option is invalid, or the folder has another request.
    """
    areas: dict[str, Plan] = {}
    problems: dict[str, SwclipError] = {}
    for area in experiment.areas:
        try:
            areas[area.city] = fetch_area(
                experiment, area, out, endpoint=endpoint, partial=partial, politeness=politeness, progress=progress,
                dry_run=True,
            ).plan  # fmt: skip
        except (InputError, ServiceError) as error:
            problems[area.city] = error
    plan = ExperimentPlan(areas, problems, [])
    if areas:
        with _silent_log():
            plan.hours.extend(_hours(experiment, plan, device))
    return plan


def check_models(experiment: Experiment) -> None:
    """Make the models of all systems once, so that a tower that cannot be had is no surprise after the download.

    Raises:
        SwclipError: A model cannot be made.
    """
    from swclip.models.locator_model import LocatorModel
    from swclip.training.config import load_recipe

    for name in experiment.trained:
        config = load_recipe(name, experiment.overrides)
        LocatorModel.create(config.model, np.array([[51.5, -0.1], [51.6, -0.1]]), config.seed)


def fetch_area(
    experiment: Experiment,
    area: AreaTable,
    out: Path,
    *,
    endpoint: str | None,
    partial: bool,
    politeness: Politeness | None,
    progress: Steps | None,
    dry_run: bool = False,
) -> FetchResult:
    """Fetch the photographs of one city into its folder; an interrupted download resumes."""
    query, thinning = experiment.photographs.read()
    requested: RequestedArea = area.read()
    report: Steps | None = None
    if progress is not None:
        report = lambda step, done, total: progress(f"{area.city}: {step}", done, total)  # noqa: E731
    return fetch(
        experiment.service,
        requested,
        out / DATA / file_stem(area.city),
        endpoint=endpoint,
        size=experiment.photographs.size,
        query=query,
        thinning=thinning,
        positions=experiment.photographs.positions,
        city=area.city,
        views=experiment.photographs.views,
        dry_run=dry_run,
        partial=partial,
        politeness=politeness,
        progress=report,
    )


def _hours(experiment: Experiment, plan: ExperimentPlan, device: str) -> list[Hours]:
    kind = SERVICES[experiment.service]
    to_download = sum(one.to_download for one in plan.areas.values())
    seconds = max(to_download / kind.per_second, plan.bytes_to_download / BYTES_PER_SECOND)
    basis = f"{kind.per_second:g} photographs a second, which {kind.title} tolerates, and at most 4 MB a second"
    hours = [Hours("download", seconds / 3600.0, basis)]
    with tempfile.TemporaryDirectory(prefix="swclip-") as folder:
        probe = _Probe(experiment, Path(folder))
        reads = 2 + len(experiment.splits)  # to verify, for features, and once a split for the leakage report
        hours.append(
            Hours(
                "reading photographs",
                plan.photographs * reads * probe.decode_s / 3600.0,
                f"{reads} times {probe.decode_s:.2g} s a photograph of 2,048 x 1,536 pixels, measured now",
            )
        )
        for name in experiment.trained:
            try:
                measured = probe.training(name, device)
            except SwclipError as error:
                plan.problems[name] = error
                continue
            if measured.features_s and not any(one.stage == "image features" for one in hours):
                hours.append(
                    Hours(
                        "image features",
                        plan.photographs * measured.features_s / 3600.0,
                        f"{measured.features_s:.2g} s a photograph, measured now; computed once",
                    )
                )
            runs = sum(map(experiment.runs_of, experiment.splits))
            rows = min(measured.batch_size, plan.photographs)
            text = f"{runs} runs of {measured.steps} steps of {rows}, {measured.row_s:.2g} s a row, measured now"
            hours.append(Hours(f"training {name}", runs * measured.steps * rows * measured.row_s / 3600.0, text))
    return hours


@dataclass(frozen=True)
class _Measured:
    features_s: float
    row_s: float
    steps: int
    batch_size: int


class _Probe:
    """Short trials on this machine: a large photograph is decoded, and a few steps are trained on generated ones."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        from swclip.api.photographs import split, synth

        self._experiment, self._folder = experiment, folder
        self._manifest = synth(folder / "photographs", cities=1, photos_per_city=_PROBE_PHOTOGRAPHS, size_px=64)
        self._splits = split(self._manifest, "known-places", folder / "splits.parquet", picture_hash=False)
        self.decode_s = _decode_s(folder / "large.jpg")

    def training(self, name: str, device: str) -> _Measured:
        """Seconds of a recipe: for the features of a photograph, and for a row of a batch in a step."""
        from swclip.api.runs import train
        from swclip.models.feature_cache import FeatureCache
        from swclip.training.config import load_recipe

        config = load_recipe(name, self._experiment.overrides)
        trial = load_recipe(
            name,
            {**self._experiment.overrides, "steps": _PROBE_STEPS, "evaluate_every": 0, "checkpoint_every": 0},
        )
        clock = _Clock()
        out = self._folder / f"run-{file_stem(name)}"
        train(
            self._manifest, self._splits, trial, out, cache=FeatureCache(out / "cache"), device=device, progress=clock
        )
        train_rows = int((self._splits.frame["split"] == "train").sum())
        rows = min(config.batch.size, train_rows)
        features_s = clock.each_s("features") if config.freeze_image else 0.0
        return _Measured(features_s, clock.each_s("training") / rows, config.steps, config.batch.size)


class _Clock:
    """Seconds for one unit of each step that is reported to it."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._first: dict[str, tuple[int, float]] = {}
        self._last: dict[str, tuple[int, float]] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        now = (done, time.perf_counter())
        self._first.setdefault(step, now)
        self._last[step] = now

    def each_s(self, word: str) -> float:
        """Seconds for a unit of the step whose name ends with a word, without the first report, which starts it up."""
        for step, (done, ended) in self._last.items():
            if step.endswith(word):
                before, began = self._first[step]
                return (ended - began) / (done - before) if done > before else (ended - self._began) / done
        return 0.0


@contextmanager
def _silent_log() -> Iterator[None]:
    """Without warnings about trials, such as that they have few photographs."""
    log = logging.getLogger("swclip")
    before = log.level
    log.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        log.setLevel(before)


def _decode_s(path: Path) -> float:
    from PIL import Image

    from swclip.imaging.decode import decode_photograph

    coarse = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((2048, 1536), Image.Resampling.BICUBIC).save(path, quality=90)
    times = [_seconds(lambda: decode_photograph(path)) for _ in range(3)]
    return min(times)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
