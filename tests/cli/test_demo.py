"""The demonstration: a picture that cannot be written is said before anything is trained."""

from pathlib import Path

import pytest

from affectcore import demo
from affectcore.errors import ConfigError


def test_a_folder_that_cannot_be_written_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(seed: int) -> demo.Scene:
        raise AssertionError("it trained")

    monkeypatch.setattr(demo, "_world", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"demo: cannot write to .*file: File exists"):
        demo.run(0, tmp_path / "file")


def test_real_data_that_is_absent_is_said_and_the_world_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(tmp_path))
    monkeypatch.setattr(demo, "MODELS", {"linear": "linear"})
    monkeypatch.setattr(demo, "SEEDS", 2)
    demo.run(0, tmp_path / "out")
    said = capsys.readouterr().out
    assert "Real data: cmu_mosei_video" in said
    assert "Bayes-optimal (ceiling)" in said
    assert (tmp_path / "out" / "demo.png").read_bytes().startswith(b"\x89PNG")
