"""Aggregates of the public sets for the data chapter: counts, shares, correlations and scores, no row of anything.

`python -m affectcore.data.summary` computes them from the real files and writes results/data/summary.json; a test holds
the stored file to the real data. A chapter calls `get`.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from affectcore import streams
from affectcore.data import stand_in
from affectcore.data.readers.bundles import EMOTIONS, SWELL, arrays, csv
from affectcore.errors import DataError

Array = NDArray[Any]


def stored() -> Path:
    """Return where the summary lies: below $AFFECTCORE_RESULTS, else below results/ beside the package."""
    results = os.environ.get("AFFECTCORE_RESULTS") or Path(__file__).parents[2] / "results"
    return Path(results) / "data" / "summary.json"


FILES = (
    "cmu_mosi_utt/features.npz",
    "cmu_mosi_utt/utterances.csv",
    "cmu_mosei_video/features.npz",
    "cmu_mosei_labels/segments.csv.gz",
    "swell_kw/features.npz",
    "crema_d_votes/votes.npz",
)


def get(profile: str, data: Path | None) -> dict[str, Any]:
    """Return the aggregates as the profile wants them, by section (the functions below), lists and numbers only.

    "committed" reads the stored file; other profiles compute from the real files in `data`. Where one of FILES is not
    there, all come from generated files of the same form, "source" is "generated" instead of "real", and the numbers
    only show that everything runs.
    """
    if profile == "committed":
        try:
            return dict(json.loads(stored().read_text("utf-8")))
        except OSError as e:
            raise DataError(f"{stored()}: the stored summary cannot be read: {e.strerror}") from e
    if data is not None and all((data / f).is_file() for f in FILES):
        return summarise(data)
    with tempfile.TemporaryDirectory() as folder:
        return summarise(stand_in.write(Path(folder))) | {"source": "generated"}


def summarise(root: Path) -> dict[str, Any]:
    """Return all sections computed from the files below `root`, floats rounded to four decimals."""
    sections = {
        "leakage": leakage(root),
        "shortcut": shortcut(root),
        "infinite": infinite(root),
        "sentiment": sentiment(root),
        "emotions": emotions(root),
        "single_label": single_label(root),
        "missing": missing(root),
        "conflict": conflict(root),
    }
    return {"source": "real"} | {name: _rounded(value) for name, value in sections.items()}


def _rounded(x: Any) -> Any:
    if isinstance(x, dict):
        return {str(k): _rounded(v) for k, v in x.items()}
    if isinstance(x, list | tuple | np.ndarray):
        return [_rounded(v) for v in x]
    if isinstance(x, float | np.floating):
        return round(float(x), 4)
    return int(x) if isinstance(x, np.integer) else x


@dataclass(frozen=True)
class Score:
    """A score with the 95 % percentile interval of a bootstrap over groups."""

    value: float
    low: float
    high: float


def _grouped_interval(correct: Array, groups: Array, purpose: str, draws: int = 2000) -> Score:
    """Mean of `correct` and its interval when whole groups are drawn with replacement."""
    number = np.unique(groups, return_inverse=True)[1]
    hits, size = np.bincount(number, correct), np.bincount(number)
    take = streams.rng(0, "summary", purpose).integers(0, len(size), (draws, len(size)))
    low, high = np.quantile(hits[take].sum(1) / size[take].sum(1), [0.025, 0.975])
    return Score(float(np.mean(correct)), float(low), float(high))


def _classifier(rows: int) -> Any:
    scaler = QuantileTransformer(n_quantiles=min(100, rows), output_distribution="normal", random_state=0)
    return make_pipeline(scaler, LogisticRegression(C=0.003, max_iter=3000))


def leakage(root: Path) -> dict[str, Any]:
    """CMU-MOSI: accuracy of sentiment >= 0 where the extractors saw the labels and where they did not.

    "inside": grouped cross-validation inside the 62 videos that text_cnn and video were learned on, ten folds by video;
    "outside": trained on all 62, tested on the 31 others.
    """
    folder = root / "cmu_mosi_utt"
    z = arrays(folder / "features.npz", "text_glove", "text_cnn", "audio", "video", "sentiment")
    u = csv(folder / "utterances.csv", "video_id", "split_extractor", "split_standard")
    seen = (u.split_extractor == "train").to_numpy()
    group, y = u.video_id.to_numpy(str), (z["sentiment"] >= 0).astype(int)
    out: dict[str, Any] = {"inside": {}, "outside": {}}
    for block in ("text_cnn", "video", "text_glove", "audio"):
        x = z[block].astype(np.float64)
        hit = np.zeros(seen.sum())
        for a, t in GroupKFold(min(10, len(set(group[seen])))).split(x[seen], groups=group[seen]):
            hit[t] = _classifier(len(a)).fit(x[seen][a], y[seen][a]).predict(x[seen][t]) == y[seen][t]
        out["inside"][block] = asdict(_grouped_interval(hit, group[seen], f"inside {block}"))
        hit = _classifier(int(seen.sum())).fit(x[seen], y[seen]).predict(x[~seen]) == y[~seen]
        out["outside"][block] = asdict(_grouped_interval(hit, group[~seen], f"outside {block}"))
    share = {"inside": y[seen].mean(), "outside": y[~seen].mean()}
    out["majority"] = {k: max(v, 1 - v) for k, v in share.items()}
    out["n"] = {"inside": int(seen.sum()), "outside": int((~seen).sum())}
    out["standard_test"] = int((u.split_standard == "test").sum())
    out["standard_test_contaminated"] = int(((u.split_standard == "test") & seen).sum())
    return out


def shortcut(root: Path) -> dict[str, Any]:
    """CMU-MOSEI: what the mean time stamp in the video block says about the length of the video.

    "counts": 2-D histogram over minutes (half of the last labelled segment's end, time stamp); "within_a_tenth" and
    "below": shares of videos whose stamp is that close to this half, or more than a tenth less; "auc": of the stamp.
    """
    z = arrays(root / "cmu_mosei_video/features.npz", "video_id", "video", "label_mean", "emotion_frac")
    end = csv(root / "cmu_mosei_labels/segments.csv.gz", "video_id", "end_s").groupby("video_id").end_s.max()
    half = end.loc[z["video_id"]].to_numpy() / 2
    stamp = z["video"][:, 1].astype(np.float64)
    edges = np.linspace(0, 6, 31)
    counts = np.histogram2d(half / 60, stamp / 60, [edges, edges])[0].astype(int)
    present = z["emotion_frac"] >= 1 / 3
    labels = {"sentiment > 0": z["label_mean"][:, 0] > 0} | {e: present[:, j] for j, e in enumerate(EMOTIONS)}
    auc = {name: asdict(_auc(y, stamp, f"stamp {name}")) for name, y in labels.items()}
    close = float(np.mean(np.abs(stamp - half) < 0.1 * half))
    below = float(np.mean(stamp < 0.9 * half))
    return {"within_a_tenth": close, "below": below, "edges_min": edges, "counts": counts, "auc": auc}


def _auc(y: Array, score: Array, purpose: str, draws: int = 1000) -> Score:
    """Area under the ROC curve, by ranks, and its interval over rows drawn with replacement."""
    take = streams.rng(0, "summary", purpose).integers(0, len(y), (draws, len(y)))
    rows = np.concatenate([np.arange(len(y))[None], take])  # the data itself, then the resamples
    here, rank = y[rows].astype(float), rankdata(score[rows], axis=1)
    positive = here.sum(1)
    area = ((rank * here).sum(1) - positive * (positive + 1) / 2) / (positive * (len(y) - positive))
    low, high = np.quantile(area[1:], [0.025, 0.975])
    return Score(float(area[0]), float(low), float(high))


def infinite(root: Path) -> dict[str, Any]:
    """CMU-MOSEI: share of rows with a value that is not finite, per column of audio."""
    audio = arrays(root / "cmu_mosei_video/features.npz", "audio")["audio"]
    return {"share": (~np.isfinite(audio)).mean(0)}


def sentiment(root: Path) -> dict[str, Any]:
    """CMU-MOSEI segments and CMU-MOSI utterances: histograms of the score and the two ways to make seven classes."""
    s = csv(root / "cmu_mosei_labels/segments.csv.gz", "sentiment").sentiment.to_numpy(float)
    u = csv(root / "cmu_mosi_utt/utterances.csv", "sentiment", "split_standard")
    edges = {"mosei": (np.arange(-9, 11) - 0.5) / 3, "mosi": (np.arange(-15, 17) - 0.5) / 5}  # thirds and fifths
    nearest = np.clip(np.rint(s), -3, 3).astype(int)
    away = np.clip(np.sign(s) * np.ceil(np.abs(s) - 1e-6), -3, 3).astype(int)  # 0 only where exactly 0
    bins = {"round to nearest": nearest, "away from zero": away}
    split = {
        k: {"n": len(v), "non-negative": float((v >= 0).mean()), "exactly 0": float((v == 0).mean())}
        for k, v in u.groupby("split_standard").sentiment
    }
    return {
        "edges": edges,
        "mosei": np.histogram(s, edges["mosei"])[0],
        "mosi": np.histogram(u.sentiment, edges["mosi"])[0],
        "seven": {name: np.bincount(v + 3, minlength=7) for name, v in bins.items()},
        "mosi_splits": split,
    }


def emotions(root: Path) -> dict[str, Any]:
    """CMU-MOSEI: prevalence per segment (intensity > 0) and per video (a third of the segments), and co-occurrence."""
    t = csv(root / "cmu_mosei_labels/segments.csv.gz", *EMOTIONS)
    y = t[list(EMOTIONS)].to_numpy(float) > 0
    video = arrays(root / "cmu_mosei_video/features.npz", "emotion_frac")["emotion_frac"] >= 1 / 3
    both = y.T.astype(int) @ y.astype(int)
    top = t[list(EMOTIONS)].to_numpy(float)
    tied = (top == top.max(1, keepdims=True)).sum(1) > 1
    return {
        "segment": y.mean(0),
        "video": video.mean(0),
        "given": both / np.maximum(np.diag(both), 1)[:, None],
        "labels": np.bincount(y.sum(1), minlength=7) / len(y),
        "none": float((~y.any(1)).mean()),
        "tied": float((tied & y.any(1)).mean()),
    }


def single_label(root: Path) -> dict[str, Any]:
    """CMU-MOSEI's label table as one emotion a sample, the strongest, against all emotions: counts in EMOTIONS' order.

    The first of equals wins, in that order, which is the label file's. "segment": every segment; "first": the first
    segment of every video stands for it; "segment_any", "video_any": all that are present, in a video in a third of its
    segments. "none": segments and videos that have no strongest emotion, "tied": those with several.
    """
    t = csv(root / "cmu_mosei_labels/segments.csv.gz", "video_id", "segment", *EMOTIONS)
    t = t.sort_values(["video_id", "segment"], ignore_index=True)
    x = t[list(EMOTIONS)].to_numpy(float)
    first = ~t["video_id"].duplicated().to_numpy()
    shown, top = x.max(1) > 0, x.argmax(1)
    tied = ((x == x.max(1, keepdims=True)).sum(1) > 1) & shown
    video = (t[list(EMOTIONS)] > 0).groupby(t["video_id"]).mean() >= 1 / 3
    kinds = {"segment": np.ones(len(t), bool), "first": first}
    counts = {name: np.bincount(top[rows & shown], minlength=len(EMOTIONS)) for name, rows in kinds.items()}
    return counts | {
        "segment_any": (x > 0).sum(0),
        "video_any": video.to_numpy().sum(0),
        "n": {name: int(rows.sum()) for name, rows in kinds.items()},
        "none": {name: int((rows & ~shown).sum()) for name, rows in kinds.items()},
        "tied": {name: int((rows & tied).sum()) for name, rows in kinds.items()},
    }


def missing(root: Path) -> dict[str, Any]:
    """SWELL-KW: share of minutes without a modality per participant (most gaps first, unnamed), and lengths of runs."""
    z = arrays(root / "swell_kw/features.npz", "participant", "block", *SWELL)
    gone = np.stack([~np.isfinite(z[m]).any(1) for m in SWELL], 1)
    person = np.unique(z["participant"], return_inverse=True)[1]
    share = np.stack([gone[person == p].mean(0) for p in range(person.max() + 1)])
    runs: list[int] = []
    for m in range(len(SWELL)):
        here = pd.Series(gone[:, m])
        block = pd.Series(person * 10 + z["block"])
        run = ((here != here.shift()) | (block != block.shift())).cumsum()
        runs += here[here].groupby(run[here]).size().tolist()
    return {
        "overall": gone.mean(0),
        "any_value": np.stack([~np.isfinite(z[m]).all(1) for m in SWELL], 1).mean(0),
        "by_person": share[np.argsort(-share.sum(1), kind="stable")],
        "runs": np.bincount(np.minimum(runs, 60), minlength=61),
        "if_independent": _independent_runs(gone, person * 10 + z["block"]),
    }


def _independent_runs(gone: Array, block: Array) -> Array:
    """Expected numbers of runs of each length were the same shares of minutes drawn at random, per modality."""
    expected = np.zeros(61)
    sizes = np.bincount(np.unique(block, return_inverse=True)[1])
    for p in gone.mean(0):
        for n in sizes:
            k = np.arange(1, min(n, 60) + 1)
            inner = np.maximum(n - k - 1, 0) * (1 - p) ** 2 + 2 * (1 - p) * (k < n) + (k == n)
            expected[k] += p**k * inner
    return expected


def conflict(root: Path) -> dict[str, Any]:
    """CREMA-D: how often the raters of the voice and of the face name different emotions, by the emotion intended."""
    z = arrays(
        root / "crema_d_votes/votes.npz", "actor", "intended", "emotion_names", "voice_votes", "face_votes", "av_votes"
    )
    top = {c: z[f"{c}_votes"].argmax(1) for c in ("voice", "face", "av")}
    apart = top["voice"] != top["face"]
    k = len(z["emotion_names"])
    by = [
        asdict(_grouped_interval(apart[z["intended"] == e], z["actor"][z["intended"] == e], f"conflict {e}"))
        for e in range(k)
    ]
    table = np.zeros((k, k), int)
    np.add.at(table, (top["voice"], top["face"]), 1)
    right = {c: float((t == z["intended"]).mean()) for c, t in top.items()}
    sided = {c: float((top["av"] == top[c])[apart].mean()) for c in ("voice", "face")}
    return {
        "names": [str(e) for e in z["emotion_names"]],
        "share": float(apart.mean()),
        "by_emotion": by,
        "voice_by_face": table,
        "right": right,
        "av_sides_with": sided,
    }


def main() -> None:
    """Compute the summary from the real files and store it."""
    from affectcore.data import catalog

    path = stored()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(summarise(catalog.root())) + "\n", "utf-8")
    partial.replace(path)
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
