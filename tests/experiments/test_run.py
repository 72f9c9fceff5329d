"""A whole experiment over HTTP, from the stand-in of a service that has the generated cities: killed, resumed, done."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swclip.cli.app import run
from swclip.connectors.fetch import Politeness
from swclip.connectors.stand_in import StandIn
from swclip.connectors.stand_in_shapes import Faults, Photographs
from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError, InputError, ServiceError, SwclipError
from swclip.experiments import plan as plans
from swclip.experiments.run import experiment
from swclip.synthetic.generate import generate
from swclip.training.run import read_run

pytestmark = pytest.mark.slow

PER_CITY, CITIES, STEPS = 16, 8, 3
QUICK = Politeness(connections=4, per_second=0.0, attempts=2, backoff_s=0.001, timeout_s=10.0)
TINY = f"""
base = "generated8"
[systems]
names = ["nearest-neighbour", "sw-clip"]
[systems.set]
steps = {STEPS}
evaluate_every = 0
checkpoint_every = 0
"""
TWO = """
base = "tiny.toml"
[[areas]]
city = "Leeds"
near = [53.7975, -1.5450]
radius_m = 3000.0
[[areas]]
city = "Paris"
near = [48.8566, 2.3522]
radius_m = 3000.0
[[splits]]
protocol = "known-places"
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    folder = tmp_path_factory.mktemp("generated")
    generate(folder, cities=CITIES, photos_per_city=PER_CITY, size_px=32, workers=1)
    return Photographs.of_manifest(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("descriptions")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "two.toml").write_text(TWO)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def outputs(out: Path) -> dict[str, int]:
    """When each file of runs and splits was written."""
    kept = [*out.glob("splits/**/*"), *out.glob("results/**/runs/**/*"), *out.glob("data/*/images/**/*")]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in kept if path.is_file()}


def test_eight_cities_from_the_service_to_the_page_killed_twice(
    photographs: Photographs, files: Path, tmp_path: Path, start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with StandIn(photographs) as server:
        command = ["experiment", str(files / "tiny.toml"), "--out", str(out), "--endpoint", server.address]
        command += ["--per-second", "0", "--connections", "2"]
        process = start(*command)
        while sum(server.pictures.values()) < 50 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (out / "merged").exists()

        process = start(*command, kill_at=STEPS)
        printed = process.communicate()
        assert process.returncode == -signal.SIGKILL, printed
        assert sum(count > 1 for count in server.pictures.values()) <= 2  # those that were on their way
        assert not list(out.glob("results/**/benchmark.json"))
        before = outputs(out)

        assert run(command) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(out / "experiment.html")
        after = outputs(out)
        assert {name: after[name] for name in before if "/runs/" not in name} == {
            name: at for name, at in before.items() if "/runs/" not in name
        }
        requests = server.total

        assert run(command) == 0
        assert server.total == requests
        assert outputs(out) == after

    manifest = read_manifest(out / "merged")
    assert manifest.frame["city"].value_counts().to_dict() == dict.fromkeys(record(out)["areas"], PER_CITY)
    assert len(server.pictures) == len(manifest) == PER_CITY * CITIES
    for name, protocol in (
        ("known-places", "known-places"), ("new-streets", "new-streets"), ("new-city/cardiff", "new-city"),
    ):  # fmt: skip
        splits = read_splits(out / "splits" / f"{name}.parquet")
        assert splits.meta["protocol"] == protocol
        results = out / "results" / name.partition("/")[0]
        assert read_run(results / "runs" / "sw-clip-0").status == "finished"
        document = json.loads((results / "benchmark.json").read_text())
        assert set(document["systems"]) == {"nearest-neighbour", "sw-clip"}
    page = (out / "experiment.html").read_text()
    links = [link for link in re.findall(r'href="([^"#:]+)"', page) if link != "data:,"]
    assert links == [f"results/{name}/benchmark.html" for name in ("known-places", "new-streets", "new-city")]
    assert all((out / link).is_file() for link in links)
    assert record(out)["failures"] == []

    (files / "changed.toml").write_text('base = "tiny.toml"\n[[splits]]\nprotocol = "known-places"\nblock_m = 50.0\n')
    command[1] = str(files / "changed.toml")
    with StandIn(photographs, ports=server.ports):
        assert run(command) == ConfigError.exit_code
    assert "known-places.parquet: was split from other photographs or with other parameters" in capsys.readouterr().err
    assert outputs(out) == after


def record(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "experiment.json").read_text())
    return document


def test_a_plan_states_photographs_bytes_and_hours_and_downloads_nothing(
    photographs: Photographs, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "_PROBE_PHOTOGRAPHS", 24)
    with StandIn(photographs) as server:
        result = experiment(
            files / "two.toml", tmp_path / "out", endpoint=server.address, dry_run=True, politeness=QUICK
        )
        assert not server.pictures
    plan = result.plan
    assert plan is not None
    assert result.manifest is None
    assert list(plan.areas) == ["Leeds"]
    assert plan.photographs == PER_CITY
    leeds = [one for one in photographs.records if one.lat_deg > 53.6 and -1.7 < one.lon_deg < -1.4]
    assert plan.bytes_to_download == pytest.approx(sum(len(one.picture()) for one in leeds), rel=0.2)
    stages = {one.stage: one for one in plan.hours}
    assert list(stages) == ["download", "reading photographs", "image features", "training sw-clip"]
    assert all(one.hours > 0.0 for one in plan.hours)
    assert f"1 runs of {STEPS} steps of {PER_CITY}, " in stages["training sw-clip"].basis
    assert stages["download"].hours == pytest.approx(PER_CITY / 20.0 / 3600.0)
    with pytest.raises(InputError, match=r"Paris: Panoramax has no photograph of this area"):
        plan.raise_problems()


def test_a_tower_that_cannot_be_had_is_told_before_the_download(
    photographs: Photographs, files: Path, tmp_path: Path
) -> None:
    lacking = f'base = "{files / "two.toml"}"\n[systems.set]\n"model.image.tower" = "{tmp_path / "none"}"\n'
    (tmp_path / "lacking.toml").write_text(lacking)
    with StandIn(photographs) as server:
        options: dict[str, Any] = {"endpoint": server.address, "politeness": QUICK}
        planned = experiment(tmp_path / "lacking.toml", tmp_path / "out", dry_run=True, **options).plan
        assert planned is not None
        assert planned.photographs == PER_CITY
        assert set(planned.problems) == {"Paris", "sw-clip"}
        with pytest.raises(SwclipError, match=r"sw-clip: .*none"):
            planned.raise_problems()
        with pytest.raises(SwclipError, match="none"):
            experiment(tmp_path / "lacking.toml", tmp_path / "out", **options)
        assert not server.pictures


@pytest.mark.parametrize("service", ["mapillary", "kartaview"])
def test_an_experiment_on_another_service(
    service: str, photographs: Photographs, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAPILLARY_TOKEN", "t")
    one = (files / "two.toml").read_text().split("[[areas]]")
    text = "[[areas]]".join([f'{one[0]}service = "{service}"\n', one[1], *one[2:]])
    text = text.replace('base = "tiny.toml"', f'base = "{files / "tiny.toml"}"')
    text = text.replace('"Paris"\nnear = [48.8566, 2.3522]', '"Bristol"\nnear = [51.4550, -2.5930]')
    text += '[systems]\nnames = ["nearest-neighbour"]\n[photographs]\npositions = "computed"\n'
    (tmp_path / "other.toml").write_text(text)
    with StandIn(photographs, service) as server:
        result = experiment(tmp_path / "other.toml", tmp_path / "out", endpoint=server.address, politeness=QUICK)
    assert result.manifest is not None
    assert result.manifest.frame["city"].value_counts().to_dict() == {"Leeds": PER_CITY, "Bristol": PER_CITY}
    assert result.manifest.frame["computed_lat_deg"].notna().any()
    assert result.benchmarks is not None
    assert list(result.benchmarks) == ["known-places"]
    assert "CC-BY-SA-4.0" in (tmp_path / "out" / "experiment.html").read_text()


def test_a_city_without_photographs_or_answers_is_an_error_after_the_others_were_fetched(
    photographs: Photographs, files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"politeness": QUICK}
    with StandIn(photographs, faults=Faults(forbidden=True)) as server, pytest.raises(ServiceError, match="Leeds: "):
        experiment(files / "two.toml", tmp_path / "refused", endpoint=server.address, **options)
    with StandIn(photographs) as server, pytest.raises(InputError, match=r"\AParis: Panoramax has no photograph"):
        experiment(files / "two.toml", out, endpoint=server.address, **options)
    assert len(read_manifest(out / "data" / "leeds")) == PER_CITY
    assert not (out / "splits").exists()
