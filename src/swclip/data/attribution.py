"""What must be shown with photographs: their licences, authors and source addresses, grouped and counted."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

ATTRIBUTION_COLUMNS = ("licence", "author", "source_url")
_SHOWN_LINKS = 3
_CREATIVE_COMMONS = re.compile(r"CC[- ]BY((?:[- ](?:NC|ND|SA))*)[- ](\d\.\d)", re.IGNORECASE)
_LICENCE_URLS = {
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "etalab-2.0": "https://www.etalab.gouv.fr/licence-ouverte-open-licence/",
    "odbl-1.0": "https://opendatacommons.org/licenses/odbl/1-0/",
    "ogl-uk-3.0": "https://www.nationalarchives.gov.uk/doc/open-government-licence/version/3/",
}


@dataclass(frozen=True)
class Credit:
    """Photographs that are shown with the same words.

    Attributes:
        licence: Their licence; None where it is not stated.
        licence_url: Address of its text, where it is known.
        author: Who must be named; None where it is not stated.
        source: Where they come from, such as a service; None where it is not stated.
        photographs: Number of photographs.
        source_urls: Addresses of their pages, in the order of the photographs, those that state one.
    """

    licence: str | None
    licence_url: str | None
    author: str | None
    source: str | None
    photographs: int
    source_urls: tuple[str, ...] = ()


def licence_url(licence: str | None) -> str | None:
    """The address of a licence's text, None where it is not known.

    Example:
        >>> licence_url("CC-BY-SA-4.0"), licence_url("own work")
        ('https://creativecommons.org/licenses/by-sa/4.0/', None)
    """
    if licence is None:
        return None
    if licence.startswith(("https://", "http://")):
        return licence
    match = _CREATIVE_COMMONS.fullmatch(licence.strip())
    if match is not None:
        kind = "by" + match[1].lower().replace(" ", "-")
        return f"https://creativecommons.org/licenses/{kind}/{match[2]}/"
    return _LICENCE_URLS.get(licence.strip().lower())


def attribution_table(frame: pd.DataFrame) -> pa.Table | None:
    """The columns of `ATTRIBUTION_COLUMNS`, dictionary-encoded where values repeat; None where nothing is stated.

    Args:
        frame: A row per photograph; a missing column is unknown.
    """
    columns = {
        name: pa.array(frame[name] if name in frame else [None] * len(frame), pa.string(), from_pandas=True)
        for name in ATTRIBUTION_COLUMNS
    }
    if all(column.null_count == len(column) for column in columns.values()):
        return None
    return pa.table({name: c if name == "source_url" else c.dictionary_encode() for name, c in columns.items()})


def credits_of(frame: pd.DataFrame) -> list[Credit]:
    """Group photographs by licence, author and source.

    Args:
        frame: A row per photograph, with the columns of `ATTRIBUTION_COLUMNS` and `source`; a missing one is unknown.

    Returns:
        The groups: licences by their number of photographs, those without one last; within a licence authors likewise.

    Example:
        >>> frame = pd.DataFrame({"licence": ["CC-BY-4.0", None, "CC-BY-4.0"], "author": ["Ada", None, "Ada"]})
        >>> [(credit.licence, credit.author, credit.photographs) for credit in credits_of(frame)]
        [('CC-BY-4.0', 'Ada', 2), (None, None, 1)]
    """
    names = ("licence", "author", "source", "source_url")
    table = pd.DataFrame({name: _texts(frame[name]) if name in frame else None for name in names}, index=frame.index)
    of_licence = table.groupby("licence", dropna=False).size().to_dict()
    credits = []
    for (licence, author, source), rows in table.groupby(["licence", "author", "source"], dropna=False, sort=False):
        licence, author, source = (value if isinstance(value, str) else None for value in (licence, author, source))
        urls = tuple(rows["source_url"].dropna().tolist())
        credits.append(Credit(licence, licence_url(licence), author, source, len(rows), urls))
    credits.sort(
        key=lambda credit: (
            credit.licence is None,
            -of_licence.get(credit.licence, 0),
            credit.licence or "",
            credit.author is None,
            -credit.photographs,
            credit.author or "",
            credit.source or "",
        )
    )
    return credits


def _texts(values: pd.Series[Any]) -> list[str | None]:
    texts = values.astype(object).where(values.notna(), None)
    return [None if value is None or not str(value).strip() else str(value).strip() for value in texts]


def credits_text(credits: Sequence[Credit]) -> str:
    """The credits as lines of text, a licence and below it its authors, with at most three links each."""
    lines = [] if credits else ["No photographs."]
    for licence, group in _by_licence(credits):
        url = group[0].licence_url
        lines.append(f"{_heading(licence, group)}{f' ({url})' if url and url != licence else ''}")
        for credit in group:
            links = ", ".join(credit.source_urls[:_SHOWN_LINKS])
            more = len(credit.source_urls) - _SHOWN_LINKS
            links += f" and {more:,} more" if more > 0 else ""
            lines.append(f"  {_who(credit)}: {_photographs(credit.photographs)}{f': {links}' if links else ''}")
    warning = _warning(credits)
    return "\n".join([*lines, *([warning] if warning else [])]) + "\n"


def credits_html(credits: Sequence[Credit]) -> str:
    """The credits as a fragment of HTML with all links, to be put on a page that shows the photographs."""
    parts = ['<section class="attribution">']
    for licence, group in _by_licence(credits):
        parts.append(f"<h3>{_link(_heading(licence, group), group[0].licence_url)}</h3>\n<ul>")
        for credit in group:
            numbered = enumerate(credit.source_urls, start=1)
            links = " ".join(_link(str(number) if _is_web(url) else url, url) for number, url in numbered)
            listed = f"<details><summary>Sources</summary>{links}</details>" if links else ""
            parts.append(f"<li>{html.escape(_who(credit))}: {_photographs(credit.photographs)}{listed}</li>")
        parts.append("</ul>")
    warning = _warning(credits)
    parts += [f"<p>{html.escape(warning)}</p>"] if warning else []
    return "\n".join([*parts, "</section>"]) + "\n"


def credits_json(credits: Sequence[Credit], title: str) -> str:
    """The credits as JSON with all links, for programs and citations.

    Args:
        credits: As of `credits_of`.
        title: What is credited.
    """
    document = {
        "title": title,
        "type": "dataset",
        "message": "Show these authors and licences with the photographs.",
        "photographs": sum(credit.photographs for credit in credits),
        "without_licence": _missing(credits, "licence"),
        "without_author": _missing(credits, "author"),
        "credits": [asdict(credit) for credit in credits],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _by_licence(credits: Sequence[Credit]) -> Iterable[tuple[str | None, list[Credit]]]:
    groups: dict[str | None, list[Credit]] = {}
    for credit in credits:
        groups.setdefault(credit.licence, []).append(credit)
    return groups.items()


def _heading(licence: str | None, group: Sequence[Credit]) -> str:
    return f"{licence or 'No licence stated'}: {_photographs(sum(credit.photographs for credit in group))}"


def _who(credit: Credit) -> str:
    return f"{credit.author or 'author not stated'}{f', {credit.source}' if credit.source else ''}"


def _photographs(count: int) -> str:
    return f"{count:,} photograph{'' if count == 1 else 's'}"


def _missing(credits: Sequence[Credit], name: str) -> int:
    return sum(credit.photographs for credit in credits if getattr(credit, name) is None)


def _warning(credits: Sequence[Credit]) -> str:
    missing = _missing(credits, "licence")
    if not missing:
        return ""
    states = "states" if missing == 1 else "state"
    detail = "without one, or its author's consent, a photograph may not be shown."
    return f"{_photographs(missing)} {states} no licence: {detail}"


def _link(text: str, url: str | None) -> str:
    if url is None or not _is_web(url):
        return html.escape(text)
    return f'<a href="{html.escape(url, quote=True)}" rel="noreferrer">{html.escape(text)}</a>'


def _is_web(url: str) -> bool:
    """Whether an address may be a link: a table of a user may hold javascript: ones."""
    return url.startswith(("https://", "http://"))
