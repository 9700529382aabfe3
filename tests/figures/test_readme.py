"""The README's picture and table are those of the committed ledger; what executed notebooks carry is read right."""

import base64
import json
import re
from pathlib import Path

import pytest

from affectcore.errors import ConfigError
from affectcore.figures import executed, readme

ROOT = Path(__file__).parents[2]
FOUND = [
    {"paper": p, "status": s}
    for p, s, n in (("lddu", "supported", 1), ("lddu", "refuted", 3), ("cider", "not testable here", 4))
    for _ in range(n)
]


def test_the_readme_says_what_the_ledger_says() -> None:
    """Mend: `make readme`."""
    written = (ROOT / "README.md").read_text(encoding="utf-8")
    assert written == readme.text(written, executed.findings(ROOT / executed.LEDGER))
    assert f"]({readme.PICTURE.as_posix()})" in written
    assert (ROOT / readme.PICTURE).read_bytes() == executed.figure(ROOT / executed.LEDGER, readme.NAME).png


def test_table_holds_every_count_and_the_sums() -> None:
    rows = [line.strip("| ").split(" | ") for line in readme.table(FOUND).splitlines()]
    assert rows[0] == ["findings on", "supported", "refuted", "not testable here", "in all"]
    assert rows[2:] == [["LDDU", "1", "3", "0", "4"], ["CIDer", "0", "0", "4", "4"]]


def test_a_readme_without_the_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match="must stand there once"):
        readme.text("# affectcore\n", FOUND)


def test_a_figure_is_found_by_its_name_with_its_alternative_text(tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    about = {"mystnb": {"figure": {"name": "fig:a"}, "image": {"alt": "Two bars of equal height."}}}
    drawn = [{"name": "stdout"}, {"data": {"image/png": base64.b64encode(b"png").decode()}}]
    path.write_text(json.dumps({"cells": [{"metadata": {}}, {"metadata": about, "outputs": drawn}]}))
    assert executed.figure(path, "fig:a") == executed.Drawn(b"png", "Two bars of equal height.")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: no figure 'fig:b'")):
        executed.figure(path, "fig:b")
