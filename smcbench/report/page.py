"""One HTML file that holds all it shows: its style, its script and the board; it asks the network nothing.

The data are JSON in blocks that no browser executes, with every ``<`` written as ``\\u003c``: whatever text a
submission brings, it cannot end the block. The script puts texts into the page as text nodes only, and the policy in
the page's head admits that one script by its digest and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

SCRIPTS = ("model.js", "tables.js", "charts.js", "views.js", "panel.js", "start.js")


def page(board: Mapping[str, Any], evidence: Mapping[str, Any], standfirst: str) -> str:
    """The page.

    Args:
        board: what the first view needs (``content.board_of``).
        evidence: runs and densities by layer (``content.evidence_of``), read only when somebody asks.
        standfirst: the sentence under the title.
    """
    script = '"use strict";\n(() => {\n' + "\n".join(_template(name) for name in SCRIPTS) + "})();\n"
    style = _template("page.css")
    filling = {
        "style": style,
        "style-hash": _admitted(style),
        "script": script,
        "script-hash": _admitted(script),
        "standfirst": html.escape(standfirst),
        "board": embedded(board),
        "evidence": embedded(evidence),
    }
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda match: filling[match[1]], _template("page.html"))


def embedded(value: Any) -> str:
    """JSON that may stand in a ``script`` element: nothing in it can end the element or begin a comment.

    >>> embedded({"name": "</script>"})
    '{"name":"\\\\u003c/script>"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _template(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _admitted(text: str) -> str:
    """What a content security policy calls this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
