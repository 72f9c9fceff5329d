"""The documentation site: `make docs` builds it, without a network."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "swclip"
author = "The swclip contributors"
version = release = importlib.metadata.version("swclip")
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.githubpages",
    "generated_reference",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
nitpicky = False

# Pages are read on GitHub too: plain links to files, and the anchors that GitHub forms from headings.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]
suppress_warnings = [
    "misc.highlighting_failure",  # shell and JSON of the pages with `...` in them
]

# A notebook is executed when it, or the code below it, has changed; its outputs are kept in the build folder.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_output_stderr = "remove"  # progress and warnings of libraries, with paths of this machine

# Docstrings are Google style and write code in single backticks.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

html_theme = "pydata_sphinx_theme"
html_title = f"swclip {release}"
html_static_path = ["static"]
html_css_files = ["swclip.css"]
html_extra_path = ["answer.schema.json", "report.schema.json"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "swclip"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
copyright = "the swclip contributors, Apache-2.0"


def setup(app: Any) -> None:
    """What screen readers stumble over in the HTML of Sphinx is written otherwise."""
    app.connect("html-page-context", lambda app, page, template, context, doctree: _accessible(context))


def _accessible(context: dict[str, Any]) -> None:
    body = re.sub(r'<th class="head[^"]*">(?:<p></p>)?</th>', "<td></td>", context.get("body", ""))
    # The parameters of a signature over several lines are a definition list without terms.
    context["body"] = re.sub(
        r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>",
        lambda match: re.sub(r"(</?)dd>", r"\1span>", match[1]).replace("<span><em", '<span class="sig-line"><em'),
        body,
    )
