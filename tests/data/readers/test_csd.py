"""Computational sequences: vectorised alignment against a naive twin, and a small generated set."""

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.data.readers import check, csd, load
from affectcore.errors import ConfigError, DataError


def naive(source: csd.Sequence, reference: np.ndarray, weights: str) -> tuple[np.ndarray, np.ndarray]:
    """Loops over every pair of interval and row: the definition."""
    out = np.zeros((len(reference), source.features.shape[1]))
    covered = np.zeros(len(reference), bool)
    for j, (start, end) in enumerate(reference):
        shares = [max(0.0, min(b, end) - max(a, start)) for a, b in source.intervals]
        covered[j] = any(s > 0 for s in shares)
        if not covered[j]:
            continue
        for d in range(source.features.shape[1]):
            pairs = [(s if weights == "overlap" else 1.0, x) for s, x in zip(shares, source.features[:, d]) if s > 0]
            pairs = [(w, x) for w, x in pairs if math.isfinite(x)]
            out[j, d] = sum(w * x for w, x in pairs) / sum(w for w, _ in pairs) if pairs else math.nan
    return out, covered


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 12), st.sampled_from(["overlap", "count"]))
def test_align_equals_the_naive_definition(seed: int, k: int, m: int, weights: str) -> None:
    r = np.random.default_rng(seed)
    grid = r.integers(0, 12, (k, 2)) / 4 if seed % 2 else r.uniform(0, 3, (k, 2))  # a grid makes edges meet exactly
    words = r.integers(0, 14, (m, 2)) / 4 if seed % 2 else r.uniform(-0.5, 4, (m, 2))
    x = r.normal(50, 10, (k, 3))
    x[r.random((k, 3)) < 0.2] = r.choice([np.nan, np.inf, -np.inf])
    source = csd.Sequence(np.sort(grid, 1), x)
    got, covered = csd.align(source, np.sort(words, 1), weights)  # type: ignore[arg-type]
    expected, should = naive(source, np.sort(words, 1), weights)
    np.testing.assert_array_equal(covered, should)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_a_long_sequence_loses_no_precision() -> None:
    frames = np.arange(60_000) / 100
    source = csd.Sequence(np.stack([frames, frames + 0.01], 1), np.random.default_rng(0).normal(200, 1, (60_000, 2)))
    words = np.array([[599.0, 599.3], [0.005, 0.006]])
    got, _ = csd.align(source, words)
    np.testing.assert_allclose(got[0], source.features[59_900:59_930].mean(0), rtol=1e-12)
    np.testing.assert_allclose(got[1], source.features[0], rtol=1e-12)


def write(path: Path, videos: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    with h5py.File(path, "w") as f:
        root = f.create_group("some_features")
        root.create_group("metadata")["root name"] = "some_features"
        for v, (t, x) in videos.items():
            g = root.create_group(f"data/{v}")
            g["intervals"], g["features"] = t, x
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Five videos of four segments of 3 s with 4 words each; audio at 10 Hz that stops after 10 s."""
    r = np.random.default_rng(0)
    word, segment, frame = np.arange(16) * 0.75, np.arange(4) * 3.0, np.arange(100) / 10
    words, audio, labels = {}, {}, {}
    for i in range(5):
        words[f"v{i}"] = np.stack([word, word + 0.75], 1), r.normal(size=(16, 6))
        audio[f"v{i}"] = np.stack([frame, frame + 0.1], 1), r.normal(size=(100, 3))
        labels[f"v{i}"] = np.stack([segment, segment + 3], 1), np.c_[r.uniform(-3, 3, 4), r.integers(0, 2, (4, 6))]
    labels["v9"] = labels["v0"]
    return {
        "words": write(tmp_path / "words.csd", words),
        "audio": write(tmp_path / "audio.csd", audio),
        "labels": write(tmp_path / "labels.csd", labels),
    }


def test_segments_become_word_sequences(files: dict[str, Path]) -> None:
    data = csd.load(files["words"], files["labels"], {"audio": files["audio"]})
    assert len(data) == 20
    assert data.dims == {"text": 6, "audio": 3}
    assert data.steps == {"text": 4, "audio": 4}
    b = data._all
    spoken, heard, marks = (csd.read(files[k]) for k in ("words", "audio", "labels"))
    row = 0
    for v in sorted(spoken):
        means, covered = naive(heard[v], spoken[v].intervals, "overlap")
        for s in range(4):
            here = slice(4 * s, 4 * s + 4)
            np.testing.assert_allclose(b.features["text"][row], spoken[v].features[here], rtol=1e-6)
            np.testing.assert_allclose(b.features["audio"][row], means[here], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(b.observed["audio"][row], covered[here])
            assert b.target[row].item() == pytest.approx(marks[v].features[s, 0])
            row += 1
    assert not b.observed["audio"].all()
    assert "1 of 6 labelled videos are missing in another file: left out" in data.notes
    assert any("words without audio: not observed" in n for n in data.notes)


def test_emotions_splits_and_cut(files: dict[str, Path]) -> None:
    splits = {"train": ["v0", "v1", "v2"], "valid": ["v3"], "test": ["v4", "elsewhere"]}
    data = csd.load(
        files["words"], files["labels"], {"audio": files["audio"]}, target="emotions", splits=splits, max_words=3
    )
    assert data.splits == {"train": 12, "valid": 4, "test": 4}
    assert data.task.kind == "multi_label"
    assert data.steps["text"] == 3
    assert "20 segments cut after 3 words" in data.notes
    with pytest.raises(ConfigError, match="split 'test' holds no segment"):
        csd.load(files["words"], files["labels"], {}, splits={"train": ["v0"], "test": ["x"]})


def test_infinities_are_refused_or_left_out_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    with h5py.File(files["audio"], "a") as f:
        f["some_features/data/v2/features"][3, 1] = -np.inf
    with pytest.raises(DataError, match=r"audio\.csd: data/features row 2 must be finite.*nonfinite='skip'"):
        csd.load(files["words"], files["labels"], {"audio": files["audio"]})
    data = csd.load(files["words"], files["labels"], {"audio": files["audio"]}, nonfinite="skip")
    heard, spoken = csd.read(files["audio"])["v2"], csd.read(files["words"])["v2"]
    np.testing.assert_allclose(
        data._all.features["audio"][8], naive(heard, spoken.intervals[:4], "overlap")[0], rtol=1e-5, atol=1e-6
    )


def _broken(path: Path, what: str) -> None:
    with h5py.File(path, "a") as f:
        g = f["some_features/data/v1"]
        if what == "no intervals":
            del g["intervals"]
        elif what == "rows":
            del g["intervals"]
            g["intervals"] = np.zeros((3, 2))
        elif what == "width":
            x = g["features"][:, :2]
            del g["features"]
            g["features"] = x
        elif what == "backwards":
            g["intervals"][2] = [5, 4]
        elif what == "NaN time":
            g["intervals"][2] = [np.nan, 4]
        elif what == "words":
            del g["features"]
            g["features"] = np.array([b"word"] * 100)
        elif what == "no data":
            del f["some_features/data"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no intervals", "data/intervals row 1 is missing for a video"),
        ("rows", "data row 1 must have as many features as intervals, at least 1, found 100 and 3"),
        ("width", "data/features row 1 must have 3 columns like the videos before, found 2"),
        ("backwards", "data/intervals row 1 must be finite with start <= end"),
        ("NaN time", "data/intervals row 1 must be finite with start <= end"),
        ("words", "data/features row 1 must be numbers"),
        ("no data", "the file must have one root group with a group 'data', found some_features"),
    ],
)
def test_what_is_broken_is_said_in_one_line(files: dict[str, Path], what: str, message: str) -> None:
    _broken(files["audio"], what)
    with pytest.raises(DataError) as e:
        csd.read(files["audio"])
    assert str(e.value).startswith(f"{files['audio']}: {message}")
    assert "\n" not in str(e.value)
    assert str(check(files["audio"])[0]) == str(e.value)


def test_truncated_absent_and_single_files(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["audio"].read_bytes()
    for n in (0, 100, len(whole) // 2):
        (tmp_path / "cut.csd").write_bytes(whole[:n])
        with pytest.raises(DataError, match=r"cut\.csd: the file is not a whole HDF5 file"):
            csd.read(tmp_path / "cut.csd")
    with pytest.raises(DataError, match="no such file"):
        csd.read(tmp_path / "none.csd")
    with pytest.raises(ConfigError, match=r"a \.csd file holds one modality"):
        load(files["audio"])
    assert check(files["audio"]) == []


def test_files_without_a_common_video_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other.csd", {"x": (np.array([[0.0, 1.0]]), np.ones((1, 2)))})
    with pytest.raises(DataError, match="must share at least one video"):
        csd.load(other, files["labels"], {})


def test_the_strongest_emotion_alone(files: dict[str, Path], tmp_path: Path) -> None:
    marks = csd.read(files["labels"])
    r = np.random.default_rng(1)
    graded = {}
    for v, s in marks.items():
        y = np.c_[s.features[:, :1], r.integers(0, 4, (4, 6)) / 3]
        y[0, 1:] = 0  # no emotion
        y[1, 1:] = (0, 2 / 3, 2 / 3, 0, 0, 0)  # two equals
        graded[v] = s.intervals, y
    files["labels"] = write(tmp_path / "graded.csd", graded)
    data = csd.load(files["words"], files["labels"], {"audio": files["audio"]}, target="emotion")
    assert (data.task.kind, len(data.task.names), len(data)) == ("single_label", 6, 15)
    expected = [
        int(y[i, 1:].argmax()) for v in sorted(graded) if v != "v9" for i, y in [(i, graded[v][1]) for i in (1, 2, 3)]
    ]
    np.testing.assert_array_equal(data._all.target, expected)
    assert data._all.target[0] == 1
    assert "5 segments without emotion left out" in data.notes
    tied = sum(
        int((graded[v][1][i, 1:] == graded[v][1][i, 1:].max()).sum() > 1)
        for v in graded
        if v != "v9"
        for i in (1, 2, 3)
    )
    assert f"{tied} ties go to the first emotion" in data.notes
    none = {v: (t, np.zeros_like(y)) for v, (t, y) in graded.items()}
    with pytest.raises(DataError, match="at least one emotion"):
        csd.load(files["words"], write(tmp_path / "n.csd", none), {"audio": files["audio"]}, target="emotion")


def test_a_folder_is_read_by_the_names_of_its_files(files: dict[str, Path], tmp_path: Path) -> None:
    there = tmp_path / "sdk"
    there.mkdir()
    with pytest.raises(DataError, match="own format"):
        load(there)
    for key, name in (("words", "CMU_MOSEI_TimestampedWordVectors"), ("labels", "CMU_MOSEI_Labels")):
        files[key].rename(there / f"{name}.csd")
    with pytest.raises(DataError, match="any modality beside text is missing"):
        load(there)
    audio = files["audio"].rename(there / "CMU_MOSEI_COVAREP.csd")
    assert load(there, target="emotions").dims == {"text": 6, "audio": 3}
    assert check(there) == []
    write(there / "audio.csd", {})
    assert len(check(there)) == 1
    with pytest.raises(DataError, match=r"CMU_MOSEI_COVAREP.csd is audio as well"):
        load(there)
    (there / "audio.csd").rename(there / "smell.csd")
    with pytest.raises(DataError, match="it says none"):
        load(there)
    (there / "smell.csd").unlink()
    audio.rename(tmp_path / "elsewhere")
    (there / "CMU_MOSEI_Labels.csd").unlink()
    with pytest.raises(DataError, match="labels is missing"):
        load(there)
