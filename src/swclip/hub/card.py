"""The model card: README.md of a published model, from what its run recorded and its reports measured.

Nothing is claimed that was not recorded or measured; what is not known is said to be not known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from huggingface_hub import ModelCardData

from swclip.comparison.markdown import table_markdown
from swclip.evaluation.report import Report
from swclip.hub.evaluations import (
    TASK,
    asked_text,
    error_table,
    eval_results,
    protocol_of,
    recall_text,
    region_table,
    sureness_text,
)
from swclip.hub.provenance import Area, Tower, TrainingData
from swclip.models.download import SCHEME
from swclip.reporting.page import Cell, Row, Table
from swclip.reporting.units import metres
from swclip.training.config import TrainingConfig, recipe_names
from swclip.training.run import RunFacts
from swclip.versions import own_version

_TAGS = ["geo-localization", "street-view", "clip", "arxiv:2604.04357"]
_MOST_AREAS = 50
_MOST_LICENCES = 10


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        repo_id: owner/name.
        fingerprint: Of the model as it is published.
        facts: The run's record.
        config: What the run was told to do, without paths.
        towers: What the model was initialised from.
        data: What it was trained on; None where that is not known any more.
        reports: Its evaluations.
        licence: Identifier of the licence; None where none is stated.
        base_models: Names on the hub of towers that were read from a local folder.
        datasets: Names on the hub of what it was trained on.
        bank: Photographs in its bank of queries; 0 for none.
        cells: Cells that its vocabulary names; 0 for none.
        regions: Whether the probabilities of its regions are calibrated.
    """

    repo_id: str
    fingerprint: str
    facts: RunFacts
    config: TrainingConfig
    towers: Sequence[Tower]
    data: TrainingData | None
    reports: Sequence[Report] = ()
    licence: str | None = None
    base_models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    bank: int = 0
    cells: int = 0
    regions: bool = False


def model_card(card: CardFacts) -> str:
    """The whole README.md: metadata as YAML, and the text.

    Args:
        card: What it is written from.
    """
    import jinja2

    folder = resources.files("swclip.hub") / "templates"
    environment = jinja2.Environment(
        autoescape=False,  # Markdown; what a user wrote goes through `plain`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.from_string((folder / "card.md.j2").read_text(encoding="utf-8")).render(_values(card))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return f"---\n{metadata(card).to_yaml().strip()}\n---\n\n{text}\n"


def metadata(card: CardFacts) -> ModelCardData:
    """The metadata that the hub reads: licence, tags, towers, data, and each figure with its protocol."""
    results = [result for report in card.reports for result in eval_results(report)]
    bases = [tower.given for tower in card.towers if tower.origin == "hub"] + list(card.base_models)
    return ModelCardData(
        license=card.licence,
        library_name="swclip",
        pipeline_tag=TASK,
        tags=list(_TAGS),
        base_model=list(dict.fromkeys(bases)) or None,
        datasets=list(card.datasets) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=card.repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )


def plain(text: str) -> str:
    """A user's words in a line of Markdown: no markup, no break.

    Example:
        >>> plain("St. Ives\\n <b>x</b> `y`")
        'St. Ives \\\\<b>x\\\\</b> \\\\`y\\\\`'
    """
    return re.sub(r"([\\\\`*_\[\]<#])", r"\\\1", " ".join(text.split()))


def _values(card: CardFacts) -> dict[str, Any]:
    facts, data = card.facts, card.data
    return {
        "title": plain(card.repo_id.rpartition("/")[2]),
        "name": f"{SCHEME}{card.repo_id}",
        "version": own_version(),
        "fingerprint": card.fingerprint,
        "dim": card.config.model.embedding_dim,
        # The name of a recipe file of the user's own is the user's.
        "recipe": f"by the recipe `{facts.system}` " if facts.system in recipe_names() else "",
        "where": _where(data),
        "data_text": _data_text(data),
        "area_table": _area_table(data.areas) if data is not None and len(data.areas) <= _MOST_AREAS else "",
        "data_lines": _data_lines(data),
        "manifest_digest": facts.manifest_digest[:12],
        "splits_digest": facts.splits_digest[:12],
        "training_text": _training_text(card),
        "evaluations": [_evaluation(report) for report in card.reports],
        "validation_text": _validation_text(facts),
        "sure_text": _sure_text(card.regions),
        "bank": f"{card.bank:,}" if card.bank else "",
        "cells": f"{card.cells:,}" if card.cells else "",
        "licence_text": _licence_text(card.licence),
        "tower_lines": _tower_lines(card),
        "hidden": any(tower.origin == "local folder" for tower in card.towers),
        "versions": ", ".join(f"{name} {value}" for name, value in facts.versions.items() if name != "swclip"),
    }


def _where(data: TrainingData | None) -> str:
    names = [plain(area.city) for area in data.areas if area.city] if data is not None else []
    if not names:
        return "one area"
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} cities"


def _data_text(data: TrainingData | None) -> str:
    if data is None:
        return "Photographs whose number, place and time are not stated: the manifest was not at hand for this card."
    validation = (
        f"; {data.validation:,} more chose the best weights and fitted the probabilities" if data.validation else ""
    )
    protocol = f" Queries were held out by the protocol `{data.protocol}`." if data.protocol else ""
    return f"{data.photographs:,} photographs{validation}.{protocol}"


def _area_table(areas: Sequence[Area]) -> str:
    rows = [
        Row(
            [
                Cell(plain(area.city) if area.city else "(no city)"),
                Cell(f"{area.photographs:,}"),
                Cell(f"{area.south_deg:.2f} to {area.north_deg:.2f}"),
                Cell(f"{area.west_deg:.2f} to {area.east_deg:.2f}"),
            ]
        )
        for area in areas
    ]
    return table_markdown(Table(["city", "photographs", "latitude (deg)", "longitude (deg)"], rows))


def _data_lines(data: TrainingData | None) -> list[str]:
    if data is None:
        return []
    lines = []
    if data.first is not None:
        taken = data.first if data.first == data.last else f"from {data.first} to {data.last}"
        some = "" if data.dated == data.photographs else f" ({data.dated:,} of them state a time)"
        lines.append(f"Taken {taken}{some}.")
    else:
        lines.append("When they were taken is not recorded.")
    shown = data.licences[:_MOST_LICENCES]
    told = [f"{plain(name) if name else 'not recorded'} ({count:,})" for name, count in shown]
    told += [f"{len(data.licences) - len(shown)} others"] if len(data.licences) > len(shown) else []
    lines.append(f"Licences of the photographs: {', '.join(told)}.")
    return lines


def _training_text(card: CardFacts) -> str:
    config = card.config
    text = f"{config.steps:,} steps with batches of {config.batch.size}, seed {config.seed}"
    if config.freeze_image:
        text += ", the image tower frozen"
    targets = config.objective.targets
    found = card.facts.figures.get("bandwidth") or {"used": "fixed", "bandwidths_m": targets.bandwidths_m}
    if targets.alpha > 0.0:
        told = " and ".join(metres(float(value)) for value in found["bandwidths_m"])
        text += f"; soft labels with kernel {targets.kernel}, bandwidth {told} ({found['used']})"
    return f"{text}."


def _evaluation(report: Report) -> dict[str, Any]:
    title = "Validation queries" if report.on == "val" else "Queries"
    texts = [recall_text(report), region_table(report), sureness_text(report)]
    return {
        "title": f"{title}, {protocol_of(report)}",
        "asked": asked_text(report),
        "errors": error_table(report),
        "texts": [text for text in texts if text],
    }


def _validation_text(facts: RunFacts) -> str:
    found = facts.figures.get("val_posterior")
    if not found:
        return ""
    return (
        f"At the end of training, {found['n_queries']:,} validation queries were answered with a median error of "
        f"{metres(found['median_error_m'])} and a mean of {metres(found['mean_error_m'])}. These queries chose the "
        "weights and fitted the probabilities, so this is no measure of new ones."
    )


def _sure_text(regions: bool) -> str:
    if regions:
        return (
            "Probabilities and regions are calibrated on validation queries from the same area; elsewhere they promise "
            "nothing, and a photograph from elsewhere may be answered with confidence."
        )
    return "Its probabilities are not calibrated (there were no validation queries): answers come without regions."


def _licence_text(licence: str | None) -> str:
    if licence is None:
        return "None is stated. Ask the owner before you use, change or pass on the model."
    return f"The model: `{licence}`. It came out of what is listed below, whose licences hold beside it."


def _tower_lines(card: CardFacts) -> list[str]:
    lines = []
    for tower in card.towers:
        if tower.origin == "built in":
            lines.append(f"{tower.side.capitalize()} tower: built into swclip, trained from scratch.")
        elif tower.origin == "hub":
            licence = tower.licence or "licence not known"
            lines.append(f"{tower.side.capitalize()} tower: initialised from `{tower.given}`, {licence}.")
        else:
            lines.append(
                f"{tower.side.capitalize()} tower: initialised from a local folder ({tower.shown.partition(':')[2]}), "
                "licence not known."
            )
    if card.base_models:
        told = ", ".join(f"`{name}`" for name in card.base_models)
        lines.append(f"The publisher states that it builds on {told}.")
    return lines
