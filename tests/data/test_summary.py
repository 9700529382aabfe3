"""The stored aggregates of the data chapter: of the right form, without ids, and equal to the real data's."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affectcore.data import catalog, summary
from affectcore.data.readers import table
from affectcore.errors import DataError

real = pytest.mark.skipif("AFFECTCORE_DATA" not in os.environ, reason="real data not present")


def same_form(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same_form(a[k], b[k]) for k in a)
    return isinstance(b, list) if isinstance(a, list) else type(a) is type(b)


def numbers(x: object) -> list[float]:
    if isinstance(x, dict | list):
        return [n for v in (x.values() if isinstance(x, dict) else x) for n in numbers(v)]
    return [float(x)] if isinstance(x, int | float) else []


def test_generated_files_give_a_summary_of_the_stored_form() -> None:
    made = json.loads(json.dumps(summary.get("smoke", None)))
    assert same_form(summary.get("committed", None), made)
    assert np.isfinite(numbers(made)).all()
    assert made["source"] == "generated"


def test_a_folder_that_lacks_a_set_gives_generated_numbers_and_says_so(tmp_path: Path) -> None:
    assert summary.get("smoke", tmp_path)["source"] == "generated"
    assert summary.get("committed", None)["source"] == "real"


def test_an_absent_summary_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path))
    with pytest.raises(DataError, match=r"summary\.json: the stored summary cannot be read"):
        summary.get("committed", None)


def test_the_expected_runs_are_those_of_drawn_masks() -> None:
    r = np.random.default_rng(0)
    block, gone = np.repeat(np.arange(3), 40), r.random((120, 2)) < [0.3, 0.1]
    share, count, draws = gone.mean(0), np.zeros(61), 4000
    for _draw in range(draws):
        for m in range(2):
            for _ in range(3):
                edge = np.flatnonzero(np.diff(np.r_[0, r.random(40) < share[m], 0]))
                np.add.at(count, edge[1::2] - edge[::2], 1)
    np.testing.assert_allclose(summary._independent_runs(gone, block), count / draws, atol=0.12)


@real
def test_the_stored_summary_is_that_of_the_real_data() -> None:
    stored, now = summary.get("committed", None), summary.summarise(catalog.root())
    assert same_form(stored, now)
    np.testing.assert_allclose(numbers(now), numbers(stored), atol=0.004)


@real
def test_the_stored_summary_holds_no_id() -> None:
    text = summary.stored().read_text()
    ids = set(table("cmu_mosi_utt").video_id) | set(table("cmu_mosei_labels").video_id)
    assert not [i for i in ids if len(i) > 6 and i in text]


def test_one_emotion_a_sample_is_the_first_of_the_strongest(tmp_path: Path) -> None:
    folder = tmp_path / "cmu_mosei_labels"
    folder.mkdir()
    rows = [  # video, segment, happy, sad, anger, surprise, disgust, fear; not in the order of the file's segments
        ("b", 1, 0, 0, 0, 1, 0, 1),  # tied: surprise comes first
        ("b", 0, 0, 0, 0, 0, 0, 0),  # the video's first segment has none
        ("b", 2, 0, 0, 0, 0, 0, 0),
        ("a", 0, 1, 0, 0, 0, 0, 2),
    ]
    columns = ["video_id", "segment", *summary.EMOTIONS]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "segments.csv.gz", index=False)
    found = {k: v if isinstance(v, dict) else list(v) for k, v in summary.single_label(tmp_path).items()}
    assert found["segment"] == [0, 0, 0, 1, 0, 1]
    assert found["first"] == [0, 0, 0, 0, 0, 1]
    assert found["segment_any"] == [1, 0, 0, 1, 0, 2]
    assert found["video_any"] == [1, 0, 0, 1, 0, 2]
    assert found["n"] == {"segment": 4, "first": 2}
    assert found["none"] == {"segment": 2, "first": 1}
    assert found["tied"] == {"segment": 1, "first": 0}
