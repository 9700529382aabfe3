"""The README's picture and table are those of the committed ledger, and are drawn right."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from affectcore.errors import ConfigError
from affectcore.figures import readme
from affectcore.figures.ledger import MIME

ROOT = Path(__file__).parents[2]
BY = {"lddu": {"supported": 1, "refuted": 3}, "cider": {"refuted": 2, "not testable here": 4}}


def test_the_readme_says_what_the_ledger_says() -> None:
    """Mend: `make readme`."""
    by = readme.counts(ROOT / readme.LEDGER)
    written = (ROOT / "README.md").read_text(encoding="utf-8")
    assert written == readme.text(written, by)
    assert (ROOT / readme.PICTURE).read_text(encoding="utf-8") == readme.picture(by)


def test_table_holds_every_count_and_the_sums() -> None:
    rows = [line.strip("| ").split(" | ") for line in readme.table(BY).splitlines()]
    assert rows[0] == ["findings on", "supported", "refuted", "not testable here", "in all"]
    assert rows[2:] == [["LDDU", "1", "3", "0", "4"], ["CIDer", "0", "2", "4", "6"]]


def test_picture_has_a_bar_for_every_count_in_its_proportion() -> None:
    root = ElementTree.fromstring(readme.picture(BY))
    bars = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("height") == str(readme.BAR)]
    wide = [float(e.get("width", "0")) + 1.5 for e in bars]
    assert [round(w / wide[0]) for w in wide] == [1, 3, 2, 4]
    assert float(bars[-1].get("x", "0")) + wide[-1] <= readme.WIDTH
    assert "CIDer: 2 refuted, 4 not testable here" in root.get("aria-label", "")


def test_counts_come_from_the_notebooks_output(tmp_path: Path) -> None:
    found = [{"paper": "lddu", "status": "refuted"}, {"paper": "lddu", "status": "refuted"}]
    path = tmp_path / "ledger.ipynb"
    path.write_text(json.dumps({"cells": [{"source": ""}, {"outputs": [{"data": {MIME: found}}]}]}))
    assert readme.counts(path) == {"lddu": {"refuted": 2}}
    path.write_text(json.dumps({"cells": []}))
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        readme.counts(path)


def test_a_readme_without_the_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match="must stand there once"):
        readme.text("# affectcore\n", BY)
