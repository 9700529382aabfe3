"""A probe sees every epoch's model of every seed as it is evaluated, and changes nothing."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from toys import builder, toy_data

from affectcore.nn.noise import Tape
from affectcore.training.fits import Epoch
from affectcore.training.loop import fit, predict, restore
from affectcore.training.recipe import Recipe

DATA = toy_data()
RECIPE = Recipe(epochs=5, batch_size=16, lr=0.05, patience=None, metric="accuracy", ema_decay=0.8)


def probe(model, valid):
    """Numbers that move with parameters, buffers, mode and data."""
    assert not torch.is_grad_enabled()
    prediction = model(valid, Tape(torch.zeros(()).double(), training=False)).prediction
    state = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    return {
        "accuracy": (prediction.argmax(-1) == valid.target).double().mean(),
        "size": sum(p.detach().square().sum() for p in state),
        "training": model.training,
        "items": len(valid),
    }


def stripped(fits, *without):
    out = []
    for f in fits:
        epochs = [{k: v for k, v in asdict(e).items() if not k.endswith("_s") and k not in without} for e in f.history]
        out.append((f.selection, epochs, {k: v.numpy().tobytes() for k, v in f.state.items()}))
    return out


def test_the_probe_sees_the_evaluated_model_on_valid():
    """The accuracy it computes by itself is the one the loop measured, with averaged parameters."""
    for f in fit(builder("Toy", DATA), DATA, RECIPE, [0, 1], probe=probe):
        for e in f.history:
            assert e.probe["accuracy"] == pytest.approx(e.valid["accuracy"], abs=1e-15)
            assert (e.probe["training"], e.probe["items"]) == (0, len(DATA.split("valid")))
            assert all(type(v) is float for v in e.probe.values())
        kept = sum(float(v.square().sum()) for k, v in f.state.items())
        assert f.history[f.selection.epoch].probe["size"] == pytest.approx(kept, rel=1e-12)
        assert len({e.probe["size"] for e in f.history}) == RECIPE.epochs


@pytest.mark.parametrize("name", ["Toy", "Queue", "TwoStage"])
def test_stacked_probes_are_those_of_single_runs(name):
    build = builder(name, DATA)
    recipe = RECIPE.but(patience=1)  # seeds leave the stack at different epochs
    one, many = (fit(build, DATA, recipe, [0, 1, 2], stacked=s, probe=probe) for s in (False, True))
    for a, b in zip(one, many):
        assert len(a.history) == len(b.history)
        for x, y in zip(a.history, b.history):
            assert x.probe == pytest.approx(y.probe, rel=1e-9)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_probe_changes_no_number_and_no_global_state(stacked):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what is watched
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    with_, without = (
        fit(builder("Queue", DATA), DATA, RECIPE, [0, 1], stacked=stacked, probe=p) for p in (probe, None)
    )
    assert stripped(with_, "probe") == stripped(without, "probe")
    assert all(e.probe == {} for f in without for e in f.history)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("stacked", [False, True])
def test_probes_survive_an_interruption(stacked, tmp_path):
    class Killed(BaseException):
        pass

    def killer(seed, e):
        if e.epoch == 2:
            raise Killed

    build, seeds = builder("Queue", DATA), [0, 1]
    whole = fit(build, DATA, RECIPE, seeds, stacked=stacked, probe=probe)
    options = {"stacked": stacked, "folder": tmp_path, "checkpoint_s": 0, "probe": probe}
    with pytest.raises(Killed):
        fit(build, DATA, RECIPE, seeds, on_epoch=killer, **options)
    assert stripped(fit(build, DATA, RECIPE, seeds, **options)) == stripped(whole)


def test_an_epoch_written_before_there_were_probes_is_read():
    (f,) = fit(builder("Toy", DATA), DATA, RECIPE, [0])
    old = {k: v for k, v in asdict(f.history[0]).items() if k != "probe"}
    assert Epoch(**old) == f.history[0]


def test_a_restored_model_predicts_as_the_fit_does():
    build = builder("Toy", DATA)
    (f,) = fit(build, DATA, RECIPE, [3])
    valid = DATA.split("valid").to("cpu", torch.float64)
    model = restore(build, f)
    assert not model.training
    raw = model(valid, Tape(torch.zeros(()).double(), training=False)).prediction
    np.testing.assert_allclose(raw.softmax(-1).detach().numpy(), predict(build, f, valid), rtol=1e-12)
