"""Download the public sources of a bundle and rebuild it: `affectcore data fetch NAME`.

A download goes on where it was interrupted, is checked against its pinned SHA-256, and the rebuilt arrays are checked
against their pinned digests before the bundle appears in the cache under its name.
"""

import json
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import requests
from filelock import FileLock
from tqdm import tqdm

from affectcore.data import catalog
from affectcore.data.fetch import rebuild, sources
from affectcore.data.fetch.sources import Source
from affectcore.errors import ConfigError, DataError

HOST = "https://raw.githubusercontent.com"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Recipe:
    """How one bundle is made: its public files and the function that joins them."""

    sources: tuple[Source, ...]
    build: Callable[[rebuild.Open, Path], None]


_s = sources
RECIPES: dict[str, Recipe] = {
    "cmu_mosei_video": Recipe(
        (_s.MOSEI_LABELS, _s.MOSEI_FOLDS, _s.MOSEI_POOLED_TEST, _s.MOSEI_POOLED_VALID), rebuild.cmu_mosei_video
    ),
    "cmu_mosi_utt": Recipe(
        (
            *(_s.MOSI_TRANSCRIPTS, _s.MOSI_ROWS_TRAIN, _s.MOSI_ROWS_TEST, _s.MOSI_REAL_LABELS, _s.MOSI_TIMES),
            *(_s.MOSI_TEXT_TRAIN, _s.MOSI_TEXT_TEST, _s.MOSI_AUDIO_TRAIN, _s.MOSI_AUDIO_TEST),
            *(_s.MOSI_VIDEO_TRAIN, _s.MOSI_VIDEO_TEST, _s.MOSI_GLOVE),
        ),
        rebuild.cmu_mosi_utt,
    ),
    "cmu_mosi_wordlevel": Recipe((_s.MOSI_WORDS_VALID, _s.MOSI_GLOVE, _s.MOSI_TRANSCRIPTS), rebuild.cmu_mosi_wordlevel),
    "cmu_mosei_labels": Recipe(
        (_s.MOSEI_LABELS, _s.MOSEI_FOLDS, _s.MOSEI_TEXT_VALID, _s.MOSEI_TEXT_TEST), rebuild.cmu_mosei_labels
    ),
    "crema_d_votes": Recipe((_s.CREMA_VOTES, _s.CREMA_ACTORS), rebuild.crema_d_votes),
    "swell_kw": Recipe((_s.SWELL,), rebuild.swell_kw),
    "meld_text": Recipe((_s.MELD_TRAIN, _s.MELD_VALID, _s.MELD_TEST), rebuild.meld_text),
    "label_tables": Recipe(
        (_s.IEMOCAP_SIX, _s.IEMOCAP_FOUR, _s.SIMS_LABELS, _s.SIMS_TEXT, _s.SIMSV2_LABELS, _s.SIMSV2_TEXT),
        rebuild.label_tables,
    ),
    "class_means": Recipe(_s.CLASS_MEANS, rebuild.class_means),
}

_PART_OF = dict.fromkeys(("iemocap_labels", "sims_labels", "simsv2_labels"), "label_tables")


def fetch(name: str, folder: Path | None = None, host: str = HOST) -> Path:
    """Return the folder of the bundle `name` below `folder` (default: where `load` looks), made from public sources.

    host: where the pinned files are read from, a mirror for instance. Raises ConfigError for an unknown name, DataError
    for a download that fails or differs from its SHA-256, and for a rebuilt array that differs from its digest.
    """
    name = _PART_OF.get(name, name)
    if name not in RECIPES:
        raise ConfigError(f"data set {name!r} has no public source to fetch from; these have: {', '.join(RECIPES)}")
    recipe, root = RECIPES[name], folder or catalog.root()
    target = root / name
    if target.is_dir() and not differences(name, target):
        return target
    try:
        (root / "sources").mkdir(parents=True, exist_ok=True)
        with FileLock(root / "sources" / ".lock"):  # two at once would write into one half-loaded file
            return _make(name, recipe, root, target, host)
    except OSError as error:
        raise DataError(f"{name}: cannot write below {root}: {error.strerror or error}") from error


def _make(name: str, recipe: Recipe, root: Path, target: Path, host: str) -> Path:
    if target.is_dir() and not differences(name, target):  # made by another process while this one waited
        return target
    paths = {source: _download(source, root / "sources", host) for source in recipe.sources}
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as temporary:
        made = Path(temporary) / name
        made.mkdir()
        recipe.build(paths.__getitem__, made)
        wrong = differences(name, made)
        if wrong:
            raise DataError(f"{name}: rebuilt {', '.join(wrong[:3])} differ from the pinned contents")
        if target.exists():
            shutil.rmtree(target)
        os.replace(made, target)
    return target


def _download(source: Source, folder: Path, host: str) -> Path:
    """Return the verified local copy of one source file."""
    pooch.get_logger().setLevel("WARNING")  # the progress bar says what is going on
    url = f"{host}/{urllib.parse.quote(source.url_path)}"
    try:
        path = pooch.retrieve(
            url, known_hash=source.sha256, fname=f"{source.sha256[:16]}{Path(source.path).suffix}", path=folder,
            downloader=partial(_resume, folder),
        )  # fmt: skip
    except requests.RequestException as error:
        raise DataError(f"{url}: {error}") from error
    except ValueError as error:  # pooch's word for a hash that does not match
        raise DataError(f"{url}: not the pinned file, SHA-256 should be {source.sha256}") from error
    return Path(path)


def _resume(folder: Path, url: str, output_file: str, _: object) -> None:
    """Pooch downloader that keeps what arrived in `folder/partial` and asks for the rest the next time."""
    part = folder / "partial" / blake2b(url.encode(), digest_size=8).hexdigest()
    part.parent.mkdir(exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    # the file itself and not a compressed form of it: its bytes are counted, and gone on from
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        if answer.status_code != 416:  # 416: nothing is left to send
            answer.raise_for_status()
            whole = answer.status_code != 206
            total = int(answer.headers.get("Content-Length", 0)) + (0 if whole else have)
            bar = tqdm(
                total=total or None, initial=0 if whole else have, unit="B", unit_scale=True, leave=False, disable=None
            )
            with part.open("wb" if whole else "ab") as f, bar:
                bar.set_description(Path(urllib.parse.urlparse(url).path).name[-40:])
                for chunk in answer.iter_content(_CHUNK):
                    f.write(chunk)
                    bar.update(len(chunk))
            if total and part.stat().st_size < total:
                raise requests.ConnectionError(f"stopped at {part.stat().st_size} of {total} bytes; run again to go on")
    shutil.move(part, output_file)


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of every array and table of a bundle: "file/array" or "file" -> 16 hexadecimal digits.

    The digest is of values, types and shapes, not of bytes on disk, which change with compression libraries.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                for key in arrays:
                    a = arrays[key]
                    words = f"{a.dtype.str}{a.shape}".encode() + np.ascontiguousarray(a).tobytes()
                    found[f"{path.name}/{key}"] = blake2b(words, digest_size=8).hexdigest()
        elif ".csv" in path.suffixes:
            text = pd.read_csv(path, dtype=str, keep_default_na=False).to_csv(index=False)
            found[path.name] = blake2b(text.encode(), digest_size=8).hexdigest()
    return found


def differences(name: str, folder: Path) -> list[str]:
    """Return the arrays and tables of a bundle that are missing or differ from the pinned contents; [] means exact."""
    expected = json.loads(Path(__file__).with_name("contents.json").read_text())[name]
    found = contents(folder)
    return [key for key in expected if found.get(key) != expected[key]]
