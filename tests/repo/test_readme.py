"""The README's Python runs as it stands, block after block, in an empty folder."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


def test_the_quick_starts_are_as_short_as_they_say() -> None:
    five, ten = (
        [line for line in b.splitlines() if line and not line.startswith(("import", "from"))] for b in BLOCKS[:2]
    )
    assert len(five) == 5
    assert len(ten) == 10
    assert all(len(line) <= 100 for b in BLOCKS for line in b.splitlines())


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(block, names)
    printed = capsys.readouterr().out
    for needed in ("CIDer", "MLP", "balanced_accuracy", "PairedComparison(estimate="):
        assert needed in printed
    assert {p.name for p in (tmp_path / "my_model").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert "| late_fusion | without:text | 1 |" in (tmp_path / "my_model" / "README.md").read_text()
