"""The public sets: their traps are defaults. Tiny generated bundles always, the real ones where they are present."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from affectcore.data import catalog, stand_in
from affectcore.data.readers import bundles, check, load, table
from affectcore.data.schema import AffectData, Selection
from affectcore.data.transform import gaussianise
from affectcore.errors import ConfigError, DataError, TestLocked

TEST = Selection("fixed")
real = pytest.mark.skipif("AFFECTCORE_DATA" not in os.environ, reason="real data not present")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFECTCORE_DATA", str(tmp_path))
    return stand_in.write(tmp_path)


def test_mosei_drops_infinities_and_shortcuts(root: Path) -> None:
    z = mosei_arrays(root)
    data = load("cmu_mosei_video")
    assert data.dims == {"text": 8, "audio": 39, "vision": 33}
    b = data._all
    np.testing.assert_array_equal(b.features["audio"][:, 0], np.delete(z["audio"], 7, 1))
    np.testing.assert_array_equal(b.features["vision"][:, 0], z["video"][:, 2:])
    assert data.splits == {"train": 24, "valid": 8, "test": 4}
    assert load("cmu_mosei_video", outside="train").splits["train"] == 28
    assert any("peakSlope" in n for n in data.notes)
    emotions = load("cmu_mosei_video", target="emotions")._all.target
    np.testing.assert_array_equal(emotions, z["emotion_frac"] >= 1 / 3)
    assert emotions[0].all()  # exactly a third counts as present
    with pytest.raises(TestLocked):
        data.split("test")


def test_mosei_s_four_frequent_emotions(root: Path) -> None:
    z, data = mosei_arrays(root), load("cmu_mosei_video", target="emotion_four")
    each = z["label_mean"][:, 1:]
    strongest = [int(np.argmax(r)) if r.max() > 0 else -1 for r in each]
    four = sorted(sorted(range(6), key=lambda c: -strongest.count(c))[:4])
    rows = [i for i, c in enumerate(strongest) if c in four]
    assert data.task.names == tuple(("happy", "sad", "anger", "surprise", "disgust", "fear")[c] for c in four)
    assert data._all.target.tolist() == [four.index(strongest[i]) for i in rows]
    assert torch.equal(data._all.features["text"][:, 0], torch.from_numpy(z["text"][rows]))
    assert f"{len(each) - len(rows)} videos without emotion" in data.notes[0]


def mosei_arrays(root: Path) -> dict[str, Any]:
    with np.load(root / "cmu_mosei_video/features.npz") as z:
        return dict(z)


def test_mosi_offers_label_informed_columns_by_name_and_on_unseen_videos_alone(root: Path) -> None:
    data = load("cmu_mosi_utt")
    assert data.dims == {"text": 4, "audio": 2}
    assert any("text_cnn and vision left out" in n for n in data.notes)
    informed = load("cmu_mosi_utt", label_informed=True)
    assert informed.modalities == ("text", "audio", "vision", "text_cnn")
    assert len(informed) == stand_in.MOSI // 2
    with np.load(root / "cmu_mosi_utt/features.npz") as z:
        np.testing.assert_array_equal(informed._all.features["text_cnn"][:, 0], z["text_cnn"][: stand_in.MOSI // 2])
    assert informed.name != data.name


def test_mosi_words_are_sequences_of_their_vectors(root: Path) -> None:
    data = load("cmu_mosi_utt", text="glove_words", max_words=5)
    with np.load(root / "cmu_mosi_utt/words.npz") as w:
        offsets, tokens, glove = w["offsets"], w["token_ids"], w["glove"].astype("f4")
    length = np.diff(offsets)
    b = data._all
    np.testing.assert_array_equal(b.lengths["text"], np.minimum(length, 5))
    for i in range(len(data)):
        words = tokens[offsets[i] : offsets[i + 1]][:5]
        np.testing.assert_array_equal(b.features["text"][i, : len(words)], glove[words])
        np.testing.assert_array_equal(b.extras["token_ids"][i, : len(words)], words)
        assert (b.extras["token_ids"][i, len(words) :] == 1).all()
    assert f"words of {(length > 5).sum()} utterances cut after 5" in data.notes


def test_ids_that_do_not_match_are_refused(root: Path) -> None:
    u = pd.read_csv(root / "cmu_mosi_utt/utterances.csv", keep_default_na=False)
    u.loc[3, "utt_id"] = "other"
    u.to_csv(root / "cmu_mosi_utt/utterances.csv", index=False)
    with pytest.raises(DataError, match=r"features\.npz: utt_id row 3 differs from utterances\.csv"):
        load("cmu_mosi_utt")


def test_a_word_that_reads_like_missing_is_a_word(root: Path) -> None:
    assert table("cmu_mosi_utt").text[0] == "NA"
    assert table("meld_text").text.str.startswith("null").all()


def test_swell_keeps_natural_gaps_as_masks(root: Path) -> None:
    data = load("swell_kw", standardise="none")
    with np.load(root / "swell_kw/features.npz") as f:
        z = dict(f)
    work = z["condition"] != "R"
    assert len(data) == work.sum() == 108
    b = data._all
    gone = np.isnan(z["physiology"][work]).all(1)
    np.testing.assert_array_equal(b.observed["physiology"][:, 0], ~gone)
    assert gone.sum() == 3
    hole = np.flatnonzero(np.arange(144)[work] == 30)[0]
    mean = np.nanmean(z["physiology"][24:48, 1])
    assert b.features["physiology"][hole, 0, 1].item() == pytest.approx(mean, rel=1e-5)
    np.testing.assert_array_equal(b.target, (z["condition"][work] != "N").astype(int))


def test_swell_standardises_inside_each_participant(root: Path) -> None:
    b = load("swell_kw")._all
    for m in ("facial", "computer"):
        for g in range(6):
            assert abs(b.features[m][b.group == g].mean()) < 0.5  # relaxation takes part, so not exactly 0
    raw = load("swell_kw", standardise="none")._all
    assert raw.features["facial"][raw.group == 2].mean() > 50


def test_windows_never_cross_a_gap_a_block_or_a_person(root: Path) -> None:
    data = load("swell_kw", window=3, stride=1, standardise="none", target="condition")
    with np.load(root / "swell_kw/features.npz") as f:
        z = dict(f)
    minute = pd.to_datetime(pd.Series(z["timestamp"]).str[:13], format="%Y%m%dT%H%M")
    expected = []
    for i in range(142):  # the definition, row by row
        same = all(len(set(z[k][i : i + 3].tolist())) == 1 for k in ("participant", "block", "condition"))
        if same and z["condition"][i] != "R" and minute[i + 2] - minute[i] == pd.Timedelta(minutes=2):
            expected.append(z["facial"][i : i + 3])
    np.testing.assert_array_equal(data._all.features["facial"], np.array(expected))
    assert data.steps["facial"] == 3
    assert len(load("swell_kw", window=3)) < len(data)
    with pytest.raises(ConfigError, match="window=40 is longer"):
        load("swell_kw", window=40)


def test_self_reports_come_on_their_scale(root: Path) -> None:
    task = load("swell_kw", target="stress_rating").task
    assert (task.kind, task.low, task.high) == ("regression", 0, 10)


def test_crema_never_feeds_the_audio_visual_votes(root: Path) -> None:
    data = load("crema_d_votes", target="av_labels")
    assert data.modalities == ("voice", "face")
    with np.load(root / "crema_d_votes/votes.npz") as f:
        z = dict(f)
    share = z["av_votes"] / z["av_votes"].sum(1, keepdims=True)
    np.testing.assert_array_equal(data._all.target, share >= 0.2)
    b = data._all
    np.testing.assert_allclose(b.features["face"][:, 0, :6], z["face_votes"] / 10, rtol=1e-6)
    np.testing.assert_allclose(b.features["face"][:, 0, 6:], np.nan_to_num(z["face_level"]) / 100, rtol=1e-6)
    np.testing.assert_array_equal(b.extras["level"][:4], [0, 1, 2, 3])
    moved = {k: v for k, v in z.items() if not k.startswith("av_")} | {"av_votes": z["av_votes"][::-1]}
    np.savez(root / "crema_d_votes/votes.npz", **moved)
    other = load("crema_d_votes")._all
    assert all(np.array_equal(other.features[m], b.features[m]) for m in ("voice", "face"))


def test_meld_numbers_dialogues_per_split_and_fits_on_train_alone(root: Path) -> None:
    data = load("meld_text", components=3)
    b = data._all
    assert len(b.group.unique()) == 24
    assert data.splits == {"train": 40, "valid": 40, "test": 40}
    u = table("meld_text")
    u.loc[u.split == "test", "text"] = "quite other words"
    u.to_csv(root / "meld_text/utterances.csv.gz", index=False)
    again = load("meld_text", components=3)
    np.testing.assert_array_equal(again.split("train").features["text"], data.split("train").features["text"])
    u.loc[5, "emotion"] = "boredom"
    u.to_csv(root / "meld_text/utterances.csv.gz", index=False)
    with pytest.raises(DataError, match="meld_text: emotion row 5 is 'boredom', must be one of neutral"):
        load("meld_text", components=3)


@pytest.mark.parametrize("name", ["cmu_mosei_video", "cmu_mosi_utt", "swell_kw", "crema_d_votes"])
def test_damaged_bundles_are_one_line(root: Path, name: str) -> None:
    path = catalog.locate(name)
    whole = path.read_bytes()
    for n in (0, 50, len(whole) // 2):
        path.write_bytes(whole[:n])
        with pytest.raises(DataError) as e:
            load(name)
        assert str(e.value).startswith(f"{path}: is not a whole npz file")
    path.write_bytes(whole)
    with np.load(path) as z:
        arrays = dict(z)
    del arrays[{"cmu_mosei_video": "audio", "cmu_mosi_utt": "audio", "swell_kw": "labels"}.get(name, "intended")]
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"field '\w+' is missing, the file has"):
        load(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cmu_mosei_video", {"target": "arousal"}, "cmu_mosei_video: target='arousal' is unknown: use sentiment"),
        ("cmu_mosei_video", {"window": 3}, "cmu_mosei_video: option 'window' is unknown: there are target, outside"),
        ("cmu_mosi_utt", {"text": "bert"}, "text='bert' is unknown"),
        ("cmu_mosi_utt", {"max_words": 0}, "max_words=0 must be at least 1"),
        ("swell_kw", {"stride": 0}, "stride=0 must be at least 1"),
        ("cmu_mosei_labels", {}, "cmu_mosei_labels holds no features: use affectcore.data.readers.table"),
        ("cmu_mosei", {}, "'cmu_mosei' is neither a file, nor a folder, nor a known set: the sets are cmu_mosei_video"),
    ],
)
def test_unknown_names_and_options_say_what_there_is(root: Path, name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as e:
        load(name, **options)
    assert message in str(e.value)


def test_an_absent_set_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"data fetch cmu_mosi_utt.*AFFECTCORE_DATA"):
        load("cmu_mosi_utt")


def test_every_entry_of_the_catalog_is_whole_and_its_options_exist() -> None:
    for e in catalog.CATALOG.values():
        assert e.description
        assert e.licence
        assert e.files
        assert all(sha is None or len(sha) == 64 for sha in e.files.values())
        if e.name in bundles.READERS:
            import inspect

            assert set(e.options) == set(inspect.signature(bundles.READERS[e.name]).parameters) - {"splits"}
    assert set(bundles.READERS) == {e.name for e in catalog.CATALOG.values() if e.kind == "features"} - {
        n for n in catalog.CATALOG if n.startswith(("mmsa_", "cider_", "cross_"))
    }


def test_check_names_a_changed_bundle(root: Path) -> None:
    found = check(root / "crema_d_votes")
    assert len(found) == 1
    assert "must have SHA-256 3465c778" in str(found[0])
    (root / "cmu_mosi_utt/words.npz").unlink()
    assert any("words.npz: the file is missing" in str(p) for p in check(root / "cmu_mosi_utt"))


# Real data


def rows(data: AffectData, split: str) -> Any:
    return data.split(split, TEST)


REAL: list[tuple[str, dict[str, Any], dict[str, int], dict[str, int]]] = [
    ("cmu_mosei_video", {}, {"train": 635, "valid": 86, "test": 180}, {"text": 768, "audio": 39, "vision": 33}),
    ("cmu_mosi_utt", {}, {"train": 1284, "valid": 229, "test": 686}, {"text": 300, "audio": 73}),
    ("meld_text", {}, {"train": 9989, "valid": 1109, "test": 2610}, {"text": 100}),
]  # fmt: skip


@real
@pytest.mark.parametrize(("name", "options", "splits", "dims"), REAL)
def test_real_sets_have_their_published_sizes(name: str, options: dict, splits: dict, dims: dict) -> None:
    data = load(name, **options)
    assert data.splits == splits
    assert data.dims == dims


@real
def test_real_files_are_the_ones_of_the_catalog() -> None:
    assert [line for e in catalog.CATALOG.values() if e.present for line in catalog.verify(e.name)] == []
    assert check(catalog.root()) == []


@real
def test_real_label_statistics() -> None:
    data = load("cmu_mosei_video", target="emotions")
    np.testing.assert_allclose(data._all.target.mean(0), [0.71, 0.36, 0.28, 0.10, 0.20, 0.15], atol=0.006)
    swell = load("swell_kw")
    assert len(swell) == 2688
    assert len(load("cmu_mosi_utt", label_informed=True)) == 752
    assert len(load("crema_d_votes")) == 7442
    assert len(load("cmu_mosi_wordlevel")) == 229
    gone = {m: 1 - swell._all.observed[m].float().mean().item() for m in swell.modalities}
    assert gone["computer"] == 0
    assert 0.1 < gone["physiology"] < 0.2


@real
def test_the_stored_linear_baseline_is_met_through_the_reader_and_the_scaler() -> None:
    stored = json.loads((catalog.root() / "baselines.json").read_text())
    row = next(
        r for r in stored
        if r["dataset"] == "cmu_mosei_video" and r["block"] == "text" and r["model"] == "LR C=0.003"
        and r["protocol"].startswith("standard")
    )  # fmt: skip
    data = gaussianise(load("cmu_mosei_video", target="sentiment_positive"))
    a, b = rows(data, "train"), rows(data, "test")
    model = LogisticRegression(C=0.003, max_iter=3000).fit(a.features["text"][:, 0], a.target)
    score = model.predict_proba(b.features["text"][:, 0])[:, 1]
    assert roc_auc_score(b.target, score) == pytest.approx(row["auc"], abs=0.002)
    assert ((score > 0.5) == b.target.numpy()).mean() == pytest.approx(row["acc"], abs=0.006)


@real
def test_stress_is_read_as_well_as_the_stored_baseline() -> None:
    stored = json.loads((catalog.root() / "baselines.json").read_text())
    row = next(r for r in stored if r["dataset"] == "swell_kw" and r["block"] == "physiology")
    b = load("swell_kw")._all
    x, y, g = b.features["physiology"][:, 0].numpy(), b.target.numpy(), b.group.numpy()
    score = np.zeros(len(y))
    for a, t in GroupKFold(25).split(x, groups=g):
        fitted = LogisticRegression(C=0.01, class_weight="balanced").fit(x[a], y[a])
        score[t] = fitted.predict_proba(x[t])[:, 1]
    assert roc_auc_score(y, score) == pytest.approx(row["auc"], abs=0.02)
