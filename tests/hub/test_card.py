"""The model card: valid metadata, numbers from the report, no claims without measurements, and working examples."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from swclip.cli.app import run
from swclip.evaluation.report import Report
from swclip.hub.card import CardFacts, model_card, plain
from swclip.hub.evaluations import read_model_report
from swclip.hub.folder import PublishOptions, write_model_folder
from swclip.hub.provenance import Area, Tower, TrainingData
from swclip.models.locator_model import load_model
from swclip.reporting.units import metres, percent
from swclip.training.config import load_recipe
from swclip.training.run import read_run

from .fake_hub import FakeHub

NAME = "ada/leeds"


@pytest.fixture(scope="module")
def report(trained: Path) -> Report:
    return read_model_report(trained / "report", load_model(trained / "run").fingerprint)


@pytest.fixture(scope="module")
def facts(trained: Path) -> CardFacts:
    run_facts, config = read_run(trained / "run"), load_recipe(str(trained / "run" / "config.toml"))
    tower = Tower("image", "builtin:small", "builtin:small", "built in")
    return CardFacts(NAME, "f" * 32, run_facts, config, [tower], None)


def test_the_metadata_is_what_the_hub_reads(facts: CardFacts, report: Report) -> None:
    towers = [Tower("image", "facebook/dinov2-small", "facebook/dinov2-small", "hub")]
    more = {"licence": "cc-by-4.0", "base_models": ["ada/tower"], "datasets": ["ada/photos"]}
    card = ModelCard(model_card(dataclasses.replace(facts, towers=towers, reports=[report], **more)))
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "swclip", "image-feature-extraction")
    assert {"geo-localization", "street-view", "arxiv:2604.04357"} <= set(data.tags)
    assert data.base_model == ["facebook/dinov2-small", "ada/tower"]
    assert data.datasets == ["ada/photos"]
    assert data.model_name == "leeds"
    found = {result.metric_type: result for result in data.eval_results}
    assert found["median_error_m"].metric_value == report.error_m.median
    assert found["mean_error_m"].metric_value == report.error_m.mean
    assert found["within_25_m"].metric_value == report.accuracy_within_m["25"]
    assert found["recall_at_1_25m"].metric_value == report.recall_at_k_25m["1"]
    assert set(data.metrics) == set(found)
    for result in data.eval_results:
        assert result.dataset_args["protocol"] == "known-places"
        assert result.dataset_name.endswith("known-places")
        assert result.dataset_split == "query"
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()


def test_the_numbers_are_those_of_the_report(facts: CardFacts, report: Report) -> None:
    text = model_card(dataclasses.replace(facts, reports=[report]))
    line = next(line for line in text.splitlines() if line.startswith("| this model |"))
    assert metres(report.error_m.median) in line
    assert metres(report.error_m.mean) in line
    assert percent(report.accuracy_within_m["100"]) in line
    oracle = next(line for line in text.splitlines() if line.startswith("| oracle |"))
    assert metres(report.baselines.floor.median) in oracle
    assert "### Queries, known-places" in text
    assert f"{report.n_queries} queries by the protocol `known-places`" in text
    assert "Not evaluated" not in text
    two = model_card(dataclasses.replace(facts, reports=[report, report.model_copy(update={"on": "val"})]))
    assert "### Validation queries, known-places" in two
    assert {result.dataset_split for result in ModelCard(two).data.eval_results} == {"query", "validation"}


def test_no_numbers_without_a_report(facts: CardFacts) -> None:
    bare = dataclasses.replace(facts, facts=dataclasses.replace(facts.facts, figures={}, versions={}))
    text = model_card(bare)
    assert "Not evaluated: no report was given" in text
    assert "None is stated. Ask the owner" in text
    assert "the manifest was not available" in text
    assert "street views of one area" in text
    assert "not calibrated" in text
    evaluation = text[text.index("## Evaluation") : text.index("## Limits")]
    assert not re.search(r"\d", evaluation)
    data = ModelCard(text).data.to_dict()
    assert not {"model-index", "license", "datasets", "base_model", "metrics"} & set(data)
    assert "validation queries were answered" in model_card(facts), "training figures are labelled as such"


def test_describes_the_training_data(facts: CardFacts) -> None:
    areas = (Area("Leeds", 1200, 53.79, -1.56, 53.82, -1.53), Area(None, 34, -0.01, 179.99, 0.01, -179.99))
    licences = (("CC BY-SA 4.0", 1200), (None, 34))
    data = TrainingData(
        1234, 56, "new-streets", areas, "2019-05-02", "2021-11-30", 1000, licences, (("Panoramax", 1234),), 57
    )
    text = model_card(dataclasses.replace(facts, data=data, bank=9, cells=77, regions=True))
    for expected in (
        "1,234 photographs; 56 more selected the best weights",
        "by the protocol `new-streets`",
        "| Leeds | 1,200 | 53.79 to 53.82 | -1.56 to -1.53 |",
        "| (no city) | 34 | -0.01 to 0.01 | 179.99 to -179.99 |",
        "Taken from 2019-05-02 to 2021-11-30 (1,000 of them state a time).",
        "CC BY-SA 4.0 (1,200), not recorded (34)",
        "Their sources: Panoramax (1,234).",
        "57 authors are stated",
        "embeddings of 9 training photographs",
        "names the 77 map cells",
        "street views of Leeds",
        f"manifest `{facts.facts.manifest_digest[:12]}`",
    ):
        assert expected in text
    many = dataclasses.replace(data, areas=areas[:1] * 60)
    assert "| Leeds |" not in model_card(dataclasses.replace(facts, data=many)), "a table of sixty cities is omitted"


def test_text_of_users_is_escaped(facts: CardFacts) -> None:
    name = "Leeds | <script>alert(1)</script>\n# Not a [heading](http://example.org) `x`"
    data = TrainingData(1, 0, None, (Area(name, 1, 0, 0, 1, 1),), None, None, 0, ((name, 1),))
    text = model_card(dataclasses.replace(facts, data=data))
    assert "<script>" not in text.replace("\\<script>", "")
    assert "\n# Not" not in text
    row = next(line for line in text.splitlines() if line.startswith("| Leeds"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert plain("a  b\n c") == "a b c"


@pytest.mark.parametrize(
    ("tower", "expected"),
    [
        (
            Tower("image", "facebook/dinov2-small", "facebook/dinov2-small", "hub"),
            "`facebook/dinov2-small`, apache-2.0.",
        ),
        (
            Tower("caption", "ada/words", "ada/words", "hub"),
            "Caption tower: initialised from `ada/words`, licence not known.",
        ),
        (
            Tower("map", "/home/ada/x", "local:vit", "local folder"),
            "Map tower: initialised from a local folder (vit), licence",
        ),
        (
            Tower("image", "builtin:small", "builtin:small", "built in"),
            "Image tower: `builtin:small`, built into swclip, trained from scratch.",
        ),
    ],
)
def test_describes_the_source_of_towers(tower: Tower, expected: str, facts: CardFacts) -> None:
    text = model_card(dataclasses.replace(facts, towers=[tower]))
    assert expected in text
    assert "/home/ada" not in text


def test_examples_of_the_card_work(
    trained: Path, town: Path, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = write_model_folder(tmp_path / "model", trained / "run", NAME)
    card = (folder.path / "README.md").read_text(encoding="utf-8")
    hub.add(NAME, {name: (folder.path / name).read_bytes() for name in folder.files})
    working_folder = tmp_path / "somewhere"
    shutil.copytree(town, working_folder / "data")
    shutil.copy(town / "p00-0.jpg", working_folder / "photo.jpg")
    monkeypatch.chdir(working_folder)
    (shell,) = re.findall(r"```sh\n(.*?)```", card, re.DOTALL)
    for line in shell.splitlines():
        command, *arguments = shlex.split(line)
        assert command == "swclip"
        assert run(arguments) == 0
    capsys.readouterr()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(code.splitlines()) == 5
    exec(compile(code, "README.md", "exec"), {})
    output = capsys.readouterr().out.splitlines()
    assert output[-1] == "True", "the fingerprint matches the card"
    lat, lon = map(float, output[0].split()[:2])
    assert (lat, lon) == pytest.approx((53.8, -1.55), abs=0.01)


def test_model_folder_is_reproducible(trained: Path, tmp_path: Path) -> None:
    options = PublishOptions(reports=[trained / "report"])
    first, second = (write_model_folder(tmp_path / name, trained / "run", NAME, options) for name in ("one", "two"))
    assert first.files == second.files
    for name in first.files:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name
    stated = json.loads((first.path / "config.json").read_text())["fingerprint"]
    assert stated == first.fingerprint == first.run_fingerprint
