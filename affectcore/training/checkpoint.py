"""Interrupted training goes on where it was: one safetensors file a run, its JSON in the header, no pickle.

The file is written under a temporary name and renamed, so a kill or a full disk leaves the one before. It names the run
it belongs to field by field, and a run that differs in one is refused by that field's name.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from affectcore.errors import TrainingError


def write(path: Path, tensors: Mapping[str, Tensor], spec: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Write a checkpoint in one piece or not at all. Raises TrainingError; the one before stays."""
    header = {"spec": json.dumps(spec), "progress": json.dumps(progress)}
    blob = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, metadata=header)
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(blob)
        half.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing can be cleaned up either
            half.unlink(missing_ok=True)
        raise TrainingError(f"checkpoint {path} cannot be written: {e.strerror}; the one before is kept") from e


def read(path: Path, spec: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and progress of the checkpoint, or None if there is none.

    Raises TrainingError if the file is damaged or belongs to another run, naming the field and both values.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as f:
            header = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - safe_open is no mapping
        known, progress = json.loads(header["spec"]), json.loads(header["progress"])
    except (SafetensorError, OSError, KeyError, ValueError) as e:
        raise TrainingError(f"checkpoint {path} is damaged ({e}); delete it to train from the start") from e
    wanted = json.loads(json.dumps(spec))
    for field in sorted({*known, *wanted}):
        if known.get(field) != wanted.get(field):
            raise TrainingError(
                f"checkpoint {path} belongs to another run: {_difference(field, known.get(field), wanted.get(field))}"
            )
    return tensors, progress


def _difference(field: str, known: Any, wanted: Any) -> str:
    if isinstance(known, dict) and isinstance(wanted, dict):
        inner = next(k for k in sorted({*known, *wanted}) if known.get(k) != wanted.get(k))
        return _difference(f"{field}.{inner}", known.get(inner), wanted.get(inner))
    return f"{field} is {known!r} there and {wanted!r} here"
