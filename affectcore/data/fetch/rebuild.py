"""Rebuild the bundles from the public files, array for array.

Each function takes `where(source) -> Path`, which gives the downloaded file, and an output folder, and writes the
files of one bundle there. `contents.json` beside this file holds the expected digest of every array and table.
"""

import ast
import csv
import io
import itertools
import pickle
import struct
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from affectcore.data.fetch import sources as s
from affectcore.data.fetch.sources import Source
from affectcore.data.readers.unpickle import read
from affectcore.errors import DataError, UnsafePickleError

Open = Callable[[Source], Path]
LABELS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


def _mosei_labels(where: Open) -> pd.DataFrame:
    """Segments in the order of the label file: video_id, start_s, end_s and the seven labels."""
    table = pd.read_csv(where(s.MOSEI_LABELS), dtype={"id": str}, keep_default_na=False)
    table.columns = pd.Index(["video_id", "start_s", "end_s", *LABELS])
    return table


def _mosei_folds(where: Open) -> dict[str, str]:
    """Official fold of each video, read from the SDK's Python file as literals; nothing of it is executed."""
    fold: dict[str, str] = {}
    for statement in ast.parse(where(s.MOSEI_FOLDS).read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id.removeprefix("standard_").removesuffix("_fold")
            fold |= dict.fromkeys(ast.literal_eval(statement.value), name)
    return fold


def cmu_mosei_video(where: Open, out: Path) -> None:
    """922 videos. The source's pickles hold no ids: its seeded split of the label table's videos is replayed."""
    segments = _mosei_labels(where)
    videos = sorted(set(segments.video_id))
    rest, test = train_test_split(videos, test_size=0.2, random_state=42)
    _, valid = train_test_split(rest, test_size=0.1, random_state=42)

    by_video = segments.groupby("video_id")
    means = by_video[list(LABELS)].mean()
    columns: dict[str, list[Any]] = defaultdict(list)
    for part, source, ids in (("test", s.MOSEI_POOLED_TEST, test), ("val", s.MOSEI_POOLED_VALID, valid)):
        stored = read(where(source))
        for row, target in enumerate(stored["labels"]):
            while abs(means.loc[ids[row + len(columns["skipped"])]].mean() - target) > 1e-5:
                columns["skipped"].append(ids[row + len(columns["skipped"])])  # dropped by the source
                if len(columns["skipped"]) > 1:
                    raise DataError(f"{source.path}: row {row} does not match the replayed split")
            columns["video_id"].append(ids[row + len(columns["skipped"])])
        columns["skipped"].clear()
        columns["source_part"] += [part] * len(stored["labels"])
        for key, name in (
            ("text", "language"),
            ("audio", "acoustic"),
            ("video", "visual"),
            ("source_target", "labels"),
        ):
            columns[key].append(stored[name])
    ids = columns["video_id"]
    fold = _mosei_folds(where)
    present = segments[list(LABELS[1:])].gt(0).groupby(segments.video_id).mean()
    _save(
        out / "features.npz",
        video_id=np.array(ids, "<U16"),
        fold=np.array([fold.get(v, "none") for v in ids]),
        n_segments=by_video.size().loc[ids].to_numpy(np.int16),
        label_names=np.array(LABELS),
        label_mean=means.loc[ids].to_numpy(np.float32),
        emotion_max=by_video[list(LABELS[1:])].max().loc[ids].to_numpy(np.float32),
        emotion_frac=present.loc[ids].to_numpy(np.float32),
        source_target=np.concatenate(columns["source_target"]).astype(np.float32),
        source_part=np.array(columns["source_part"]),
        **{m: np.concatenate(columns[m]).astype(np.float32) for m in ("text", "audio", "video")},
    )


class _Box:
    """Stands for an object array or type: it keeps its state and does nothing."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _StandIns(pickle.Unpickler):
    """Reads the two odd pickles among the sources: every name is mapped to an inert stand-in, nothing is imported."""

    TABLE: ClassVar[dict[tuple[str, str], Any]] = {
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, *_: (storage, offset, size),
        ("torch", "FloatStorage"): "float32",
        ("collections", "OrderedDict"): dict,
        ("collections", "defaultdict"): lambda *_: {},
        ("create_dataset", "return_unk"): None,
        ("numpy.core.multiarray", "_reconstruct"): _Box,
        ("numpy.core.multiarray", "scalar"): lambda _, value: struct.unpack("<d", value)[0],
        ("numpy", "ndarray"): None,
        ("numpy", "dtype"): _Box,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.TABLE:
            raise UnsafePickleError(f"source file: {module}.{name} is not allowed")
        return self.TABLE[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _glove(path: Path) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Return the embedding matrix (words, 300) and word -> row of a legacy torch file."""
    with path.open("rb") as f:
        for _ in range(3):  # magic number, protocol version, system information
            _StandIns(f).load()
        (storage, offset, size), words = _StandIns(f).load()
        _StandIns(f).load()  # storage keys
        count = int(np.frombuffer(f.read(8), "<i8")[0])
        values = np.frombuffer(f.read(4 * count), "<f4")
    if storage[1] != "float32" or offset != 0 or count < int(np.prod(size)):
        raise DataError(f"{path.name}: not the expected float32 embedding")
    return values[: int(np.prod(size))].reshape(size), words


def cmu_mosi_utt(where: Open, out: Path) -> None:
    """2,199 utterances of 93 videos: features joined by the row numbers of the source, labels and times by id."""
    with where(s.MOSI_TRANSCRIPTS).open(newline="") as f:
        rows = [(r[0], r[1], int(r[3])) for r in csv.reader(f)]
    real = read(where(s.MOSI_REAL_LABELS))
    sentiment = {u: float(y) for v in real[0] for u, y in zip(real[0][v], real[1][v], strict=True)}
    standard = {v: name for name, videos in zip(("train", "valid", "test"), real[4:7], strict=True) for v in videos}
    times: dict[str, tuple[float, float]] = {}
    with h5py.File(where(s.MOSI_TIMES)) as f:
        for video, group in f["Opinion Segment Labels/data"].items():
            for clip, (start, end) in enumerate(group["intervals"][:], 1):
                times[f"{video}_{clip}"] = (round(float(start), 3), round(float(end), 3))
    index = {p: pd.read_csv(where(x), header=None)[0].to_numpy() for p, x in _rows_of.items()}
    blocks = {m: np.full((len(rows), n), np.nan) for m, n in (("text", 100), ("audio", 73), ("video", 100))}
    extractor = np.empty(len(rows), dtype="<U5")
    for (m, part), source in _features_of.items():
        table = pd.read_csv(where(source), header=None).to_numpy()
        blocks[m][index[part]] = table[:, :-1]  # the last column is the binary label
        extractor[index[part]] = part

    def place(i: int) -> tuple[str, int]:
        video, clip = rows[i][0].rsplit("_", 1)
        return video, int(clip)

    order = sorted(range(len(rows)), key=place)
    embedding, row_of = _glove(where(s.MOSI_GLOVE))
    words = [rows[i][1].split() for i in order]
    known = [[w.lower() for w in ws] for ws in words]
    token_ids, vocab = _vocabulary(known, row_of)
    vectors = embedding[[row_of[w] for w in vocab]]
    offsets = np.cumsum([0, *map(len, words)])
    table = pd.DataFrame(
        {
            "utt_id": [rows[i][0] for i in order],
            "video_id": [place(i)[0] for i in order],
            "clip": [place(i)[1] for i in order],
            "start_s": [times[rows[i][0]][0] for i in order],
            "end_s": [times[rows[i][0]][1] for i in order],
            "sentiment": [round(sentiment[rows[i][0]], 6) for i in order],
            "positive": [rows[i][2] for i in order],
            "split_standard": [standard[place(i)[0]] for i in order],
            "split_extractor": [str(extractor[i]) for i in order],
            "n_words": [len(w) for w in words],
            "text": [rows[i][1] for i in order],
        }
    )
    table.to_csv(out / "utterances.csv", index=False)
    means = []
    for first, last in itertools.pairwise(offsets):
        ids = token_ids[first:last]
        means.append(vectors[ids[ids > 0]].mean(0) if (ids > 0).any() else np.zeros(vectors.shape[1]))
    _save(
        out / "features.npz",
        utt_id=table.utt_id.to_numpy("<U20"),
        text_glove=np.array(means, np.float32),
        text_cnn=blocks["text"][order].astype(np.float32),
        audio=blocks["audio"][order].astype(np.float32),
        video=blocks["video"][order].astype(np.float32),
        sentiment=table.sentiment.to_numpy(np.float32),
    )
    _save(
        out / "words.npz",
        token_ids=token_ids.astype(np.int16),
        offsets=offsets.astype(np.int32),
        vocab=np.array(vocab),
        glove=vectors.astype(np.float16),
    )


_rows_of = {"train": s.MOSI_ROWS_TRAIN, "test": s.MOSI_ROWS_TEST}
_features_of = {
    ("text", "train"): s.MOSI_TEXT_TRAIN,
    ("text", "test"): s.MOSI_TEXT_TEST,
    ("audio", "train"): s.MOSI_AUDIO_TRAIN,
    ("audio", "test"): s.MOSI_AUDIO_TEST,
    ("video", "train"): s.MOSI_VIDEO_TRAIN,
    ("video", "test"): s.MOSI_VIDEO_TEST,
}


def _vocabulary(texts: list[list[str]], known: dict[str, int]) -> tuple[NDArray[np.int64], list[str]]:
    """Token numbers of all texts (0 unknown, 1 padding) and the vocabulary: words in use, in the embedding's order."""
    used = {w for text in texts for w in text} & set(known) - {"<unk>", "<pad>"}
    vocab = ["<unk>", "<pad>", *sorted(used, key=known.__getitem__)]
    number = {w: i for i, w in enumerate(vocab)}
    return np.array([number.get(w, 0) for text in texts for w in text]), vocab


def cmu_mosi_wordlevel(where: Open, out: Path) -> None:
    """229 utterances of the valid fold, words concatenated; words of the cmu_mosi_utt vocabulary."""
    stored = read(where(s.MOSI_WORDS_VALID))
    embedding, row_of = _glove(where(s.MOSI_GLOVE))
    with where(s.MOSI_TRANSCRIPTS).open(newline="") as f:
        _, vocab = _vocabulary([[w.lower() for w in r[1].split()] for r in csv.reader(f)], row_of)
    number = {w: i for i, w in enumerate(vocab)}
    ids = [f"{video}_{int(clip[:-1]) + 1}" for video, clip in (row[2].split("[") for row in stored)]
    words = [w for row in stored for w in row[0][3]]
    lengths = np.array([len(row[0][3]) for row in stored])
    _save(
        out / "mosi_valid_words.npz",
        utt_id=np.array(ids),
        video_id=np.array([i.rsplit("_", 1)[0] for i in ids]),
        lengths=lengths.astype(np.int32),
        offsets=np.cumsum([0, *lengths]).astype(np.int32),
        words=np.array(words),
        word_ids=np.array([number.get(w, 0) for w in words], np.int16),
        facet=np.concatenate([row[0][1] for row in stored]).astype(np.float32),
        covarep=np.concatenate([row[0][2] for row in stored]).astype(np.float32),
        glove=embedding[np.concatenate([row[0][0] for row in stored])].astype(np.float16),
        sentiment=np.array([np.ravel(row[1])[0] for row in stored], np.float32),
    )


def cmu_mosei_labels(where: Open, out: Path) -> None:
    """23,259 segments with labels, folds and, for valid and test, transcripts (joined by video and start time)."""
    segments, fold = _mosei_labels(where), _mosei_folds(where)
    texts: dict[tuple[str, float], str] = {}
    for source in (s.MOSEI_TEXT_VALID, s.MOSEI_TEXT_TEST):
        table = pd.read_csv(where(source), keep_default_na=False, dtype={"video": str})
        texts |= {
            (v, round(t, 3)): x.strip() for v, t, x in zip(table.video, table.start_time, table.text, strict=True)
        }
    segments[list(LABELS)] = segments[list(LABELS)].round(4)
    segments.insert(1, "segment", segments.groupby("video_id").cumcount())
    segments["fold"] = [fold.get(v, "none") for v in segments.video_id]
    segments["text"] = [
        texts.get((v, round(t, 3)), "") for v, t in zip(segments.video_id, segments.start_s, strict=True)
    ]
    _save_csv(out / "segments.csv.gz", segments)


def crema_d_votes(where: Open, out: Path) -> None:
    """7,442 clips: votes and mean intensities per channel, which the hundred thousands of a row's number name."""
    votes = pd.read_csv(where(s.CREMA_VOTES), index_col=0, dtype={"fileName": str})
    actors = pd.read_csv(where(s.CREMA_ACTORS)).set_index("ActorID")
    emotions = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
    channel = {name: votes[votes.index // 100_000 == k] for k, name in enumerate(("voice", "face", "av"), 1)}
    clips = channel["voice"].fileName.to_numpy(str)
    fields = [c.split("_") for c in clips]
    arrays: dict[str, NDArray[Any]] = {}
    for name, table in channel.items():
        if not np.array_equal(table.fileName.to_numpy(str), clips):
            raise DataError(f"{s.CREMA_VOTES.path}: the {name} rows list other clips than the voice rows")
        levels = table[[f"mean{e.capitalize()}Resp" for e in emotions.values()]].to_numpy(np.float32)
        arrays[f"{name}_votes"] = table[[e[0].upper() for e in emotions.values()]].to_numpy(np.int8)
        arrays[f"{name}_level"] = np.where(levels < 0, np.float32(np.nan), levels)
    person = actors.loc[[int(f[0]) for f in fields]]
    _save(
        out / "votes.npz",
        clip=clips.astype("<U16"),
        actor=person.index.to_numpy(np.int16),
        sentence=np.array([f[1] for f in fields]),
        level=np.array([f[3] for f in fields]),
        emotion_names=np.array(list(emotions.values())),
        intended=np.array([list(emotions).index(f[2]) for f in fields], np.int8),
        **arrays,
        actor_age=person.Age.to_numpy(np.int8),
        actor_sex=person.Sex.to_numpy(str),
    )


def swell_kw(where: Open, out: Path) -> None:
    """3,139 minutes of 25 participants; the source's three spellings of a missing value become NaN."""
    table = pd.read_csv(where(s.SWELL), dtype=str, keep_default_na=False)
    names = list(table.columns)
    blocks = {"physiology": names[16:19], "facial": names[19:60], "computer": names[60:78], "posture": names[78:172]}

    def numbers(columns: list[str]) -> NDArray[np.float32]:
        missing = {"999": "nan", "#VALUE!": "nan", "": "nan", "NaN": "nan"}
        return table[columns].replace(missing).astype(float).to_numpy(np.float32)

    _save(
        out / "features.npz",
        participant=table.PP.to_numpy("<U5"),
        block=table.Blok.to_numpy(np.int8),
        condition=table.Condition.to_numpy("<U1"),
        timestamp=table.timestamp.to_numpy("<U18"),
        label_names=np.array(names[4:16]),
        labels=numbers(names[4:16]),
        **{k: numbers(v) for k, v in blocks.items()},
        **{f"{k}_names": np.array(v) for k, v in blocks.items()},
    )


def meld_text(where: Open, out: Path) -> None:
    """13,708 utterances of the three official files, time stamps in seconds."""

    def seconds(stamp: str) -> float:
        clock, milliseconds = stamp.split(",")
        hours, minutes, rest = map(int, clock.split(":"))
        return round(hours * 3600 + minutes * 60 + rest + int(milliseconds) / 1000, 3)

    parts = []
    for split, source in (("train", s.MELD_TRAIN), ("valid", s.MELD_VALID), ("test", s.MELD_TEST)):
        t = pd.read_csv(where(source), keep_default_na=False, dtype=str).drop(columns="Sr No.")
        t.columns = t.columns.str.lower()
        parts.append(
            t.assign(
                split=split,
                start_s=t.starttime.map(seconds),
                end_s=t.endtime.map(seconds),
                speaker=t.speaker.str.replace("\u2019", "'"),
                text=t.utterance.str.replace("\u2019", "'"),
            )
        )
    columns = "split dialogue_id utterance_id speaker emotion sentiment season episode start_s end_s text"
    _save_csv(out / "utterances.csv.gz", pd.concat(parts)[columns.split()])


def label_tables(where: Open, out: Path) -> None:
    """IEMOCAP, CH-SIMS and CH-SIMS v2: labels, splits and lengths; no transcript is kept."""
    six, four = read(where(s.IEMOCAP_SIX)), read(where(s.IEMOCAP_FOUR))
    label4 = {u: y for d in four[0] for u, y in zip(four[0][d], four[1][d], strict=True)}
    rows = [
        {
            "utt_id": u,
            "dialogue": dialogue,
            "position": position,
            "session": int(u[4]),
            "speaker": f"{u[:5]}{six[2][dialogue][position]}",
            "label6": six[1][dialogue][position],
            "label4": label4.get(u, -1),
            "split_gcn": "train" if dialogue in six[4] else "test",
            "n_words": len(six[3][dialogue][position].split()),
        }
        for dialogue in sorted(six[0])
        for position, u in enumerate(six[0][dialogue])
    ]
    _save_csv(out / "iemocap_labels.csv", pd.DataFrame(rows))
    for name, labels, text in (("sims", s.SIMS_LABELS, s.SIMS_TEXT), ("simsv2", s.SIMSV2_LABELS, s.SIMSV2_TEXT)):
        table = pd.read_csv(where(text), keep_default_na=False, dtype=str).set_index("name")
        parts = _object_npz(where(labels))
        rows = [
            {
                "utt_id": u,
                "video": u.rsplit("_", 1)[0],
                "split": part,
                "sentiment": float(label["val"]),
                "n_words_english": len(table.english[u].split()),
                "n_chars_chinese": len(table.chinese[u]),
            }
            for part in ("train", "val", "test")
            for u, label in parts[f"{part}_corpus"].items()
        ]
        _save_csv(out / f"{name}_labels.csv", pd.DataFrame(rows))


def _object_npz(path: Path) -> dict[str, Any]:
    """The single objects that an npz file holds as pickles."""
    found = {}
    with zipfile.ZipFile(path) as members:
        for member in members.namelist():
            with members.open(member) as f:
                np.lib.format.read_magic(f)
                np.lib.format.read_array_header_1_0(f)
                found[member.removesuffix(".npy")] = _StandIns(f).load().state[-1][0]
    return found


def class_means(where: Open, out: Path) -> None:
    """Class-conditional feature means and class priors of the training parts, stacked over classes."""
    path = {source.path: where(source) for source in s.CLASS_MEANS}
    means, priors = {}, {}
    for data in ("mosei", "mosi"):
        for part in ("iid", "ood"):
            for scheme, classes in (("binary", 3), ("seven", 7)):
                for form in ("aligned", "unaligned"):
                    files = [
                        f"{data}_feats/{part}/{scheme}/{data}_train_{scheme}_{form}_{c}.npy" for c in range(classes)
                    ]
                    stacked = np.stack([np.load(path[f], allow_pickle=False) for f in files])
                    means[f"{data}_{part}_{scheme}_{form}"] = stacked.astype(np.float32)
                prior = np.load(path[f"{data}_probs/{part}/{scheme}/{data}_train_{scheme}.npy"], allow_pickle=False)
                priors[f"{data}_{part}_{scheme}_probs"] = prior.astype(np.float32)
    _save(out / "cider_class_means.npz", **means, **priors)


def _save_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table; a gzip file carries no time stamp, so that equal tables are equal files."""
    compression: Any = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    table.to_csv(path, index=False, compression=compression)


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    """Write a compressed npz of plain arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())
