"""Downloads that stop, lie or are complete, from a local server; and the recipes on small generated sources."""

import gzip
import http.server
import io
import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from affectcore.data import fetch
from affectcore.data.fetch import rebuild, sources
from affectcore.data.fetch.sources import Source
from affectcore.errors import ConfigError, DataError, UnsafePickleError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /owner/name/commit/file.bin; `state` says how it misbehaves and what it was asked."""

    state: dict[str, Any]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.state["asked"].append((self.path, asked))
        if self.path != "/owner/name/commit/a%20file.bin":
            self.send_error(404)
            return
        start = int(asked.split("=")[1].rstrip("-")) if asked and self.state["ranges"] else 0
        body = self.state["content"][start:]
        self.send_response(206 if start else 200)
        if "gzip" in self.headers.get("Accept-Encoding", ""):  # as public hosts do for text
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.state["stop_after"]:
            body, self.state["stop_after"] = body[: self.state["stop_after"]], 0
        for part in (body[:1000], body[1000:]):
            self.wfile.write(part)
            time.sleep(self.state["pause"])

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Any]]]:
    state: dict[str, Any] = {"asked": [], "stop_after": 0, "pause": 0, "ranges": True, "content": CONTENT}
    handler = type("Handler", (Server,), {"state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", state
        httpd.shutdown()
        thread.join()


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Source:
    source = Source("owner/name", "commit", "a file.bin", sha256(CONTENT).hexdigest())

    def build(where: rebuild.Open, out: Path) -> None:
        np.savez(out / "features.npz", bytes=np.frombuffer(where(source).read_bytes(), np.uint8))

    monkeypatch.setitem(fetch.RECIPES, "toy", fetch.Recipe((source,), build))
    expected = {"features.npz/bytes": _digest(np.frombuffer(CONTENT, np.uint8))}
    real = Path.read_text

    def contents(path: Path, *a: Any, **k: Any) -> str:
        return json.dumps({"toy": expected}) if path.name == "contents.json" else real(path, *a, **k)

    monkeypatch.setattr(Path, "read_text", contents)
    return source


def _digest(array: np.ndarray) -> str:
    from hashlib import blake2b

    return blake2b(f"{array.dtype.str}{array.shape}".encode() + array.tobytes(), digest_size=8).hexdigest()


@pytest.mark.usefixtures("recipe")
def test_a_bundle_is_downloaded_rebuilt_and_then_left_alone(server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    host, state = server
    folder = fetch.fetch("toy", tmp_path, host)
    assert folder == tmp_path / "toy"
    with np.load(folder / "features.npz") as arrays:
        assert arrays["bytes"].tobytes() == CONTENT
    assert fetch.fetch("toy", tmp_path, host) == folder
    assert state["asked"] == [("/owner/name/commit/a%20file.bin", None)]


@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize("ranges", [True, False])
def test_a_stopped_download_goes_on(server: tuple[str, dict[str, Any]], tmp_path: Path, ranges: bool) -> None:
    host, state = server
    state |= {"stop_after": 100_000, "ranges": ranges}
    with pytest.raises(DataError, match=r"a%20file\.bin"):
        fetch.fetch("toy", tmp_path, host)
    assert not (tmp_path / "toy").exists()
    fetch.fetch("toy", tmp_path, host)
    assert state["asked"][1][1] is not None  # the rest was asked for, whether or not the server can send it alone
    assert fetch.differences("toy", tmp_path / "toy") == []


@pytest.mark.usefixtures("recipe")
def test_two_at_once_download_one_after_the_other(server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    host, state = server
    state["pause"] = 0.2
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: fetch.fetch("toy", tmp_path, host), range(3)))
    assert made == [tmp_path / "toy"] * 3
    assert state["asked"] == [("/owner/name/commit/a%20file.bin", None)]  # the others found it made


@pytest.mark.usefixtures("recipe")
def test_another_file_than_the_pinned_one_is_refused(server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    host, state = server
    state["content"] = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match="not the pinned file, SHA-256 should be"):
        fetch.fetch("toy", tmp_path, host)
    assert not (tmp_path / "toy").exists()
    state["content"] = CONTENT
    fetch.fetch("toy", tmp_path, host)  # nothing of the wrong file was kept


@pytest.mark.usefixtures("recipe")
def test_a_changed_bundle_is_rebuilt(server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    folder = fetch.fetch("toy", tmp_path, server[0])
    np.savez(folder / "features.npz", bytes=np.zeros(3, np.uint8))
    assert fetch.differences("toy", folder) == ["features.npz/bytes"]
    fetch.fetch("toy", tmp_path, server[0])
    assert fetch.differences("toy", folder) == []


def test_what_is_rebuilt_must_have_the_pinned_contents(
    server: tuple[str, dict[str, Any]], recipe: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(where: rebuild.Open, out: Path) -> None:
        np.savez(out / "features.npz", bytes=np.frombuffer(where(recipe).read_bytes()[:-1], np.uint8))

    monkeypatch.setitem(fetch.RECIPES, "toy", fetch.Recipe((recipe,), wrong))
    with pytest.raises(DataError, match=r"rebuilt features.npz/bytes differ"):
        fetch.fetch("toy", tmp_path, server[0])
    assert [p.name for p in tmp_path.iterdir()] == ["sources"]


@pytest.mark.usefixtures("recipe")
def test_absent_files_servers_and_disks_are_named(
    server: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="404"):
        fetch.fetch("toy", tmp_path, server[0] + "/elsewhere")
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9"):
        fetch.fetch("toy", tmp_path, "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="'mosi' has no public source to fetch from; these have: cmu_mosei_video"):
        fetch.fetch("mosi", tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch.os, "replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        fetch.fetch("toy", tmp_path, server[0])
    assert not (tmp_path / "toy").exists()


def test_present_bundles_are_exact() -> None:
    root = os.environ.get("AFFECTCORE_DATA")
    if not root:
        pytest.skip("real data not present")
    present = [name for name in fetch.RECIPES if (Path(root) / name).is_dir()]
    assert {name: fetch.differences(name, Path(root) / name) for name in present} == {name: [] for name in present}


def test_every_recipe_has_pinned_sources_and_contents() -> None:
    pinned = json.loads(Path(fetch.__file__).with_name("contents.json").read_text())
    assert set(pinned) == set(fetch.RECIPES)
    for name, made in fetch.RECIPES.items():
        assert pinned[name]
        for source in made.sources:
            assert len(source.sha256) == 64
            assert len(source.commit) == 40


# ---- recipes on small generated sources


def where(folder: Path, files: dict[Source, bytes]) -> rebuild.Open:
    for source, content in files.items():
        (folder / source.sha256).write_bytes(content)
    return lambda source: folder / source.sha256


def test_mosei_video_ids_are_restored_by_replaying_the_split(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    videos = [f"v{i:03d}" for i in range(60)]
    rows = [(v, k, k + 1.0, *np.round(r.random(7) * 3, 4)) for v in videos for k in range(2)]
    names = ["id", "interval_start", "interval_end", *(f"feature_{i}" for i in range(7))]
    table = pd.DataFrame(rows, columns=names)
    rest, test = train_test_split(videos, test_size=0.2, random_state=42)
    _, valid = train_test_split(rest, test_size=0.1, random_state=42)
    kept = {"test": test[:4] + test[5:], "val": valid}  # the source lost one video of its test part
    target = table.groupby("id")[names[3:]].mean().mean(axis=1)

    def stored(ids: list[str]) -> bytes:
        n = len(ids)
        blocks = {"language": r.random((n, 3)), "acoustic": r.random((n, 2)), "visual": r.random((n, 2))}
        return pickle.dumps(blocks | {"labels": target[ids].to_numpy(np.float32)})

    files = {
        sources.MOSEI_LABELS: table.to_csv(index=False).encode(),
        sources.MOSEI_FOLDS: f"standard_train_fold={videos[:50]!r}\nstandard_test_fold={videos[50:]!r}".encode(),
        sources.MOSEI_POOLED_TEST: stored(kept["test"]),
        sources.MOSEI_POOLED_VALID: stored(kept["val"]),
    }
    rebuild.cmu_mosei_video(where(tmp_path, files), tmp_path)
    with np.load(tmp_path / "features.npz") as made:
        assert made["video_id"].tolist() == kept["test"] + kept["val"]
        assert made["fold"].tolist() == ["test" if v >= "v050" else "train" for v in made["video_id"]]
        expected = table[table.id == test[0]][names[3:]].mean()
        np.testing.assert_allclose(made["label_mean"][0], expected, rtol=1e-6)
        assert made["n_segments"].tolist() == [2] * len(made["fold"])

    files[sources.MOSEI_POOLED_VALID] = stored(valid[::-1])
    with pytest.raises(DataError, match="does not match the replayed split"):
        rebuild.cmu_mosei_video(where(tmp_path, files), tmp_path)


def test_meld_times_and_quotes(tmp_path: Path) -> None:
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    row = '1,"It\u2019s, so",Anyone,joy,positive,0,1,2,3,"01:00:02,28","01:00:03,500"'
    files = dict.fromkeys((sources.MELD_TRAIN, sources.MELD_VALID, sources.MELD_TEST), f"{head}\n{row}\n".encode())
    rebuild.meld_text(where(tmp_path, files), tmp_path)
    table = pd.read_csv(tmp_path / "utterances.csv.gz")
    assert table.split.tolist() == ["train", "valid", "test"]
    assert table.loc[0, ["start_s", "end_s", "text"]].tolist() == [3602.028, 3603.5, "It's, so"]


def test_crema_channels_are_joined_by_clip(tmp_path: Path) -> None:
    means = [f"mean{e}Resp" for e in ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad")]
    votes = pd.DataFrame(
        [
            [i, *range(6), clip, *[-1.0] * 5, 50.0]
            for k in (1, 2, 3)
            for i, clip in ((k * 100_000 + 1, "1001_IEO_HAP_LO"),)
        ],
        columns=["", *"ADFHNS", "fileName", *means],
    )
    files = {
        sources.CREMA_VOTES: votes.to_csv(index=False).encode(),
        sources.CREMA_ACTORS: b"ActorID,Age,Sex\n1001,51,Male\n",
    }
    rebuild.crema_d_votes(where(tmp_path, files), tmp_path)
    with np.load(tmp_path / "votes.npz") as made:
        assert made["intended"].tolist() == [3]
        assert made["av_votes"].tolist() == [[0, 1, 2, 3, 4, 5]]
        assert np.isnan(made["face_level"]).tolist() == [[True] * 5 + [False]]
    votes.loc[2, "fileName"] = "1001_IEO_SAD_LO"
    files[sources.CREMA_VOTES] = votes.to_csv(index=False).encode()
    with pytest.raises(DataError, match="the av rows list other clips"):
        rebuild.crema_d_votes(where(tmp_path, files), tmp_path)


def test_swell_missing_values_are_nan(tmp_path: Path) -> None:
    names = ["PP", "Blok", "Condition", "timestamp", *(f"c{i}" for i in range(168))]
    row = ["PP1", "1", "N", "20120918T131600000", "999", "#VALUE!", "", "NaN", *["7"] * 164]
    text = "\n".join([",".join(names), ",".join(row)])
    rebuild.swell_kw(where(tmp_path, {sources.SWELL: text.encode()}), tmp_path)
    with np.load(tmp_path / "features.npz") as made:
        assert np.isnan(made["labels"][0]).tolist() == [True] * 4 + [False] * 8
        assert {k: made[k].shape[1] for k in ("physiology", "facial", "computer", "posture")} == {
            "physiology": 3, "facial": 41, "computer": 18, "posture": 94,
        }  # fmt: skip


def test_the_reader_of_odd_pickles_imports_nothing() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("/nonexistent/should-not-be-made",)

    with pytest.raises(UnsafePickleError, match=r"mkdir is not allowed"):
        rebuild._StandIns(io.BytesIO(pickle.dumps(Evil()))).load()
