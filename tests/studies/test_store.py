"""The store: finished runs are there whole or not at all, whatever happens to the runner or the disk."""

import errno
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sweep_driver import main, specs

from affectcore.errors import StoreError
from affectcore.studies import store as store_module
from affectcore.studies.outcome import half
from affectcore.studies.runner import run_item, run_specs
from affectcore.studies.store import Store

HERE = Path(__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def item():
    return run_item(specs("", 1, 50, 0)[0])


def test_round_trip(store, item):
    record, predictions = item
    store.write(record, predictions)
    assert store.hashes() == [record.hash]
    assert store.record(record.hash) == record
    assert store.record(record.hash).metrics["test"]["clean"]["undefined"] is None
    again = store.predictions(record.hash)
    np.testing.assert_array_equal(again.scores["test", "clean"], predictions.scores["test", "clean"])
    assert again.scores["test", "clean"].dtype == np.float16
    for part in ("rows", "target", "group"):
        np.testing.assert_array_equal(getattr(again, part)["valid"], getattr(predictions, part)["valid"])
    table = store.table()
    assert len(table) == 4  # two splits, one condition, two metrics
    row = table.query("split == 'test' and metric == 'accuracy'").iloc[0]
    assert row["value"] == record.metrics["test"]["clean"]["accuracy"]
    assert row["floor"] == 0.5
    assert np.isnan(table.query("metric == 'undefined'")["value"]).all()


def test_the_table_of_an_empty_store_has_its_columns(store):
    assert list(store.table().columns) == store_module.COLUMNS


def test_records_hold_no_path_host_or_user(store, item):
    store.write(*item)
    text = (store.folder / item[0].hash / "record.json").read_text()
    for word in (os.uname().nodename, str(HERE), str(store.folder), str(Path.home()) + "/"):
        assert word not in text


def test_scores_that_float16_cannot_hold():
    for bad in (np.nan, np.inf, 1e6):
        with pytest.raises(StoreError, match="here: 1 scores are NaN, infinite or beyond 65504"):
            half(np.array([0.5, bad]), "here")


def test_a_half_written_folder_is_never_read(store, item):
    record, predictions = item
    left = store.folder / f".tmp-{record.hash}-abc"
    left.mkdir()
    (left / "record.json").write_text('{"spec": ')
    assert store.hashes() == []
    assert record.hash not in store
    store.write(record, predictions)
    assert not left.exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"spec": 1}', '{"hash": "x"}'])
def test_a_record_damaged_by_hand_is_named(store, item, damage):
    store.write(*item)
    file = store.folder / item[0].hash / "record.json"
    file.write_text(damage)
    with pytest.raises(StoreError, match=r"record\.json: .*remove the folder to run it again") as e:
        store.record(item[0].hash)
    assert "\n" not in str(e.value)


def test_predictions_damaged_by_hand_are_named(store, item):
    store.write(*item)
    file = store.folder / item[0].hash / "predictions.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"predictions\.npz: no predictions"):
        store.predictions(item[0].hash)


# --- a disk that refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["_flush", "_flush_folder", "savez"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_gives_one_line_and_leaves_nothing(store, item, monkeypatch, where, number):
    def refuse(*a, **k):
        raise OSError(number, os.strerror(number))

    if where == "savez":
        monkeypatch.setattr(np, "savez_compressed", refuse)
    else:
        monkeypatch.setattr(store_module, where, refuse)
    with pytest.raises(StoreError, match=f"cannot write run {item[0].hash}: {os.strerror(number)}") as e:
        store.write(*item)
    assert "\n" not in str(e.value)
    assert store.hashes() == []
    assert not list(store.folder.glob(".tmp*"))


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.argv = ["driver", *sys.argv[1:]]
exec(compile(open({driver!r}).read(), "driver", "exec"))
"""


@posix
def test_a_file_system_that_fills_up_fails_the_runs_in_one_line_each(tmp_path):
    code = LIMITED.format(driver=str(HERE / "sweep_driver.py"))
    out = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "store", tmp_path / "log", "2", "50000", "0"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(HERE)}, check=False,
    )  # fmt: skip
    assert out.returncode == 1
    assert "Traceback" not in out.stderr
    assert out.stdout.count("File too large") == 2
    assert Store(tmp_path / "store").hashes() == []
    assert not list((tmp_path / "store").glob(".tmp*"))


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount")
def test_a_full_and_a_read_only_disk(tmp_path, item):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        store = Store(disk)
        for spec in specs("", 200, 5000, 0):
            try:
                store.write(*run_item(spec))
            except StoreError as e:
                assert "No space left on device" in str(e)  # noqa: PT017 - the loop ends here, at the first refusal
                break
        else:
            pytest.fail("the disk never filled up")
        assert len(store.records()) == len(store.hashes()) >= 1
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(StoreError, match="Read-only file system"):
            store.write(*item)
        with pytest.raises(StoreError, match="cannot be made: Read-only file system"):
            Store(disk / "new")
        assert store.records()  # reading goes on
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_store_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "store")


# --- two runners, and runners that die -----------------------------------------------------------------------------


def test_a_lease_is_exclusive_and_ends(store):
    with store.lease("0" * 20) as first, Store(store.folder).lease("0" * 20) as second:
        assert first
        assert not second
    with store.lease("0" * 20) as again:
        assert again


@pytest.fixture(scope="module")
def driver():
    """Start a runner in a process of its own; forked from one that has imported everything, so in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "affectcore.studies.runner", "pooch"])

    def start(folder, log, runs, items, sleep):
        process = context.Process(target=main, args=(str(folder), str(log), runs, items, sleep))
        process.start()
        return process

    return start


def lines(log, what):
    return [x.split()[2] for x in log.read_text().splitlines() if x.startswith(what)] if log.exists() else []


def finished(store):
    """Every folder that is visible holds a whole record and whole predictions: reading them raises otherwise."""
    for h in store.hashes():
        store.record(h)
        assert len(store.predictions(h).scores["test", "clean"])
    return {h: (store.folder / h / "record.json").read_bytes() for h in store.hashes()}


@posix
def test_two_runners_share_a_store_and_run_nothing_twice(tmp_path, driver):
    log, runs = tmp_path / "log", 12
    pair = [driver(tmp_path / "store", log, runs, 500, 0.03) for _ in range(2)]
    for p in pair:
        p.join()
    assert [p.exitcode for p in pair] == [0, 0]
    assert len(finished(Store(tmp_path / "store"))) == runs
    assert Counter(lines(log, "start")) == Counter(map(str, range(runs)))
    assert len({x.split()[3] for x in log.read_text().splitlines()}) == 2  # both took part


@posix
def test_a_runner_that_is_killed_leaves_its_run_to_the_other(tmp_path, driver):
    log = tmp_path / "log"
    first = driver(tmp_path / "store", log, 3, 500, 30)  # would sleep for half a minute
    while not lines(log, "start"):
        time.sleep(0.01)
    store = Store(tmp_path / "store")
    held = specs(str(log), 3, 500, 30)[0].hash()
    with store.lease(held) as mine:
        assert not mine
    first.kill()
    first.join()
    with store.lease(held) as mine:
        assert mine


def kill_again_and_again(tmp_path, driver, kills, seed):
    """SIGKILL a runner `kills` times at random instants; nothing finished may be lost or changed, nothing half read."""
    draw, log, runs = random.Random(seed), tmp_path / "log", 4 * kills
    store, before = Store(tmp_path / "store"), {}
    for _ in range(kills):
        begun = len(lines(log, "start"))
        process = driver(store.folder, log, runs, 4000, 0)
        seen = []  # instants of this runner's starts: the time of a whole run is known when there are two
        while len(seen) < 2 and process.is_alive():
            time.sleep(0.001)
            seen += [time.perf_counter()] * (len(lines(log, "start")) > begun + len(seen))
        if len(seen) == 2:
            time.sleep(draw.uniform(0, seen[1] - seen[0]))  # in computing, compressing, flushing or renaming
        process.kill()
        process.join()
        after = finished(store)
        assert before.items() <= after.items()
        before = after
    done = len(before)
    report = run_specs(specs(str(log), runs, 4000, 0), store, progress=False)
    assert report.exit_code == 0
    assert sum(s.state == "found" for s in report.statuses) == done
    assert len(finished(store)) == runs
    assert not list(store.folder.glob(".tmp*"))
    assert len(lines(log, "start")) <= runs + kills  # at most the run in flight is run again
    assert done >= kills  # each runner had finished one run or more before it was killed


@posix
def test_twenty_random_kills(tmp_path, driver):
    kill_again_and_again(tmp_path, driver, 20, seed=0)


@posix
@pytest.mark.slow
def test_two_hundred_random_kills(tmp_path, driver):
    kill_again_and_again(tmp_path, driver, 200, seed=1)
