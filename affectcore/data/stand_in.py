"""Generated files in the form of the public sets: small, meaningless, and enough to run every reader without them.

The tests read them, and so does the data chapter where it may neither read stored numbers nor find the real files.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EMOTIONS = ["happy", "sad", "anger", "surprise", "disgust", "fear"]


def write(folder: Path, seed: int = 0) -> Path:
    """Write generated twins of the public sets below `folder` and return it: use it as the root of the data."""
    r = np.random.default_rng(seed)
    table = mosi_table(r)
    made = {
        "cmu_mosei_video/features.npz": mosei(r),
        "swell_kw/features.npz": swell(r),
        "crema_d_votes/votes.npz": crema(r),
        **mosi(r, table.sentiment.to_numpy(np.float32)),
    }
    for name in ("cmu_mosi_utt", "meld_text", "cmu_mosei_labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path, arrays in made.items():
        (folder / path).parent.mkdir(exist_ok=True)
        np.savez(folder / path, **arrays)
    table.to_csv(folder / "cmu_mosi_utt/utterances.csv", index=False)
    meld().to_csv(folder / "meld_text/utterances.csv.gz", index=False)
    segments(r).to_csv(folder / "cmu_mosei_labels/segments.csv.gz", index=False)
    return folder


def mosei(r: np.random.Generator, n: int = 40) -> dict[str, Any]:
    """CMU-MOSEI per video: half the rows of audio column 7 are -inf; text has 8 columns instead of 768."""
    audio = r.normal(size=(n, 40)).astype("f4")
    audio[: n // 2, 7] = -np.inf
    frac = r.random((n, 6)).astype("f4")
    frac[0] = 1 / 3
    return {
        "video_id": np.array([f"-{i}" for i in range(n)]),
        "fold": np.array((["train"] * 6 + ["valid"] * 2 + ["test", "none"]) * (n // 10)),
        "label_mean": r.uniform(-3, 3, (n, 7)).astype("f4"),
        "emotion_frac": frac,
        "text": r.normal(size=(n, 8)).astype("f4"),
        "audio": audio,
        "video": np.abs(r.normal(size=(n, 35))).astype("f4"),
    }


def segments(r: np.random.Generator, videos: int = 40) -> pd.DataFrame:
    """CMU-MOSEI's label table: three segments in each of the videos of `mosei`."""
    n = 3 * videos
    ratings = {"sentiment": r.integers(-9, 10, n) / 3} | {e: r.integers(0, 4, n) / 3 for e in EMOTIONS}
    place = {"video_id": np.repeat([f"-{i}" for i in range(videos)], 3), "segment": np.tile(np.arange(3), videos)}
    pace = np.repeat(r.uniform(1, 9, videos), 3)
    times = {"start_s": pace * np.tile([0.0, 5.0, 9.0], videos), "end_s": pace * np.tile([5.0, 9.0, 14.0], videos)}
    test = np.arange(n) >= n // 2
    return pd.DataFrame(
        place | times | ratings | {"fold": np.where(test, "test", "train"), "text": np.where(test, said(r, n), "")}
    )


WORDS = ["good", "bad", "great", "boring", "the", "movie", "was", "and", "not", "NA"]


def said(r: np.random.Generator, n: int) -> list[str]:
    """Sentences of one to eight words."""
    return [" ".join(r.choice(WORDS, r.integers(1, 9))) for _ in range(n)]


MOSI = 240  # as many as a lexical re-split with 64 test utterances needs


def mosi_table(r: np.random.Generator) -> pd.DataFrame:
    """CMU-MOSI's utterances: videos of three; the first one's only word reads like a missing value."""
    video = np.array([f"v{i // 3}" for i in range(MOSI)])
    score = np.round(r.uniform(-3, 3, MOSI), 1)
    score[::2] = -score[1::2]  # both signs in every part
    return pd.DataFrame(
        {
            "utt_id": [f"{v}_{i % 3 + 1}" for i, v in enumerate(video)],
            "video_id": video,
            "sentiment": score,
            "split_standard": np.repeat(["train", "valid", "test"], [MOSI * 6 // 10, MOSI // 5, MOSI // 5]),
            "split_extractor": np.where(np.arange(MOSI) < MOSI // 2, "test", "train"),
            "text": ["NA", *said(r, MOSI - 1)],
        }
    )


def mosi(r: np.random.Generator, score: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
    """CMU-MOSI's arrays: 4 columns of text, 3 of text_cnn, 2 of audio, 3 of video; 9 words."""
    parts = {"text_glove": 4, "text_cnn": 3, "audio": 2, "video": 3}
    x = {k: r.normal(size=(MOSI, d)).astype("f4") for k, d in parts.items()}
    ids = np.array([f"v{i // 3}_{i % 3 + 1}" for i in range(MOSI)])
    length = r.integers(1, 9, MOSI)
    words = {
        "token_ids": r.integers(2, 9, length.sum()).astype("i2"),
        "offsets": np.r_[0, np.cumsum(length)],
        "glove": r.normal(size=(9, 4)).astype("f2"),
    }
    return {"cmu_mosi_utt/features.npz": {"utt_id": ids, "sentiment": score, **x}, "cmu_mosi_utt/words.npz": words}


def swell(r: np.random.Generator, people: int = 6) -> dict[str, Any]:
    """SWELL-KW: per person three blocks of two minutes of rest and six of work, with a gap of time in the last."""
    n = 24 * people
    minute = np.tile(np.arange(24), people) + np.repeat(100 * np.arange(people), 24)
    minute[np.arange(n) % 24 > 20] += 5
    time = pd.Timestamp("2020-01-01 08:00") + pd.to_timedelta(minute, unit="min")
    condition = np.tile(np.array(list("RRNNNNNNRRTTTTTTRRIIIIII")), people)
    z: dict[str, Any] = {
        "participant": np.repeat([f"PP{i}" for i in range(people)], 24),
        "block": np.tile(np.repeat([1, 2, 3], 8), people),
        "condition": condition,
        "timestamp": time.strftime("%Y%m%dT%H%M00000").to_numpy(str),
        "label_names": np.array(["Valence_rc", "Arousal_rc", "Stress"]),
        "labels": np.where(condition[:, None] == "R", np.nan, r.uniform(1, 9, (n, 3))).astype("f4"),
    }
    for m, d in {"physiology": 3, "facial": 4, "computer": 2, "posture": 5}.items():
        z[m] = (r.normal(size=(n, d)) * 5 + np.repeat(50 * np.arange(people), 24)[:, None]).astype("f4")
        z[f"{m}_names"] = np.array([f"{m}{i}" for i in range(d)])
    z["physiology"][4:7] = np.nan
    z["physiology"][30, 1] = np.nan
    return z


def crema(r: np.random.Generator, n: int = 60) -> dict[str, Any]:
    """CREMA-D: ten actors, ten votes per clip and channel."""
    z: dict[str, Any] = {
        "actor": np.repeat(np.arange(1001, 1011), n // 10),
        "sentence": np.array(["IEO", "TIE"] * (n // 2)),
        "level": np.array(["LO", "MD", "HI", "XX"] * (n // 4)),
        "emotion_names": np.array(["anger", "disgust", "fear", "happy", "neutral", "sad"]),
        "intended": (np.arange(n) % 6).astype("i1"),
    }
    for c in ("voice", "face", "av"):
        votes = r.multinomial(10, np.ones(6) / 6, n)
        z[f"{c}_votes"] = votes.astype("i1")
        z[f"{c}_level"] = np.where(votes > 0, r.uniform(1, 100, (n, 6)), np.nan).astype("f4")
    return z


def meld() -> pd.DataFrame:
    """MELD: eight dialogues of five utterances in each split, numbered from 0 in each."""
    words = ["null", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    emotions = ["neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"]
    rows = []
    for split in ("train", "valid", "test"):
        for i in range(40):
            said = f"null {words[i % 11]} {words[i * i % 11]} {words[i * i * i % 7]}"
            rows.append((split, i // 5, i % 5, f"S{i % 8}", emotions[i % 7], "neutral", said))
    names = ["split", "dialogue_id", "utterance_id", "speaker", "emotion", "sentiment", "text"]
    return pd.DataFrame(rows, columns=names)
