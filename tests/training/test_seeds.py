"""Seeds together equal seeds alone, in training and evaluation; and the controls that must differ do."""

import math
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from toys import MODELS, TASKS, builder, toy_data

from affectcore.errors import ConfigError
from affectcore.nn import noise
from affectcore.training import learner, stack
from affectcore.training.fits import SeedsFailed
from affectcore.training.loop import fit, predict
from affectcore.training.recipe import Recipe, StageRecipe
from affectcore.training.seeds import choose, fit_seeds

RECIPE = Recipe(epochs=2, batch_size=16, lr=1e-2, patience=None, selection="fixed_epoch", clip_norm=0.5)
SEEDS = [3, 0, 7]


def gap(a, b):
    return max(float((a.state[k].double() - b.state[k].double()).abs().max()) for k in a.state)


def alone_and_together(name, recipe=RECIPE, kind="single_label", seeds=SEEDS, **kwargs):
    data = toy_data(kind)
    torch.manual_seed(1)
    alone = fit(builder(name, data), data, recipe, seeds, **kwargs)
    torch.manual_seed(2)  # between the paths: equal global states could hide a generator that is not ours
    together = fit(builder(name, data), data, recipe, seeds, stacked=True, **kwargs)
    return data, alone, together


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", MODELS)
def test_stacked_is_single(name, kind):
    data, alone, together = alone_and_together(name, kind=kind)
    valid = data.split("valid")
    for a, b in zip(alone, together):
        assert a.seed == b.seed
        assert gap(a, b) < 1e-8
        for x, y in zip(a.history, b.history):  # evaluation inside the loop, vmapped in one and plain in the other
            assert x.losses == pytest.approx(y.losses, abs=1e-9)
            assert x.valid["loss"] == pytest.approx(y.valid["loss"], abs=1e-9)
        p, q = (predict(builder(name, data), f, valid) for f in (a, b))
        np.testing.assert_allclose(p, q, atol=1e-9)
    assert gap(alone[0], together[1]) > 1e-3  # control: another seed


@pytest.mark.parametrize("name", MODELS)
def test_other_noise_gives_other_weights(name, monkeypatch):
    def other(seeds, words, device, *purpose):
        return noise.fill(seeds, words, device, "other", *purpose)

    data = toy_data()
    a = fit(builder(name, data), data, RECIPE, [0])[0]
    for module, stacked in ((learner, False), (stack, True)):
        monkeypatch.setattr(module, "fill", other)
        assert gap(a, fit(builder(name, data), data, RECIPE, [0], stacked=stacked)[0]) > 1e-3
        monkeypatch.undo()


VARIANTS = {
    "average": RECIPE.but(ema_decay=0.7),
    "plateau": RECIPE.but(schedule="plateau", decay_epochs=1, decay_factor=0.1, epochs=6, lr=0.1),
    "no decay of vectors": RECIPE.but(decay_vectors=False, weight_decay=1.0, lr=0.05),
    "sgd": RECIPE.but(optimizer="sgd", schedule="cosine", warmup=0.2),
    "bert adam": RECIPE.but(optimizer="bert_adam", clip_each=0.05, decay_vectors=False),
    "plateau, bert adam": RECIPE.but(optimizer="bert_adam", schedule="plateau", decay_epochs=1, epochs=6, lr=0.1),
    "accumulated": RECIPE.but(accumulate=2, clip_value=0.01, epochs=4),
    "adam, prefixes": RECIPE.but(optimizer="adam", clip_prefixes=(("head", 0.1),), clip_value=0.05),
}


STAGED = {
    "TwoStage": (StageRecipe("rebuild", optimizer="sgd", lr=0.1, clip_norm=0), StageRecipe("task", clip_value=0.01)),
    "TwoPass": (StageRecipe("both", optimizer="adam", lr=0.02), StageRecipe("student", clip_norm=0.01)),
}


@pytest.mark.parametrize("name", STAGED)
def test_stacked_is_single_where_stages_differ(name):
    _, alone, together = alone_and_together(name, RECIPE.but(stages=STAGED[name]))
    assert max(map(gap, alone, together)) < 1e-8


@pytest.mark.parametrize("variant", VARIANTS)
def test_stacked_is_single_under_every_recipe(variant):
    _, alone, together = alone_and_together("Queue", VARIANTS[variant])
    assert max(map(gap, alone, together)) < 1e-8
    if variant.startswith("plateau"):  # the seeds must have had different rates for this to mean anything
        assert len({f.history[-1].factor for f in together}) > 1


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_finished_seeds_leave_the_stack_and_the_others_do_not_notice(name, schedule):
    recipe = Recipe(epochs=14, batch_size=16, lr=0.05, patience=2, metric="accuracy", schedule=schedule, decay_epochs=1)
    _, alone, together = alone_and_together(name, recipe)
    assert len({len(f.history) for f in together}) > 1
    assert [f.selection for f in alone] == [f.selection for f in together]
    assert max(map(gap, alone, together)) < 1e-6  # some hundred Adam steps magnify rounding


@pytest.mark.parametrize("variant", ["bert adam", "adam, prefixes", "plateau, bert adam"])
def test_scalar_parameters_are_clipped_and_updated_alike(variant):
    _, alone, together = alone_and_together("Scalar", VARIANTS[variant])
    assert max(map(gap, alone, together)) < 1e-8
    assert all(abs(float(f.state["temperature"]) - 1.5) > 1e-3 for f in together)


def poison(batch, seed, step):
    bad = math.nan if seed == 0 and step >= 2 else 1.0
    return replace(batch, features={m: x * bad for m, x in batch.features.items()})


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_of_nan_changes_no_other_seed(name):
    data = toy_data()
    one = RECIPE.but(epochs=1)  # within an epoch the stack keeps its shape, so bits can be compared
    with pytest.raises(SeedsFailed, match=r"^seed 0: loss '.*' is nan in epoch 0, step 2 of 3$") as e:
        fit(builder(name, data), data, one, SEEDS, stacked=True, augment=poison)
    clean = fit(builder(name, data), data, one, SEEDS, stacked=True, augment=lambda b, *_: b)
    assert [f.seed for f in e.value.fits] == [3, 7]
    for a, b in zip(e.value.fits, (clean[0], clean[2])):
        assert gap(a, b) == 0
    with pytest.raises(SeedsFailed) as e:
        fit(builder(name, data), data, RECIPE, SEEDS, stacked=True, augment=poison)
    assert list(e.value.failures) == [0]
    assert gap(e.value.fits[1], fit(builder(name, data), data, RECIPE, [7])[0]) < 1e-8


def test_every_step_and_stage_has_noise_of_its_own(monkeypatch):
    for module, stacked in ((learner, False), (stack, True)):
        asked = []
        monkeypatch.setattr(
            module, "fill", lambda s, w, d, *key, asked=asked: asked.append(key) or noise.fill(s, w, d, *key)
        )
        fit(builder("TwoStage", toy_data()), toy_data(), RECIPE, [0], stacked=stacked)
        train = [key for key in asked if key[0] == "train"]
        assert sorted(train) == [("train", step, stage) for step in range(6) for stage in range(2)]


def test_each_seed_has_its_own_batches_in_both_ways():
    def run(stacked):
        seen = {s: [] for s in SEEDS}
        fit(builder("Toy", toy_data()), toy_data(), RECIPE, SEEDS, stacked=stacked,
            augment=lambda b, seed, step: seen[seed].append(b.index.tolist()) or b)  # fmt: skip
        return seen

    together = run(True)
    assert together == run(False)
    assert together[0] != together[3] != together[7]


def test_processes_give_the_bits_of_single_runs():
    data = toy_data()
    build = builder("Queue", data, double=False)
    alone = fit(build, data, RECIPE, SEEDS)
    apart = fit_seeds(build, data, RECIPE, SEEDS, how="processes", jobs=2)
    assert [f.seed for f in apart] == SEEDS
    assert max(map(gap, alone, apart)) == 0
    with pytest.raises(SeedsFailed) as e:
        fit_seeds(build, data, RECIPE, SEEDS, how="processes", jobs=2, augment=poison)
    assert list(e.value.failures) == [0]
    assert [f.seed for f in e.value.fits] == [3, 7]


def test_the_way_is_chosen_from_the_table_or_by_device(monkeypatch, tmp_path):
    assert choose("NoSuchModel", "cpu") == "processes"
    assert choose("NoSuchModel", "cuda:1") == "stacked"
    (tmp_path / "seeds.json").write_text('{"rows": [{"model": "Toy", "device": "cpu", "gain": 3.5}]}')
    assert files("affectcore.training").joinpath("seeds.json").is_file()
    monkeypatch.setattr("affectcore.training.seeds.files", lambda _: tmp_path)
    assert [choose("Toy", "cpu", jobs) for jobs in (1, 3, 4)] == ["stacked", "stacked", "processes"]
    data = toy_data()
    assert {f.stacked for f in fit_seeds(builder("Toy", data), data, RECIPE, SEEDS, jobs=2)} == {3}
    assert {f.stacked for f in fit_seeds(builder("Toy", data), data, RECIPE, [1])} == {1}
    assert {f.stacked for f in fit_seeds(builder("Queue", data), data, RECIPE, SEEDS, jobs=1)} == {1}
    with pytest.raises(ConfigError, match="how = 'together' is unknown"):
        fit_seeds(builder("Toy", data), data, RECIPE, SEEDS, how="together")
