"""Joblib's Dask backend on a real local scheduler with two worker processes, one of which is killed mid-run."""

import os
import signal
import threading
import time
from collections import Counter

import pytest
from sweep_driver import specs

from affectcore.errors import ConfigError
from affectcore.studies.runner import run_specs
from affectcore.studies.store import Store

distributed = pytest.importorskip("distributed", reason="the cluster extra is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def test_a_worker_killed_mid_run_loses_and_doubles_nothing(tmp_path):
    log, runs = tmp_path / "log", 8
    store = Store(tmp_path / "store")
    wanted = specs(str(log), runs, 500, 0.3)
    killed = []

    def kill_the_first_worker_that_starts():
        while not (log.exists() and log.read_text()):
            time.sleep(0.005)
        killed.append(int(log.read_text().splitlines()[0].split()[3]))
        os.kill(killed[0], signal.SIGKILL)

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        killer = threading.Thread(target=kill_the_first_worker_that_starts)
        killer.start()
        report = run_specs(wanted, store, cluster=cluster.scheduler_address, progress=False)
        killer.join()
    assert report.exit_code == 0, str(report)
    assert store.hashes() == sorted(s.hash() for s in wanted)
    assert len(store.table()) == runs * 4
    lines = [x.split() for x in log.read_text().splitlines()]
    started = Counter(seed for what, _, seed, _ in lines if what == "start")
    ended = Counter(seed for what, _, seed, _ in lines if what == "end")
    assert ended == Counter(map(str, range(runs)))  # every run was completed once ...
    assert sum(started.values()) == runs + 1  # ... and only the one in flight was begun again
    assert os.getpid() not in {int(pid) for *_, pid in lines}


def test_no_scheduler_answers(tmp_path, monkeypatch):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(ConfigError, match="no Dask scheduler answers there"),
    ):
        run_specs(specs("", 1, 5, 0), Store(tmp_path), cluster="tcp://127.0.0.1:9", progress=False)
