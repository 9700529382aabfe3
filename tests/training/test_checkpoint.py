"""Interrupted and resumed equals uninterrupted, bit for bit; what is damaged or foreign is refused."""

import errno
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toys import builder, toy_data

from affectcore.errors import TrainingError
from affectcore.training import checkpoint
from affectcore.training.fits import SeedsFailed
from affectcore.training.loop import fit
from affectcore.training.recipe import Recipe

DATA = toy_data()
RECIPE = Recipe(epochs=8, batch_size=16, lr=0.05, patience=3, metric="accuracy")
VARIANTS = {
    "queue, average, cosine": ("Queue", RECIPE.but(ema_decay=0.8, schedule="cosine", warmup=0.2)),
    "two stages, plateau": ("TwoStage", RECIPE.but(schedule="plateau", decay_epochs=1, patience=None)),
    "two passes, bert adam": ("TwoPass", RECIPE.but(optimizer="bert_adam", clip_each=0.1)),
    "accumulated, average": ("Queue", RECIPE.but(accumulate=2, ema_decay=0.8)),
    "adam": ("Toy", RECIPE.but(optimizer="adam", decay_vectors=False)),
    "sgd": ("Attention", RECIPE.but(optimizer="sgd", selection="valid_last")),
}  # fmt: skip


class Killed(BaseException):
    """Stands for a signal: nothing in the library may catch it."""


def killer(epoch):
    def on_epoch(seed, e):
        if e.epoch == epoch:
            raise Killed

    return on_epoch


def content(fits):
    """All of the fits but times and memory."""
    out = []
    for f in fits:
        epochs = [{k: v for k, v in asdict(e).items() if not k.endswith("_s")} for e in f.history]
        out.append((f.seed, f.selection, epochs, f.threshold, {k: v.numpy().tobytes() for k, v in f.state.items()}))
    return out


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(variant, stacked, tmp_path):
    name, recipe = VARIANTS[variant]
    build = builder(name, DATA, double=False)
    whole = fit(build, DATA, recipe, [0, 1, 2], stacked=stacked)
    random = np.random.default_rng(sum(map(ord, variant)))
    kills = 0
    for epoch in sorted(random.choice(np.arange(1, 8), 3, replace=False)):
        try:
            fit(build, DATA, recipe, [0, 1, 2], stacked=stacked, folder=tmp_path, checkpoint_s=0,
                on_epoch=killer(epoch))  # fmt: skip
        except Killed:
            kills += 1
    assert kills
    torch.manual_seed(int(random.integers(1000)))
    got = fit(build, DATA, recipe, [0, 1, 2], stacked=stacked, folder=tmp_path, checkpoint_s=0)
    assert content(got) == content(whole)


def test_a_finished_run_is_read_and_not_trained_again(tmp_path):
    build = builder("Toy", DATA)
    first = fit(build, DATA, RECIPE, [0], folder=tmp_path)
    told = []
    again = fit(build, DATA, RECIPE, [0], folder=tmp_path, on_epoch=lambda *a: told.append(a))
    assert content(first) == content(again)
    assert not told
    assert [p.name for p in tmp_path.iterdir()] == ["seed-0.safetensors"]


def test_a_failure_is_remembered(tmp_path):
    def augment(batch, seed, step):
        return replace(batch, features={m: x / (seed != 1) for m, x in batch.features.items()})

    def run():
        with pytest.raises(SeedsFailed) as e:
            fit(builder("Toy", DATA), DATA, RECIPE, [0, 1], stacked=True, folder=tmp_path, augment=augment)
        return e.value

    first, again = run(), run()
    assert list(first.failures) == [1]
    assert first.failures == again.failures
    assert content(first.fits) == content(again.fits)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipe": RECIPE.but(lr=0.5)}, "recipe.lr is 0.05 there and 0.5 here"),
        ({"data": toy_data(seed=1)}, "data is 'toy "),
        ({"build": builder("Toy", DATA, width=7)}, "model is 'Toy ToyConfig"),
        ({"build": builder("Toy", DATA, double=False)}, "tensors is"),
        ({"augment": lambda b, s, i: b}, "augment is None there"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_the_fields_name(change, field, tmp_path):
    ours = {"build": builder("Toy", DATA), "data": DATA, "recipe": RECIPE, "seeds": [0], "folder": tmp_path}
    fit(**ours)
    with pytest.raises(TrainingError, match=f"belongs to another run: {field}") as e:
        fit(**{**ours, **change})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "foreign"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path):
    fit(builder("Toy", DATA), DATA, RECIPE, [0], folder=tmp_path)
    path = tmp_path / "seed-0.safetensors"
    blob = path.read_bytes()
    if damage == "foreign":
        save_file({"x": torch.zeros(2)}, path)
    else:
        path.write_bytes({"cut": blob[: len(blob) // 2], "noise": b"\x80\x04" + blob[2:], "empty": b""}[damage])
    with pytest.raises(TrainingError, match=r"seed-0\.safetensors is damaged .* delete it"):
        fit(builder("Toy", DATA), DATA, RECIPE, [0], folder=tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "run.safetensors"
    checkpoint.write(path, {"x": torch.zeros(3)}, {"seed": 0}, {"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # a real short write, as on a full disk
    try:
        with pytest.raises(TrainingError, match=r"cannot be written: .*; the one before is kept"):
            checkpoint.write(path, {"x": torch.zeros(30_000)}, {"seed": 0}, {"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    tensors, progress = checkpoint.read(path, {"seed": 0})
    assert progress == {"epoch": 1}
    assert tensors["x"].tolist() == [0, 0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_folder_that_cannot_be_written_stops_the_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written: Not a directory"):
        fit(builder("Toy", DATA), DATA, RECIPE, [0], folder=tmp_path / "file" / "below")

    def read_only(self, blob):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_bytes", read_only)
    with pytest.raises(TrainingError, match="cannot be written: Read-only file system"):
        fit(builder("Toy", DATA), DATA, RECIPE, [0], folder=tmp_path)


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from affectcore.training import checkpoint
from affectcore.training.loop import fit
from test_checkpoint import DATA, RECIPE, builder
whole, count = Path.write_bytes, [0]
def write_bytes(self, blob):                   # dies inside its third write, half of it done
    count[0] += 1
    if count[0] == 3:
        whole(self, blob[: len(blob) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, blob)
Path.write_bytes = write_bytes
fit(builder("Toy", DATA), DATA, RECIPE.but(patience=None), [0], folder=Path(sys.argv[1]), checkpoint_s=0)
"""


def test_a_process_killed_while_writing_is_resumed(tmp_path):
    code = CHILD.format(here=str(Path(__file__).parent))
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert child.returncode == -signal.SIGKILL
    recipe = RECIPE.but(patience=None)
    told = []
    got = fit(builder("Toy", DATA), DATA, recipe, [0], folder=tmp_path, on_epoch=lambda s, e: told.append(e.epoch))
    assert told == list(range(2, 8))
    assert content(got) == content(fit(builder("Toy", DATA), DATA, recipe, [0]))
