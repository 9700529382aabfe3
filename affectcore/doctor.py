"""What an installation has and lacks, for `affectcore doctor`."""

import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from affectcore.errors import AffectError

_PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "safetensors", "matplotlib")
_BOOK = ("jupyter-book", "papermill", "jupytext", "nbval")


def examine() -> list[dict[str, Any]]:
    """Return one row a thing: what, state ("fine", "absent", "wrong"), detail. "absent" things are optional."""
    rows = [_row("Python", sys.version_info >= (3, 11), platform.python_version(), "3.11 or newer is needed")]
    for name in _PACKAGES:
        rows.append(_row(name, *_version(name), "install the requirements"))
    book = [_version(name) for name in _BOOK]
    rows.append(
        _optional("book tools", all(ok for ok, _ in book), "pip install -r requirements.txt -c constraints.txt")
    )
    rows.append(_optional("Dask (cluster)", _version("distributed")[0], "pip install '.[cluster]'"))
    rows += [_gpu(), *_data(), _store()]
    return rows


def _version(name: str) -> tuple[bool, str]:
    try:
        return True, metadata.version(name)
    except metadata.PackageNotFoundError:
        return False, "not installed"


def _row(what: str, ok: bool, detail: str, mend: str) -> dict[str, Any]:
    return {"what": what, "state": "fine" if ok else "wrong", "detail": detail if ok else f"{detail}: {mend}"}


def _optional(what: str, ok: bool, mend: str, detail: str = "installed") -> dict[str, Any]:
    return {"what": what, "state": "fine" if ok else "absent", "detail": detail if ok else mend}


def _gpu() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return _optional("GPU", False, "none that this PyTorch can use; everything runs on the CPU")
    return _optional("GPU", True, "", torch.cuda.get_device_name(0))


def _data() -> list[dict[str, Any]]:
    from affectcore.data import catalog

    sets = [e for e in catalog.CATALOG.values() if e.present]
    where = catalog.root()
    rows = [
        _optional(
            "real data", bool(sets), f"none below {where}: affectcore data fetch", f"{len(sets)} sets below {where}"
        )
    ]
    for e in sets:
        rows += [_row(e.name, False, line, "fetch it again") for line in catalog.verify(e.name)]
    return rows


def _store() -> dict[str, Any]:
    from affectcore.studies.store import Store

    try:
        store = Store()
        with tempfile.TemporaryFile(dir=store.folder):
            pass
    except (AffectError, OSError) as error:
        return _row("run store", False, str(error), "set AFFECTCORE_STORE to a folder that can be written")
    return _row("run store", True, f"{len(store.hashes())} finished runs in {Path(store.folder)}", "")
