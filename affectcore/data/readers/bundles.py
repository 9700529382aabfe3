"""The public sets in their safe form (npz and csv, see the catalog). Each set's known traps are the defaults here.

What a reader drops, fills in or decides is said in `AffectData.notes`. Group codes are plain integers; names of videos,
speakers and participants never leave the reader.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affectcore.data import catalog
from affectcore.data.folds import grouped, strata
from affectcore.data.schema import AffectData, Task
from affectcore.errors import ConfigError, DataError

Array = NDArray[Any]
SENTIMENT = Task("regression", ("sentiment",), -3.0, 3.0)
SEVEN = tuple(f"{k:+d}" if k else "0" for k in range(-3, 4))
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


def arrays(path: Path, *keys: str) -> dict[str, Array]:
    """Return the named arrays of an npz file, read without pickle. Raises DataError naming file and missing field."""
    try:
        with path.open("rb") as f, np.load(f, allow_pickle=False) as z:
            missing = [k for k in keys if k not in z.files]
            if missing:
                raise DataError(f"{path}: field {missing[0]!r} is missing, the file has {', '.join(z.files)}")
            return {k: z[k] for k in keys or z.files}
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as e:  # a damaged zip raises a dozen kinds of error, all of which mean the same to the caller
        raise DataError(f"{path}: is not a whole npz file without pickled objects ({e})".replace("\n", " ")) from e


def csv(path: Path, *columns: str) -> pd.DataFrame:
    """Return a csv file with ids as strings and nothing read as missing ("NA", "null" and "nan" are words here)."""
    ids = dict.fromkeys(("video_id", "utt_id", "video", "dialogue", "speaker"), str)
    try:
        frame = pd.read_csv(path, keep_default_na=False, dtype=ids)
    except (ValueError, OSError, EOFError) as e:
        raise DataError(f"{path}: is not a readable csv file ({e})".replace("\n", " ")) from e
    for c in columns:
        if c not in frame:
            raise DataError(f"{path}: column {c!r} is missing, the file has {', '.join(map(str, frame.columns))}")
    return frame


def codes(names: Array) -> NDArray[np.int64]:
    """Return group numbers 0, 1, ... in the order of first appearance."""
    return pd.factorize(np.asarray(names))[0].astype(np.int64)


def choice(name: str, option: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ConfigError(f"{name}: {option}={value!r} is unknown: use {', '.join(allowed)}")


def sentiment_target(name: str, target: str, score: Array, low: float = -3.0, high: float = 3.0) -> tuple[Task, Array]:
    """Return task and target made of a sentiment score: the conventions in use, each under its own name.

    sentiment: the score; sentiment_nonnegative: score >= 0; sentiment_positive: score > 0; sentiment_class3: its sign;
    sentiment_class7: rounded to nearest (half to even, as in the papers' code) and clipped to -3..3.
    """
    allowed = ("sentiment", "sentiment_nonnegative", "sentiment_positive", "sentiment_class3", "sentiment_class7")
    choice(name, "target", target, allowed)
    if target == "sentiment":
        return Task("regression", ("sentiment",), low, high), score.astype(np.float32)
    if target == "sentiment_nonnegative":
        return Task("single_label", ("negative", "non-negative")), (score >= 0).astype(np.int64)
    if target == "sentiment_positive":
        return Task("single_label", ("not positive", "positive")), (score > 0).astype(np.int64)
    if target == "sentiment_class3":
        return Task("single_label", ("negative", "neutral", "positive")), np.sign(score).astype(np.int64) + 1
    if high != 3.0:
        raise ConfigError(f"{name}: target='sentiment_class7' needs a scale of -3..3, this set has {low:g}..{high:g}")
    return Task("single_label", SEVEN), np.clip(np.rint(score), -3, 3).astype(np.int64) + 3


def by_name(split: Array) -> dict[str, NDArray[np.int64]]:
    """Return row numbers by split name, of those named train, valid or test."""
    return {k: np.flatnonzero(split == k) for k in ("train", "valid", "test") if (split == k).any()}


def sequences(values: Array, offsets: Array, most: int) -> tuple[Array, Array]:
    """Return (N, T, D) zero-padded sequences and their lengths from concatenated rows, each cut after `most` steps."""
    length = np.minimum(np.diff(offsets), most)
    step = np.arange(length.max())
    inside = step < length[:, None]
    x = np.zeros((*inside.shape, *values.shape[1:]), values.dtype)
    x[inside] = values[(offsets[:-1, None] + step)[inside]]
    return x, length.astype(np.int64)


def _default_fold(task: Task, target: Array, group: Array) -> tuple[dict[str, NDArray[np.int64]], str]:
    note = "no official split: train/valid/test are fold 0 of 5 by group; affectcore.data.folds makes the others"
    return grouped(strata(task, target), group, 0, 5, 0, 0.15), note


def cmu_mosei_video(
    *,
    target: Literal["sentiment", "sentiment_positive", "emotions", "emotion_four"] = "sentiment",
    outside: Literal["drop", "train"] = "drop",
) -> AffectData:
    """Return CMU-MOSEI pooled per video: text (1, 768), audio (1, 39), vision (1, 33), 922 videos, unscaled.

    target: "sentiment" (mean of the segments), "sentiment_positive" (mean > 0), "emotions" (multi-label: present in at
    least a third of the segments), "emotion_four" (single-label: the strongest emotion, the first of equals; only
    videos of the four most frequent ones). outside: the 21 videos in no official fold are left out of the splits
    ("drop") or used for training ("train"); they stay resident either way and take part in `folds`.
    """
    name = "cmu_mosei_video"
    choice(name, "target", target, ("sentiment", "sentiment_positive", "emotions", "emotion_four"))
    choice(name, "outside", outside, ("drop", "train"))
    keys = ("video_id", "fold", "label_mean", "emotion_frac", "text", "audio", "video")
    z = arrays(catalog.locate(name), *keys)
    notes: tuple[str, ...] = ()
    y: Array
    if target == "emotions":
        task, y = Task("multi_label", EMOTIONS), (z["emotion_frac"] >= 1 / 3).astype(np.float32)
    elif target == "emotion_four":
        each = z["label_mean"][:, 1:]
        strongest = np.where(each.max(1) > 0, each.argmax(1), len(EMOTIONS))
        four = np.sort(np.argsort(-np.bincount(strongest, minlength=6)[:6], kind="stable")[:4])
        rows = np.isin(strongest, four)
        z = {k: v[rows] for k, v in z.items()}
        task, y = Task("single_label", tuple(EMOTIONS[c] for c in four)), np.searchsorted(four, strongest[rows])
        tied = int(((each[rows] == each[rows].max(1, keepdims=True)).sum(1) > 1).sum())
        notes = (f"{(~rows).sum()} videos without emotion or with a rarer one left out; {tied} ties go to the first",)
    else:
        task, y = sentiment_target(name, target, z["label_mean"][:, 0])
    audio = np.delete(z["audio"], 7, axis=1)
    fold = z["fold"] if outside == "drop" else np.where(z["fold"] == "none", "train", z["fold"])
    count = int((z["fold"] == "none").sum())
    notes += (
        "audio column 7 (peakSlope, -inf in most rows) dropped",
        "vision columns 0 and 1 (face id, mean time stamp) dropped: they tell the video's length, not the face",
        f"{count} videos in no official fold: "
        + ("in no split, resident for folds" if outside == "drop" else "put into train"),
    )
    x = {"text": z["text"], "audio": audio, "vision": z["video"][:, 2:]}
    pooled = {m: v[:, None] for m, v in x.items()}
    return AffectData(name, task, pooled, y, by_name(fold), group=codes(z["video_id"]), notes=notes)


def cmu_mosi_utt(
    *,
    target: Literal["sentiment", "sentiment_nonnegative", "sentiment_positive", "sentiment_class7"] = "sentiment",
    text: Literal["glove", "glove_words"] = "glove",
    max_words: int = 50,
    label_informed: bool = False,
) -> AffectData:
    """Return CMU-MOSI per utterance: text 300 (GloVe) and audio 73 (COVAREP means), 2,199 utterances, unscaled.

    text: "glove" is the mean over the words, (1, 300); "glove_words" the words as a sequence, (max_words, 300) with
    lengths. max_words: longer utterances are cut there; the note says how many. extras["token_ids"] (N, T) numbers the
    words (0 unknown, 1 padding). label_informed: adds `text_cnn` (100) and `vision` (100), which were learned from the
    labels of 62 videos; only the 752 utterances of the other 31 videos are then returned, split by folds over videos.
    """
    name = "cmu_mosi_utt"
    choice(name, "text", text, ("glove", "glove_words"))
    if max_words < 1:
        raise ConfigError(f"{name}: max_words={max_words} must be at least 1")
    u = table(name)
    z = arrays(catalog.locate(name), "utt_id", "text_glove", "text_cnn", "audio", "video", "sentiment")
    if not np.array_equal(u.utt_id.to_numpy(str), z["utt_id"]):
        row = int(np.argmax(u.utt_id.to_numpy(str)[: len(z["utt_id"])] != z["utt_id"][: len(u)]))
        raise DataError(
            f"{catalog.locate(name)}: utt_id row {row} differs from utterances.csv: the rows must be the same"
        )
    w = arrays(catalog.locate(name, "cmu_mosi_utt/words.npz"), "token_ids", "offsets", "glove")
    if len(w["offsets"]) != len(u) + 1 or int(w["offsets"][-1]) != len(w["token_ids"]):
        raise DataError(f"{name}: words.npz offsets must have one entry per utterance and one more")
    tokens, length = sequences(w["token_ids"].astype(np.int64), w["offsets"], max_words)
    tokens[np.arange(tokens.shape[1]) >= length[:, None]] = 1
    cut = int((np.diff(w["offsets"]) > max_words).sum())
    notes = [f"words of {cut} utterances cut after {max_words}"] if cut else []
    x = {"text": z["text_glove"][:, None], "audio": z["audio"][:, None]}
    lengths = {}
    if text == "glove_words":
        x["text"] = w["glove"].astype(np.float32)[tokens]
        lengths["text"] = length
    task, y = sentiment_target(name, target, z["sentiment"])
    group = codes(u.video_id.to_numpy(str))
    if not label_informed:
        notes.append("text_cnn and vision left out: they were learned from the labels of 62 videos")
        splits = by_name(u.split_standard.to_numpy(str))
        return AffectData(
            name, task, x, y, splits, lengths=lengths, group=group, extras={"token_ids": tokens}, notes=notes
        )
    rows = np.flatnonzero(u.split_extractor.to_numpy(str) == "test")
    x |= {"vision": z["video"][:, None], "text_cnn": z["text_cnn"][:, None]}
    x = {m: x[m][rows] for m in ("text", "audio", "vision", "text_cnn")}
    y, group = y[rows], codes(group[rows])
    splits, note = _default_fold(task, y, group)
    notes += [
        "text_cnn and vision were learned from labels: only the 31 videos that were not used for it are here",
        note,
    ]
    return AffectData(
        f"{name}/label_informed", task, x, y, splits, lengths={m: v[rows] for m, v in lengths.items()}, group=group,
        extras={"token_ids": tokens[rows]}, notes=notes,
    )  # fmt: skip


def cmu_mosi_wordlevel(
    *, target: Literal["sentiment", "sentiment_nonnegative", "sentiment_positive", "sentiment_class7"] = "sentiment"
) -> AffectData:
    """Return 229 CMU-MOSI utterances as word sequences: text (44, 300), audio (44, 74), vision (44, 47).

    For plumbing only: audio and vision are z-scored inside each utterance and carry no usable signal.
    """
    name = "cmu_mosi_wordlevel"
    z = arrays(catalog.locate(name), "video_id", "offsets", "word_ids", "glove", "covarep", "facet", "sentiment")
    task, y = sentiment_target(name, target, z["sentiment"])
    x, lengths = {}, {}
    for m, k in {"text": "glove", "audio": "covarep", "vision": "facet"}.items():
        x[m], lengths[m] = sequences(z[k].astype(np.float32), z["offsets"], int(np.diff(z["offsets"]).max()))
    group = codes(z["video_id"])
    splits, note = _default_fold(task, y, group)
    return AffectData(name, task, x, y, splits, lengths=lengths, group=group, notes=(note,))


SWELL = ("physiology", "facial", "computer", "posture")
_SWELL_REPORTS = {"valence": ("Valence_rc", 1, 9), "arousal": ("Arousal_rc", 1, 9), "stress_rating": ("Stress", 0, 10)}


def windows(start: NDArray[np.bool_], size: int, stride: int) -> NDArray[np.int64]:
    """Return the first rows of all windows of `size` consecutive rows that hold no `start` of a run but at row 0.

    Inside each run windows begin every `stride` rows; a rest shorter than `size` is left out.
    """
    begin = np.flatnonzero(start)
    length = np.diff(np.r_[begin, len(start)])
    return np.concatenate([b + np.arange(0, n - size + 1, stride) for b, n in zip(begin, length)]).astype(np.int64)


def swell_kw(
    *,
    target: Literal["stress_condition", "condition", "valence", "arousal", "stress_rating"] = "stress_condition",
    window: int = 1,
    stride: int | None = None,
    standardise: Literal["participant", "none"] = "participant",
) -> AffectData:
    """Return SWELL-KW: physiology 3, facial 41, computer 18, posture 94 features per minute, 25 participants.

    target: "stress_condition" (time pressure or interruptions against neutral), "condition" (three classes), or a
    self-report of the block. window, stride: a sample is `window` consecutive minutes (no gap) of one participant,
    block and condition, starting every `stride` minutes (default: window, no overlap). standardise: z-score per
    participant over all of that person's minutes, relaxation included (uses no label).
    observed is False for a minute in which the whole modality is missing; single missing values in a minute that is
    otherwise there are filled with the participant's mean.
    """
    name = "swell_kw"
    choice(name, "target", target, ("stress_condition", "condition", *_SWELL_REPORTS))
    choice(name, "standardise", standardise, ("participant", "none"))
    stride = window if stride is None else stride
    if window < 1 or stride < 1:
        raise ConfigError(f"{name}: window={window} and stride={stride} must be at least 1")
    keys = ("participant", "block", "condition", "timestamp", "labels", "label_names", *SWELL)
    z = arrays(catalog.locate(name), *keys, *(f"{m}_names" for m in SWELL))
    person = codes(z["participant"])
    x: dict[str, Array] = {}
    seen: dict[str, Array] = {}
    filled = []
    for m in SWELL:
        there = np.isfinite(z[m])
        values = pd.DataFrame(np.where(there, z[m], np.nan).astype(np.float64))
        mean = values.groupby(person).transform("mean").fillna(values.mean())
        sd = values.groupby(person).transform("std")
        seen[m] = np.any(there, axis=1)
        filled.append(f"{m} {1 - float(np.mean(there[seen[m]])):.1%}")
        v = values.fillna(mean)
        if standardise == "participant":
            v = (v - mean) / sd.where(sd > 1e-9, 1.0)
        x[m] = v.to_numpy(np.float32)
    minute = pd.to_datetime(pd.Series(z["timestamp"]).str[:13], format="%Y%m%dT%H%M").to_numpy("datetime64[m]")
    change = (np.diff(person) != 0) | (np.diff(z["block"]) != 0) | (z["condition"][1:] != z["condition"][:-1])
    start = np.r_[True, change | (np.diff(minute) != np.timedelta64(1, "m"))]
    first = windows(start, window, stride)
    first = first[z["condition"][first] != "R"]
    if len(first) == 0:
        raise ConfigError(f"{name}: window={window} is longer than any run of minutes")
    rows = first[:, None] + np.arange(window)
    condition = z["condition"][first]
    if target in _SWELL_REPORTS:
        column, low, high = _SWELL_REPORTS[target]
        task = Task("regression", (target,), low, high)
        y = z["labels"][first, list(z["label_names"]).index(column)]
    elif target == "condition":
        task = Task("single_label", ("neutral", "time pressure", "interruptions"))
        y = np.select([condition == "N", condition == "T"], [0, 1], 2).astype(np.int64)
    else:
        task, y = Task("single_label", ("neutral", "stress")), (condition != "N").astype(np.int64)
    group = codes(z["participant"][first])
    splits, note = _default_fold(task, y, group)
    block = np.array([f"{p}/{b}" for p, b in zip(z["participant"][first], z["block"][first])])
    work = int((z["condition"] != "R").sum())
    notes = (
        f"{len(z['condition']) - work} minutes of relaxation dropped",
        f"{work - len(np.unique(rows))} of the {work} others in no window of {window} minutes without a gap",
        "single missing values filled with the participant's mean, share of values: " + ", ".join(filled),
        f"standardised per {standardise}" if standardise == "participant" else "not standardised",
        note,
    )
    names = {m: tuple(map(str, z[f"{m}_names"])) for m in SWELL}
    return AffectData(
        name, task, {m: x[m][rows] for m in SWELL}, y, splits, observed={m: seen[m][rows] for m in SWELL}, group=group,
        extras={"block": codes(block)}, feature_names=names, notes=notes,
    )  # fmt: skip


def crema_d_votes(*, target: Literal["intended", "av_majority", "av_labels"] = "intended") -> AffectData:
    """Return CREMA-D percepts: voice and face, (1, 12) each: share of votes and mean intensity / 100 per emotion.

    target: "intended" (acted emotion), "av_majority" (most frequent audio-visual vote, the first of equals),
    "av_labels" (multi-label: at least a fifth of the audio-visual votes). Audio-visual votes are never an input;
    extras["av_share"] (N, 6) is their distribution, to score against. extras: sentence, level (LO, MD, HI, XX = 0..3).
    """
    name = "crema_d_votes"
    choice(name, "target", target, ("intended", "av_majority", "av_labels"))
    keys = ("actor", "sentence", "level", "emotion_names", "intended", "av_votes")
    z = arrays(catalog.locate(name), *keys, *(f"{c}_{k}" for c in ("voice", "face") for k in ("votes", "level")))
    emotions = tuple(map(str, z["emotion_names"]))
    share = {c: z[f"{c}_votes"] / z[f"{c}_votes"].sum(1, keepdims=True) for c in ("voice", "face", "av")}
    level = {c: np.nan_to_num(z[f"{c}_level"]) / 100 for c in ("voice", "face")}
    x = {c: np.concatenate([share[c], level[c]], 1).astype(np.float32)[:, None] for c in level}
    notes = ["intensity of an emotion that nobody chose set to 0"]
    if target == "av_labels":
        task, y = Task("multi_label", emotions), (share["av"] >= 0.2).astype(np.float32)
    elif target == "intended":
        task, y = Task("single_label", emotions), z["intended"].astype(np.int64)
    else:
        task, y = Task("single_label", emotions), z["av_votes"].argmax(1)
        top = np.sort(z["av_votes"], 1)
        notes.append(f"{int((top[:, -1] == top[:, -2]).sum())} clips with a tied vote take the first of the equals")
    group = codes(z["actor"])
    splits, note = _default_fold(task, y, group)
    extras = {
        "av_share": share["av"].astype(np.float32),
        "sentence": codes(z["sentence"]),
        "level": pd.Index(["LO", "MD", "HI", "XX"]).get_indexer(z["level"]).astype(np.int64),
    }
    names = tuple(f"share_{e}" for e in emotions) + tuple(f"level_{e}" for e in emotions)
    return AffectData(
        name, task, x, y, splits, group=group, extras=extras, feature_names={"voice": names, "face": names},
        notes=(*notes, note),
    )  # fmt: skip


_MELD = {
    "emotion": ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"),
    "sentiment": ("negative", "neutral", "positive"),
}


def meld_text(*, target: Literal["emotion", "sentiment"] = "emotion", components: int = 100) -> AffectData:
    """Return MELD's utterances: text (1, components), latent semantic analysis of tf-idf fitted on the training split.

    extras, for models of conversations: dialogue, position in it, speaker (codes; -1 for all but the six main ones).
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    name = "meld_text"
    choice(name, "target", target, tuple(_MELD))
    u = table(name)
    y = pd.Index(_MELD[target]).get_indexer(u[target]).astype(np.int64)
    if (y < 0).any():
        row = int(np.argmax(y < 0))
        raise DataError(f"{name}: {target} row {row} is {u[target][row]!r}, must be one of {', '.join(_MELD[target])}")
    split = u.split.to_numpy(str)
    tfidf = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    fitted = tfidf.fit_transform(u.text[split == "train"])
    if not 1 <= components < fitted.shape[1]:
        raise ConfigError(f"{name}: components={components} must lie between 1 and {fitted.shape[1] - 1}")
    lsa = TruncatedSVD(components, random_state=0).fit(fitted)
    x = lsa.transform(tfidf.transform(u.text)).astype(np.float32)
    dialogue = codes((u.split + "/" + u.dialogue_id.astype(str)).to_numpy(str))
    main = u.speaker[u.split == "train"].value_counts().index[:6]
    speaker = main.get_indexer(u.speaker).astype(np.int64)
    position = u.groupby(dialogue).cumcount().to_numpy(np.int64, copy=True)
    notes = (
        f"text: {components} components of tf-idf (words and pairs), fitted on the training split",
        "six main speakers occur in all splits: the splits are by dialogue, not by speaker",
    )
    return AffectData(
        name, Task("single_label", _MELD[target]), {"text": x[:, None]}, y, by_name(split), group=dialogue,
        extras={"dialogue": dialogue, "position": position, "speaker": speaker}, notes=notes,
    )  # fmt: skip


_TABLES = {
    "cmu_mosi_utt": ("cmu_mosi_utt/utterances.csv", ("utt_id", "video_id", "sentiment", "split_standard", "text")),
    "cmu_mosei_labels": ("cmu_mosei_labels/segments.csv.gz", ("video_id", "sentiment", *EMOTIONS, "fold", "text")),
    "iemocap_labels": ("label_tables/iemocap_labels.csv", ("utt_id", "dialogue", "speaker", "label6", "label4")),
    "sims_labels": ("label_tables/sims_labels.csv", ("utt_id", "video", "split", "sentiment")),
    "simsv2_labels": ("label_tables/simsv2_labels.csv", ("utt_id", "video", "split", "sentiment")),
    "meld_text": ("meld_text/utterances.csv.gz", ("split", "dialogue_id", "speaker", "emotion", "sentiment", "text")),
}


def table(name: str) -> pd.DataFrame:
    """Return the label table of a set; see `affectcore.data.readers.table`."""
    if name not in _TABLES:
        raise ConfigError(f"{name!r} has no label table: there are {', '.join(_TABLES)}")
    path, columns = _TABLES[name]
    return csv(catalog.locate(name, path), *columns)


READERS: dict[str, Callable[..., AffectData]] = {
    f.__name__: f for f in (cmu_mosei_video, cmu_mosi_utt, cmu_mosi_wordlevel, swell_kw, crema_d_votes, meld_text)
}
