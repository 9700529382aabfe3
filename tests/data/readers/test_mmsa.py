"""MMSA-format pickles: what is read, every trap by its name, and one clear line for what is broken."""

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from affectcore.data.readers import check, load
from affectcore.data.schema import AffectData, Selection
from affectcore.errors import ConfigError, DataError, UnsafePickleError

TEST = Selection("fixed")
SIZES = {"train": 8, "valid": 4, "test": 4}


def make(aligned: bool, *, vectors: bool = True, sims: bool = False) -> dict[str, Any]:
    """A tiny file in the layout of the MMSA release: 6 tokens, audio 6 or 9 steps, vision 6 or 11."""
    r = np.random.default_rng(0)
    raw: dict[str, Any] = {}
    for s, (split, n) in enumerate(SIZES.items()):
        tokens = r.integers(3, 7, n)
        mask = np.arange(6) < tokens[:, None]
        top = 1.0 if sims else 3.0
        score = np.round(r.uniform(-top, top, n), 1)
        part: dict[str, Any] = {
            "raw_text": np.array(["a b"] * n, dtype=object),
            "id": [f"v{s}{i // 2}$_${i}" for i in range(n)],
            "text_bert": np.stack([r.integers(100, 999, (n, 6)) * mask, mask, 0 * mask], 1).astype(np.float64),
            "audio": r.normal(size=(n, 6 if aligned else 9, 5)),
            "vision": r.normal(size=(n, 6 if aligned else 11, 4)),
            "regression_labels": score,
            "classification_labels": np.sign(score) + 1,
            "annotations": ["Negative"] * n,
        }
        if vectors:
            part["text"] = r.normal(size=(n, 6, 7)).astype(np.float32)
        if not aligned:
            part["audio_lengths"] = [int(k) for k in r.integers(1, 10, n)]
            part["vision_lengths"] = r.integers(1, 12, n)
        if sims:
            part |= {f"regression_labels_{k}": r.uniform(-1, 1, n) for k in "TAV"}
        raw[split] = part
    return raw


def write(folder: Path, raw: object, joblib_dump: bool = False) -> Path:
    path = folder / "set.pkl"
    if joblib_dump:
        joblib.dump(raw, path, compress=3)
    else:
        path.write_bytes(pickle.dumps(raw))
    return path


@pytest.mark.parametrize("joblib_dump", [False, True])
@pytest.mark.parametrize("aligned", [False, True])
def test_values_lengths_splits_and_groups(tmp_path: Path, aligned: bool, joblib_dump: bool) -> None:
    raw = make(aligned)
    data = load(write(tmp_path, raw, joblib_dump))
    assert data.modalities == ("text", "audio", "vision")
    assert data.dims == {"text": 7, "audio": 5, "vision": 4}
    assert data.splits == SIZES
    for split in SIZES:
        b, part = data.split(split, TEST), raw[split]
        tokens = part["text_bert"][:, 1].sum(1)
        np.testing.assert_array_equal(b.lengths["text"], tokens)
        for m in ("audio", "vision"):
            expected = tokens if aligned else np.array(part[f"{m}_lengths"])
            np.testing.assert_array_equal(b.lengths[m], expected)
            for i, k in enumerate(expected.astype(int)):
                np.testing.assert_allclose(b.features[m][i, :k], part[m][i, :k], rtol=1e-6)
                assert not b.features[m][i, k:].any()
        np.testing.assert_allclose(b.target, part["regression_labels"], rtol=1e-6)
        np.testing.assert_array_equal(b.extras["text_bert"], part["text_bert"])
    assert len(data.group.unique()) == 4 + 2 + 2


def test_targets_follow_their_named_rule(tmp_path: Path) -> None:
    raw = make(True)
    path = write(tmp_path, raw)
    y = np.concatenate([raw[s]["regression_labels"] for s in SIZES])
    rules = {
        "sentiment_nonnegative": (y >= 0),
        "sentiment_positive": (y > 0),
        "sentiment_class3": np.sign(y) + 1,
        "sentiment_class7": np.rint(y) + 3,
        "file_classes": np.sign(y) + 1,
    }
    for target, expected in rules.items():
        np.testing.assert_array_equal(load(path, target=target)._all.target, expected.astype(int), err_msg=target)


def test_a_file_without_vectors_gives_tokens(tmp_path: Path) -> None:
    raw = make(False, vectors=False)
    data = load(write(tmp_path, raw))
    ids = data.split("train").features["text"][:, :, 0]
    np.testing.assert_array_equal(ids, raw["train"]["text_bert"][:, 0])
    with pytest.raises(DataError, match=r"set\.pkl: text='vectors' needs the field text"):
        load(write(tmp_path, raw), text="vectors")


def test_lengths_without_a_mask_come_from_the_last_step_that_is_not_zero(tmp_path: Path) -> None:
    raw = make(True)
    for part in raw.values():
        mask = part.pop("text_bert")[:, 1]
        part["text"] *= mask[:, :, None]
        part["lengths"] = mask.sum(1)
    data = load(write(tmp_path, raw))
    np.testing.assert_array_equal(data.split("train").lengths["text"], raw["train"]["lengths"])


def test_sims_has_its_own_scale_and_unimodal_labels(tmp_path: Path) -> None:
    raw = make(False, sims=True)
    data = load(write(tmp_path, raw))
    assert (data.task.low, data.task.high) == (-1.0, 1.0)
    np.testing.assert_allclose(
        data.split("train").extras["label_vision"], raw["train"]["regression_labels_V"], rtol=1e-6
    )


def test_infinite_audio_is_refused_or_zeroed_by_name(tmp_path: Path) -> None:
    raw = make(True)
    raw["valid"]["audio"][2, 1, 3] = -np.inf
    path = write(tmp_path, raw)
    with pytest.raises(DataError, match=r"set\.pkl: valid/audio row 2 must be finite, found -inf.*nonfinite='zero'"):
        load(path)
    data = load(path, nonfinite="zero")
    assert data.split("valid").features["audio"][2, 1, 3] == 0
    assert "1 values of audio that were not finite set to 0 (1 samples)" in data.notes


def test_zero_lengths_are_refused_dropped_or_kept_by_name(tmp_path: Path) -> None:
    raw = make(False)
    raw["train"]["audio_lengths"][5] = 0
    path = write(tmp_path, raw)
    with pytest.raises(DataError, match=r"train/audio row 5 must have a length of at least 1, found 0.*one_step"):
        load(path)
    dropped = load(path, zero_length="drop")
    assert dropped.splits["train"] == 7
    kept = load(path, zero_length="one_step")
    b = kept.split("train")
    assert int(b.lengths["audio"][5]) == 1
    assert not b.observed["audio"][5].any()
    assert not b.features["audio"][5].any()
    for data in (dropped, kept):
        assert any("1 samples with audio of length 0" in n for n in data.notes)


def test_videos_in_train_and_test_are_counted(tmp_path: Path) -> None:
    raw = make(True)
    raw["test"]["id"][0] = "v00$_$77"
    assert any("1 videos have clips both in train and in test" in n for n in load(write(tmp_path, raw)).notes)


def _break(raw: dict[str, Any], what: str) -> dict[str, Any]:
    part = raw["valid"]
    if what == "no split":
        del raw["test"]
    elif what == "no audio":
        del part["audio"]
    elif what == "no text":
        del part["text"], part["text_bert"]
    elif what == "wrong dims":
        part["vision"] = part["vision"][:, :, 0]
    elif what == "other width":
        part["vision"] = part["vision"][:, :, :2]
    elif what == "rows":
        part["audio"] = part["audio"][:2]
    elif what == "ids":
        part["id"] = part["id"][:3]
    elif what == "twice":
        raw["test"]["id"][1] = part["id"][0]
    elif what == "NaN label":
        part["regression_labels"][1] = np.nan
    elif what == "label":
        part["regression_labels"][3] = 4.5
    elif what == "class":
        part["classification_labels"][0] = 9
    elif what == "mask":
        part["text_bert"][2, 1, 0] = 5
    elif what == "long":
        part["audio_lengths"][2] = 99
    elif what == "fraction":
        part["audio_lengths"] = [1.5, 1, 1, 1]
    elif what == "no lengths":
        del part["vision_lengths"]
    elif what == "text array":
        part["audio"] = "nothing"
    return raw


BROKEN = {
    "no split": "the file must be a dict of train, valid and test",
    "no audio": "valid/audio is missing, found only",
    "no text": "valid/text or text_bert is missing",
    "wrong dims": "valid/vision must be numbers of shape (4, steps, features), found shape (4, 11)",
    "other width": "valid/vision must have the shape (N, (11, 4)) of the splits before, found (4, 11, 2)",
    "rows": "valid/audio must be numbers of shape (4, steps, features), found shape (2, 9, 5)",
    "ids": "valid/id must have 4 rows like regression_labels, found 3",
    "twice": "id row 8 must be unique over all splits",
    "NaN label": "valid/regression_labels row 1 must lie in -3..3, found nan",
    "label": "valid/regression_labels row 3 must lie in -3..3, found 4.5",
    "class": "valid/classification_labels row 0 must be class numbers 0..6, found 9",
    "mask": "valid/text_bert row 2 must have an attention mask of 0 and 1",
    "long": "valid/audio_lengths row 2 must be whole numbers in 0..9, found 99",
    "fraction": "valid/audio_lengths row 0 must be whole numbers in 0..9, found 1.5",
    "no lengths": "valid/vision_lengths is missing, and vision is not aligned with the text (11 steps against 6)",
    "text array": "valid/audio must be numbers of shape (4, steps, features), found a str",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_said_in_one_line(tmp_path: Path, what: str) -> None:
    path = write(tmp_path, _break(make(False), what))
    with pytest.raises(DataError) as e:
        load(path)
    assert str(e.value).startswith(f"{path}: {BROKEN[what]}")
    assert "\n" not in str(e.value)
    found = check(path)
    assert str(found[0]) == str(e.value)


def test_check_lists_every_problem_and_nothing_for_a_good_file(tmp_path: Path) -> None:
    raw = make(False)
    assert check(write(tmp_path, raw)) == []
    raw["train"]["audio"][0, 0, 0] = np.nan
    raw["valid"]["audio_lengths"][1] = 0
    raw["test"]["regression_labels"][1] = -7
    fields = [(p.field, p.row) for p in check(write(tmp_path, raw))]
    assert fields == [("train/audio", 0), ("valid/audio", 1), ("test/regression_labels", 1)]


def test_hostile_and_truncated_files_reach_the_caller_as_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, make(True))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="truncated"):
        load(path)
    path.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafePickleError, match=r"posix\.system"):
        load(path)
    assert "posix.system" in str(check(path)[0])


def test_unknown_options_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, make(True))
    with pytest.raises(ConfigError, match="option 'tarfet' is unknown: there are target, text"):
        load(path, tarfet="sentiment")
    for option in ("target", "text", "nonfinite", "zero_length"):
        with pytest.raises(ConfigError, match=f"{option}='x' is unknown"):
            load(path, **{option: "x"})


def test_a_known_name_says_where_to_get_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"mmsa_mosi_aligned: .*aligned_50\.pkl is not here; get it from"):
        load("mmsa_mosi_aligned")
    (tmp_path / "CMU-MOSI" / "Processed").mkdir(parents=True)
    write(tmp_path, make(True)).rename(tmp_path / "CMU-MOSI" / "Processed" / "aligned_50.pkl")
    data = load("mmsa_mosi_aligned")
    assert isinstance(data, AffectData)
    assert data.name == "mmsa_mosi_aligned"
    found = check(tmp_path / "CMU-MOSI" / "Processed" / "aligned_50.pkl")
    assert [p.rule.split(" ")[2] for p in found] == ["SHA-256"]
