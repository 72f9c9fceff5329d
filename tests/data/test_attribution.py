"""What must be shown with photographs: grouped, counted, and written as text, HTML and JSON."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swclip.data.attribution import (
    attribution_table,
    credits_html,
    credits_json,
    credits_of,
    credits_text,
    licence_url,
)

FRAME = pd.DataFrame(
    {
        "licence": ["CC-BY-SA-4.0"] * 5 + ["etalab-2.0"] * 2 + [None, np.nan, "  "],
        "author": ["Ada"] * 4 + ["Bo & <b>Co</b>"] + ["Ville", None] + [None, "Zed", None],
        "source": ["panoramax"] * 7 + [None, "own", None],
        "source_url": [f"https://example.org/{i}?a=1&b=2" for i in range(6)]
        + [None, None, "javascript:alert(1)", None],
    }
)


class Page(HTMLParser):
    """Links and text of a fragment, whose tags must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text, self.open = "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_groups_by_licence_author_and_source() -> None:
    credits = credits_of(FRAME)
    assert [(c.licence, c.author, c.source, c.photographs) for c in credits] == [
        ("CC-BY-SA-4.0", "Ada", "panoramax", 4),
        ("CC-BY-SA-4.0", "Bo & <b>Co</b>", "panoramax", 1),
        ("etalab-2.0", "Ville", "panoramax", 1),
        ("etalab-2.0", None, "panoramax", 1),
        (None, "Zed", "own", 1),
        (None, None, None, 2),
    ]
    assert sum(c.photographs for c in credits) == len(FRAME)
    assert credits[0].source_urls == tuple(FRAME["source_url"][:4])
    shuffled = credits_of(FRAME.sample(frac=1.0, random_state=1))
    assert [c.author for c in shuffled] == [c.author for c in credits]


def test_text_has_three_links_and_says_what_is_missing() -> None:
    text = credits_text(credits_of(FRAME))
    assert "CC-BY-SA-4.0: 5 photographs (https://creativecommons.org/licenses/by-sa/4.0/)\n" in text
    assert re.search(r"Ada, panoramax: 4 photographs: https://\S+, https://\S+, https://\S+ and 1 more\n", text)
    assert "No licence stated: 3 photographs\n" in text
    assert "author not stated: 2 photographs\n" in text
    assert text.endswith(
        "3 photographs state no licence: without one, or its author's consent, a photograph may not be shown.\n"
    )
    assert "may not be shown" not in credits_text(credits_of(FRAME[:7]))


def test_html_is_escaped_and_links_only_to_the_web() -> None:
    page = Page(credits_html(credits_of(FRAME)))
    assert set(FRAME["source_url"][:6]) < set(page.links)
    assert not any(link.startswith("javascript") for link in page.links)
    assert "Bo & <b>Co</b>, panoramax: 1 photograph" in page.text
    assert "3 photographs state no licence" in page.text


def test_json_has_every_link() -> None:
    document = json.loads(credits_json(credits_of(FRAME), "data/manifest.parquet"))
    assert (document["photographs"], document["without_licence"], document["without_author"]) == (10, 3, 3)
    assert sorted(url for credit in document["credits"] for url in credit["source_urls"]) == sorted(
        FRAME["source_url"].dropna()
    )
    assert document["credits"][0]["licence_url"] == "https://creativecommons.org/licenses/by-sa/4.0/"


def test_frames_without_columns_and_without_rows() -> None:
    assert [c.photographs for c in credits_of(pd.DataFrame({"image_id": ["a", "b"]}))] == [2]
    assert credits_of(FRAME[:0]) == []
    assert credits_text([]) == "No photographs.\n"
    assert attribution_table(pd.DataFrame({"licence": [None]})) is None


@pytest.mark.parametrize(
    ("licence", "url"),
    [
        ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/"),
        ("CC BY-NC-SA 3.0", "https://creativecommons.org/licenses/by-nc-sa/3.0/"),
        ("cc-by-nd-2.0", "https://creativecommons.org/licenses/by-nd/2.0/"),
        ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
        ("https://example.org/terms", "https://example.org/terms"),
        ("CC-BY", None),
        (None, None),
    ],
)
def test_addresses_of_licences(licence: str | None, url: str | None) -> None:
    assert licence_url(licence) == url
