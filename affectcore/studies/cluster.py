"""The same work on a cluster: joblib's Dask backend. Needs `pip install .[cluster]`.

    dask scheduler                              # prints its address, tcp://HOST:8786
    dask worker tcp://HOST:8786 --nthreads 1    # on every node, with the same store folder
    affectcore run STUDY --cluster tcp://HOST:8786

The workers write to the store themselves, so its folder must lie on a file system they share. A worker that dies loses
the run in flight; the scheduler hands that run to another, and the store's leases keep it from being run twice.
"""

from collections.abc import Callable, Sequence
from typing import Any

from affectcore.errors import ConfigError, StoreError


def map_on(address: str, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return function(*call) of every call, computed by the workers of the Dask scheduler at `address`.

    Raises ConfigError if Dask is not installed or no scheduler answers there, StoreError if the cluster is lost.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError as e:
        raise ConfigError("a cluster needs Dask: pip install 'affectcore[cluster]'") from e
    from joblib import Parallel, delayed, parallel_config

    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as e:  # TimeoutError is an OSError
        raise ConfigError(f"cluster {address!r}: no Dask scheduler answers there ({type(e).__name__})") from e
    try:
        # large calls are never sent twice: a spec is a few kilobytes, data are loaded by the worker
        with client, parallel_config(backend="dask", client=client, wait_for_workers_timeout=60):
            return list(Parallel(batch_size=1)(delayed(function)(*c) for c in calls))
    except KilledWorker as e:
        raise StoreError(f"cluster {address!r}: a run killed several workers ({e}); finished runs are kept") from e
