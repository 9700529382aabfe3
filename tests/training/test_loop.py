"""The loop against plain training written out by hand, and every way it can be told to stop or must complain."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toys import MODELS, Queue, Toy, ToyConfig, builder, toy_data

from affectcore.data.missing import make_missing
from affectcore.data.protocol import EachStep
from affectcore.data.schema import AffectData, Selection
from affectcore.errors import ConfigError, TrainingError
from affectcore.models.contract import Progress, Shape, Stage
from affectcore.nn.losses import task_loss
from affectcore.nn.noise import Tape
from affectcore.streams import key, rng
from affectcore.training.fits import SeedsFailed
from affectcore.training.loop import fit, initial, predict
from affectcore.training.recipe import Group, Recipe, StageRecipe

DATA = toy_data()
QUICK = Recipe(epochs=3, batch_size=16, lr=1e-2, patience=None, selection="fixed_epoch")


def gap(a, b):
    return max(float((a[k] - b[k]).detach().abs().max()) for k in a)


def by_hand(name, recipe, data=DATA, seed=0, optimizer=None, clip=None, after=None):
    """Train a model without drop-out as a textbook does; return it."""
    torch.manual_seed(key(seed, "init"))
    model = builder(name, data, dropout=0.0)()
    optimizers = [(optimizer or plain_adamw(recipe))(s, model) for s in model.stages()]
    train = data.split("train").to("cpu", torch.float64)
    n, step = len(train), 0
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(rng(seed, "batches", epoch).permutation(n))
        for rows in order.split(recipe.batch_size):
            batch = train.rows(rows)
            for stage, o in zip(model.stages(), optimizers):
                terms, _ = model.losses(model(batch, Tape(torch.zeros(()))), batch, Progress(epoch, step, 9, 3))
                model.zero_grad()
                sum(terms[k] for k in stage.losses or terms).backward()
                (clip or (lambda m: None))(o)
                o.step()
            step += 1
            if after:
                after(model)
    return model


def plain_adamw(recipe):
    def make(stage, model):
        mine = [
            p
            for n, p in model.named_parameters()
            if p.requires_grad and (not stage.parameters or n.startswith(stage.parameters))
        ]
        return torch.optim.AdamW(mine, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=False, foreach=False)

    return make


def global_clip(bound):
    return lambda o: nn.utils.clip_grad_norm_([p for g in o.param_groups for p in g["params"]], bound)


@pytest.mark.parametrize("name", ["Toy", "Attention", "TwoStage"])
def test_training_is_what_a_textbook_does(name):
    recipe = QUICK.but(clip_norm=0.5)
    model = by_hand(name, recipe, clip=global_clip(0.5))
    (got,) = fit(builder(name, DATA, dropout=0.0), DATA, recipe, [0])
    ours = {k: v for k, v in model.named_parameters() if k != "unused"}  # which we decay and a textbook skips
    assert gap(ours, got.state) < 1e-8
    valid = DATA.split("valid").to("cpu", torch.float64)
    loss = task_loss(DATA.task, model(valid, Tape(torch.zeros(()))).prediction, valid.target).detach()
    assert got.history[-1].valid["loss"] == pytest.approx(float(loss), abs=1e-8)
    assert gap(dict(model.named_parameters()), fit(builder(name, DATA), DATA, recipe, [0])[0].state) > 1e-4  # drop-out


def test_averaged_parameters_are_torchs():
    averages = []

    def after(model):
        if not averages:
            averages.append(AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8)))
            averages[0].module.load_state_dict(initial(builder("Toy", DATA, dropout=0.0), 0).state_dict())
            averages[0].n_averaged.fill_(1)  # starts at the initial weights
        averages[0].update_parameters(model)

    by_hand("Toy", QUICK.but(clip_norm=None), after=after)
    (got,) = fit(builder("Toy", DATA, dropout=0.0), DATA, QUICK.but(clip_norm=None, ema_decay=0.8), [0])
    assert gap(averages[0].module.state_dict(), got.state) < 1e-10
    valid = DATA.split("valid").to("cpu", torch.float64)
    output = averages[0].module(valid, Tape(torch.zeros(()), training=False))
    loss = task_loss(DATA.task, output.prediction, valid.target).detach()  # they are measured, not the raw ones
    assert got.history[-1].valid["loss"] == pytest.approx(float(loss), abs=1e-8)


def test_clipping_by_prefix_and_by_value_is_torchs():
    def clip(o):
        encoder, head = o.param_groups[0]["params"][:2], o.param_groups[0]["params"][2:]
        nn.utils.clip_grad_value_([*encoder, *head], 0.05)
        nn.utils.clip_grad_norm_(head, 0.01)
        nn.utils.clip_grad_norm_(encoder, 0.02)

    recipe = QUICK.but(clip_value=0.05, clip_norm=0.02, clip_prefixes=(("head", 0.01),))
    (got,) = fit(builder("Toy", DATA, dropout=0.0), DATA, recipe, [0])
    assert gap(dict(by_hand("Toy", recipe, clip=clip).named_parameters()), got.state) < 1e-8
    free = fit(builder("Toy", DATA, dropout=0.0), DATA, QUICK.but(clip_norm=None), [0])[0]
    assert gap(free.state, got.state) > 1e-6


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_groups_and_optimizers_are_torchs(kind):
    recipe = QUICK.but(
        optimizer=kind, clip_norm=None, decay_vectors=False, weight_decay=0.1, groups=(Group("head", lr=0.05),)
    )

    def make(stage, model):
        p = dict(model.named_parameters())
        groups = [
            {"params": [p["encoder.weight"]], "weight_decay": 0.1, "lr": 0.01},
            {"params": [p["encoder.bias"]], "weight_decay": 0.0, "lr": 0.01},
            {"params": [p["head.weight"]], "weight_decay": 0.1, "lr": 0.05},
            {"params": [p["head.bias"]], "weight_decay": 0.0, "lr": 0.05},
        ]
        if kind == "adam":
            return torch.optim.Adam(groups, fused=False, foreach=False)
        return torch.optim.SGD(groups, momentum=0.9, fused=False, foreach=False)

    (got,) = fit(builder("Toy", DATA, dropout=0.0), DATA, recipe, [0])
    assert gap(dict(by_hand("Toy", recipe, optimizer=make).named_parameters()), got.state) < 1e-8


def test_stages_leave_other_parameters_alone():
    build = builder("TwoStage", DATA)
    start = {k: v.clone() for k, v in initial(build, 0).named_parameters()}
    (got,) = fit(build, DATA, QUICK.but(groups=(Group("decoder", lr=1e-30, weight_decay=0.0),)), [0])
    assert gap({"w": start["decoder.weight"]}, {"w": got.state["decoder.weight"]}) < 1e-20
    assert torch.equal(start["frozen"], got.state["frozen"])
    assert gap({"w": start["head.weight"]}, {"w": got.state["head.weight"]}) > 1e-3
    assert set(got.history[0].losses) == {
        "rebuild.rebuild", "rebuild.total", "task.task", "task.rebuild", "task.total"
    }  # fmt: skip


def test_prefixes_and_losses_that_name_nothing_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="groups: no trainable parameter lies under 'bert'"):
        fit(builder("Toy", DATA), DATA, QUICK.but(groups=(Group("bert", lr=1e-5),)), [0])
    with pytest.raises(ConfigError, match="clip_prefixes: no trainable parameter lies under 'enc'"):
        fit(builder("Toy", DATA), DATA, QUICK.but(clip_prefixes=(("enc", 1.0),)), [0])
    monkeypatch.setattr(Toy, "stages", lambda self: (Stage("one", losses=("nce",)),))
    with pytest.raises(ConfigError, match="stage 'one': loss 'nce' is unknown, the model has task"):
        fit(builder("Toy", DATA), DATA, QUICK, [0])


def test_stages_that_share_an_optimiser_and_keep_gradients_are_what_the_textbook_does():
    recipe = QUICK.but(optimizer="adam", weight_decay=0.0, clip_norm=None)
    torch.manual_seed(key(0, "init"))
    model = builder("TwoPass", DATA, dropout=0.0)()
    adam = torch.optim.Adam(model.parameters(), lr=recipe.lr, foreach=False)
    train, none = DATA.split("train").to("cpu", torch.float64), Tape(torch.zeros(()))
    for epoch in range(recipe.epochs):
        for rows in torch.from_numpy(rng(0, "batches", epoch).permutation(len(train))).split(recipe.batch_size):
            batch = train.rows(rows)
            adam.zero_grad()
            terms, memo = model.stage_losses(model.stages()[0], batch, none, None)
            terms["task"].backward()
            adam.step()
            terms, _ = model.stage_losses(model.stages()[1], replace(batch, extras=memo), none, None)
            (terms["task"] + terms["near"]).backward()  # the teacher's gradients are still there
            adam.step()
    (got,) = fit(builder("TwoPass", DATA, dropout=0.0), DATA, recipe, [0])
    assert gap(dict(model.named_parameters()), got.state) < 1e-10


def test_a_shared_optimiser_rests_where_a_stage_has_no_parameters(monkeypatch):
    stages = (Stage("one", ("encoder",), optimizer="o"), Stage("two", ("head",), optimizer="o"))
    monkeypatch.setattr(Toy, "stages", lambda self: stages)
    (named,) = fit(builder("Toy", DATA, dropout=0.0), DATA, QUICK, [0])
    monkeypatch.setattr(Toy, "stages", lambda self: tuple(replace(s, optimizer="") for s in stages))
    (apart,) = fit(builder("Toy", DATA, dropout=0.0), DATA, QUICK, [0])
    assert gap(named.state, apart.state) == 0  # disjoint parameters: one optimiser is two


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_bert_adam_is_the_formula(decay):
    recipe = QUICK.but(optimizer="bert_adam", clip_norm=0.5, clip_each=0.05, weight_decay=decay, eps=1e-6)

    class ByHand:
        def __init__(self, stage, model):
            self.p = list(model.parameters())
            self.m, self.v = ([torch.zeros_like(p) for p in self.p] for _ in range(2))

        @torch.no_grad()
        def step(self):
            nn.utils.clip_grad_norm_(self.p, 0.5)
            for p, m, v in zip(self.p, self.m, self.v):
                nn.utils.clip_grad_norm_(p, 0.05)
                m.mul_(0.9).add_(0.1 * p.grad)
                v.mul_(0.999).add_(0.001 * p.grad**2)
                p.sub_(recipe.lr * (m / (v.sqrt() + 1e-6) + decay * p))

    (got,) = fit(builder("Toy", DATA, dropout=0.0), DATA, recipe, [0])
    assert gap(dict(by_hand("Toy", recipe, optimizer=ByHand).named_parameters()), got.state) < 1e-10
    assert gap(fit(builder("Toy", DATA, dropout=0.0), DATA, recipe.but(clip_each=None), [0])[0].state, got.state) > 1e-6


def test_gradients_add_up_over_batches_and_an_unfinished_round_is_dropped():
    recipe = QUICK.but(optimizer="adam", weight_decay=0.0, accumulate=2, clip_value=0.02, clip_norm=None)
    torch.manual_seed(key(0, "init"))
    model = builder("Toy", DATA, dropout=0.0)()
    adam, train = torch.optim.Adam(model.parameters(), lr=recipe.lr), DATA.split("train").to("cpu", torch.float64)
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(rng(0, "batches", epoch).permutation(len(train)))
        assert len(order.split(16)) == 3
        adam.zero_grad()
        for rows in order.split(16)[:2]:
            batch = train.rows(rows)
            task_loss(DATA.task, model(batch, Tape(torch.zeros(()))).prediction, batch.target).backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.02)
        adam.step()
    (got,) = fit(builder("Toy", DATA, dropout=0.0), DATA, recipe, [0])
    assert gap(dict(model.named_parameters()), got.state) < 1e-10


def test_stages_have_settings_of_their_own():
    recipe = QUICK.but(
        stages=(StageRecipe("rebuild", lr=1e-30, weight_decay=0.0), StageRecipe("task", optimizer="sgd"))
    )
    build = builder("TwoStage", DATA, dropout=0.0)
    start = {k: v.clone() for k, v in initial(build, 0).named_parameters()}
    (got,) = fit(build, DATA, recipe, [0])
    assert gap({"w": start["decoder.weight"]}, {"w": got.state["decoder.weight"]}) < 1e-20

    def sgd(stage, model):
        p = dict(model.named_parameters())
        names = [n for n in p if n.startswith(stage.parameters) and p[n].requires_grad]
        lr = 0.0 if stage.name == "rebuild" else recipe.lr
        return torch.optim.SGD([p[n] for n in names], lr, momentum=0.9, weight_decay=recipe.weight_decay)

    model = by_hand("TwoStage", recipe, optimizer=sgd, clip=global_clip(1.0))
    assert gap(dict(model.named_parameters()), got.state) < 1e-10


def test_stages_that_contradict_each_other_are_refused(monkeypatch):
    def refused(message, *stages, **recipe):
        monkeypatch.setattr(Toy, "stages", lambda self: stages)
        with pytest.raises((ConfigError, TrainingError), match=message) as e:
            fit(builder("Toy", DATA), DATA, QUICK.but(**recipe), [0])
        assert "\n" not in str(e.value)

    one, two = Stage("one", optimizer="both"), Stage("two", optimizer="both", keep_gradients=True)
    refused("stages must have names of their own, got one, one", one, one)
    refused("stage 'two' is the first of the step and has no gradients to keep", two)
    refused("accumulate = 1 is needed where a stage keeps", one, two, accumulate=2)
    refused("recipe: stage 'gan' is unknown, the model has one, two", one, two, stages=(StageRecipe("gan"),))
    refused("stage 'two' shares optimiser 'both': set its rates", one, two, stages=(StageRecipe("two", lr=0.1),))
    refused("stage 'one' hands on 'state', but its memo has nothing", replace(one, hands=("state",)))


def test_every_epoch_sees_every_sample_once_in_another_order():
    seen = []
    fit(builder("Toy", DATA), DATA, QUICK, [0], augment=lambda b, seed, step: seen.append(b.index.tolist()) or b)
    per_epoch = [[*seen[i], *seen[i + 1], *seen[i + 2]] for i in (0, 3, 6)]
    assert all(sorted(e) == sorted(DATA.split("train").index.tolist()) for e in per_epoch)
    assert per_epoch[0] != per_epoch[1]
    seen.clear()
    fit(builder("Toy", DATA), DATA, QUICK.but(drop_last=True), [0], augment=lambda b, *_: seen.append(len(b)) or b)
    assert seen == [16] * 6


def test_the_best_epoch_is_kept_and_training_stops():
    recipe = Recipe(epochs=60, batch_size=8, lr=0.05, patience=4, metric="balanced_accuracy")
    (got,) = fit(builder("Toy", DATA), DATA, recipe, [0])
    values = [e.valid["balanced_accuracy"] for e in got.history]
    assert got.selection == Selection("valid_best", int(np.argmax(values)), max(values))
    assert len(values) == got.selection.epoch + 5 < 60
    valid = DATA.split("valid")
    p = predict(builder("Toy", DATA), got, valid)
    loss = got.history[got.selection.epoch].valid["loss"]
    assert log_loss(valid.target, p) == pytest.approx(loss)
    last = fit(builder("Toy", DATA), DATA, recipe.but(selection="valid_last"), [0])[0]
    assert last.selection.epoch == len(values) - 1
    assert gap(last.state, got.state) > 0
    assert len(fit(builder("Toy", DATA), DATA, recipe.but(selection="fixed_epoch"), [0])[0].history) == 60


def test_it_learns_better_than_a_constant():
    (got,) = fit(builder("Toy", DATA, double=False), DATA, Recipe(epochs=30, lr=0.02), [0])
    test = DATA.split("test", got.selection)
    p = predict(builder("Toy", DATA, double=False), got, test)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    most = np.bincount(DATA.split("train").target).argmax()
    assert accuracy_score(test.target, p.argmax(1)) > accuracy_score(test.target, np.full(len(test), most)) + 0.1


@pytest.mark.parametrize("kind", ["regression", "multi_label"])
def test_scores_follow_the_convention(kind):
    data = toy_data(kind)
    (got,) = fit(builder("Toy", data), data, QUICK, [0])
    p = predict(builder("Toy", data), got, data.split("valid"))
    assert p.shape == data.split("valid").target.shape
    raw = initial(builder("Toy", data), 0)
    raw.load_state_dict(dict(got.state))
    want = raw.eval()(data.split("valid").to("cpu", torch.float64), Tape(torch.zeros(()), training=False)).prediction
    np.testing.assert_allclose(p, (want.sigmoid() if kind == "multi_label" else want).detach(), atol=1e-12)


def test_only_oracle_rules_look_at_the_test_split(monkeypatch):
    asked = []
    whole = AffectData.split
    monkeypatch.setattr(AffectData, "split", lambda self, n, s=None: asked.append((n, s)) or whole(self, n, s))
    data = toy_data("multi_label")
    recipe = Recipe(epochs=4, lr=0.05, metric="micro_f1")
    for name in ("valid_best", "valid_last", "fixed_epoch", "valid_threshold"):
        (got,) = fit(builder("Toy", data), data, recipe.but(selection=name), [0])
        assert not any(n.startswith("test") for n, _ in asked)
        assert all(not e.test for e in got.history)
        assert got.selection.rule == name
        assert not got.selection.leaky
    (got,) = fit(builder("Toy", data), data, recipe.but(selection="oracle_test_epoch"), [0])
    assert ("test", Selection("oracle_test_epoch")) in asked
    assert got.selection.leaky
    assert got.selection.value == max(e.test["micro_f1"] for e in got.history)


def test_a_tuned_threshold_is_the_selected_epochs():
    data = toy_data("multi_label")
    recipe = Recipe(epochs=6, lr=0.02, metric="micro_f1", selection="valid_threshold")
    (got,) = fit(builder("Toy", data), data, recipe, [0])
    valid = data.split("valid")
    p = predict(builder("Toy", data), got, valid)
    value = f1_score(valid.target, p >= got.threshold, average="micro")
    assert value == pytest.approx(got.selection.value)
    assert value >= f1_score(valid.target, p >= 0.5, average="micro")
    (leaky,) = fit(builder("Toy", data), data, recipe.but(selection="oracle_test_threshold"), [0])
    y = data.split("test", leaky.selection)
    assert f1_score(y.target, predict(builder("Toy", data), leaky, y) >= leaky.threshold, average="micro") == (
        pytest.approx(leaky.selection.value)
    )


def test_a_threshold_tuned_on_test_leaves_the_epoch_to_validation():
    data = toy_data("multi_label", n=120, seed=1)
    recipe = Recipe(epochs=6, lr=0.05, metric="micro_f1", selection="valid_threshold")
    gains = []
    for seed in range(3):
        (clean,) = fit(builder("Toy", data), data, recipe, [seed])
        (leaky,) = fit(builder("Toy", data), data, recipe.but(selection="oracle_test_tau"), [seed])
        assert leaky.selection == Selection("oracle_test_tau", clean.selection.epoch, clean.selection.value)
        test = data.split("test", leaky.selection)
        p = predict(builder("Toy", data), leaky, test)
        of = {t: f1_score(test.target, p >= t, average="micro", zero_division=0) for t in recipe.thresholds}
        assert of[leaky.threshold] == max(of.values())
        gains.append(of[leaky.threshold] - of[clean.threshold])
    assert max(gains) > 0
    (fixed,) = fit(builder("Toy", data), data, recipe.but(thresholds=(0.21,)), [0])
    assert fixed.threshold == 0.21


def test_the_leaky_extremes_are_each_at_their_own_epoch():
    recipe = Recipe(epochs=8, lr=0.05, metric="accuracy", selection="oracle_test_max_metric")
    (got,) = fit(builder("Toy", DATA), DATA, recipe, [0])
    assert got.best_by_metric["macro_f1"] == max(e.test["macro_f1"] for e in got.history)
    assert got.best_by_metric["accuracy"] == got.selection.value
    assert fit(builder("Toy", DATA), DATA, QUICK, [0])[0].best_by_metric == {}


def poison(seed, step, value=math.nan):
    def augment(batch, s, i):
        bad = value if (s == seed and i >= step) else 1.0
        return replace(batch, features={m: x * bad for m, x in batch.features.items()})

    return augment


def test_a_loss_that_is_not_finite_names_seed_epoch_step_and_term():
    with pytest.raises(SeedsFailed, match="seed 1: loss 'task' is nan in epoch 1, step 2 of 3") as e:
        fit(builder("Toy", DATA), DATA, QUICK, [0, 1, 2], augment=poison(1, 5))
    assert [f.seed for f in e.value.fits] == [0, 2]
    alone = fit(builder("Toy", DATA), DATA, QUICK, [2], augment=poison(1, 5))[0]
    assert gap(alone.state, e.value.fits[1].state) == 0
    assert isinstance(e.value, TrainingError)


def test_a_step_that_ruins_the_weights_is_found_in_evaluation():
    data = toy_data("regression")
    with pytest.raises(SeedsFailed, match="seed 0: valid predictions are not finite after epoch 2"):
        fit(builder("Toy", data), data, QUICK.but(optimizer="sgd", clip_norm=None), [0], augment=poison(0, 8, 1e200))


def test_a_metric_that_is_never_defined_is_an_error():
    data = toy_data("regression")
    recipe = Recipe(epochs=2, lr=1e-30, metric="pearson", optimizer="sgd")

    def build():
        model = builder("Toy", data)()
        nn.init.zeros_(model.head.weight)
        return model

    with pytest.raises(SeedsFailed, match="seed 0: valid pearson is undefined"):
        fit(build, data, recipe, [0])


def test_trimming_changes_nothing_or_is_refused():
    short = toy_data(steps=9)
    for stacked in (False, True):
        plain, trimmed = (
            fit(builder("Queue", short), short, QUICK.but(trim=t), [0, 1], stacked=stacked) for t in (False, True)
        )
        assert gap(plain[1].state, trimmed[1].state) < 1e-8
    with pytest.raises(ConfigError, match="trim = True must not change results"):
        fit(builder("Attention", DATA), DATA, QUICK.but(trim=True), [0])
    fit(builder("Attention", DATA, dropout=0.0), DATA, QUICK.but(trim=True), [0])


def test_parameters_in_another_memory_order_train_alike():
    """Torch's fused Adam updates a transposed parameter wrongly, without a warning."""

    def turned():
        model = builder("Toy", DATA)()
        model.head.weight.data = model.head.weight.data.t().contiguous().t()
        return model

    plain, other = (fit(b, DATA, QUICK, [0])[0] for b in (builder("Toy", DATA), turned))
    assert gap(plain.state, other.state) == 0


def test_what_a_batch_remembers_is_trimmed_with_it(monkeypatch):
    seen = []
    forward = Toy.forward

    def spy(self, batch, noise):
        if noise.training:  # what was hidden fits the batch: same steps, equal where nothing was hidden
            full, same = batch.complete(), batch.observed["text"].unsqueeze(-1)
            assert full.features["text"].shape == batch.features["text"].shape
            assert torch.equal(full.features["text"] * same, batch.features["text"] * same)
            seen.append((full.observed["text"] & ~batch.observed["text"]).any())
        return forward(self, batch, noise)

    monkeypatch.setattr(Toy, "forward", spy)
    hide = EachStep(make_missing("rmfm", 0.5, 0))
    fit(builder("Toy", DATA), DATA, QUICK.but(trim=True, batch_size=2, epochs=1), [0], augment=hide)
    assert any(seen)


def test_trimming_really_trims(monkeypatch):
    steps = []
    forward = Toy.forward
    monkeypatch.setattr(Toy, "forward", lambda s, b, n: steps.append(b.features["text"].shape[-2]) or forward(s, b, n))
    fit(builder("Toy", DATA), DATA, QUICK.but(trim=True, batch_size=2, epochs=1), [0])
    assert min(steps) < 5


def test_the_global_random_state_is_untouched():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    a = fit(builder("Queue", DATA), DATA, QUICK, [4])[0]
    predict(builder("Queue", DATA), a, DATA.split("valid"))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert gap(a.state, fit(builder("Queue", DATA), DATA, QUICK, [4])[0].state) == 0


def test_bad_requests_are_refused_in_one_line():
    build = builder("Toy", DATA)
    for kwargs, message in (
        ({"device": "cuda:7"}, "device 'cuda:7' asked for but not available"),
        ({"device": "warp"}, "device 'warp' asked for but not available"),
    ):
        with pytest.raises(TrainingError, match=message) as e:
            fit(build, DATA, QUICK, [0], **kwargs)
        assert "\n" not in str(e.value)
    for seeds in ([], [1, 1], [-1]):
        with pytest.raises(ConfigError, match="distinct whole numbers"):
            fit(build, DATA, QUICK, seeds)
    with pytest.raises(ConfigError, match="metric 'mae' is unknown for a single_label task"):
        fit(build, DATA, QUICK.but(metric="mae"), [0])
    with pytest.raises(ConfigError, match="needs a multi_label task"):
        fit(build, DATA, QUICK.but(selection="valid_threshold", metric="macro_f1"), [0])


def test_a_fit_predicts_with_its_own_model_only():
    (got,) = fit(builder("Toy", DATA), DATA, QUICK, [0])
    with pytest.raises(TrainingError, match=r"the model's encoder\.bias has shape \(9,\), the fit's has \(6,\)"):
        predict(builder("Toy", DATA, width=9), got, DATA.split("valid"))
    broken = replace(got, state={k: v * math.nan for k, v in got.state.items()})
    with pytest.raises(TrainingError, match="predictions are not finite"):
        predict(builder("Toy", DATA), broken, DATA.split("valid"))


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    ("kind", "shape"), [("regression", r"\(2, 1\)"), ("single_label", r"\(2, 4\)"), ("multi_label", r"\(2, 4\)")]
)
def test_predictions_of_a_wrong_shape_are_refused_before_the_first_step(kind, shape, stacked):
    """One logit too many, or a second axis, would broadcast, train and be scored."""
    data, steps = toy_data(kind), []

    class Wide(Toy):
        def finish(self, h):
            out = super().finish(h)
            y = out.prediction
            return replace(out, prediction=y[:, None] if y.ndim == 1 else y[:, [0, 0, 1, 2]])

        def losses(self, output, batch, progress):
            steps.append(progress)
            return super().losses(output, batch, progress)

    with pytest.raises(ConfigError, match=f"Wide on toy: the prediction of 2 samples has shape {shape}, {kind} needs"):
        fit(lambda: Wide(ToyConfig(), Shape.of(data)).double(), data, QUICK, [0], stacked=stacked)
    assert not steps


def test_a_model_may_refuse_data():
    class Picky(Toy):
        def accept(self, data):
            raise ConfigError(f"{data.name} has {len(data)} samples")

    with pytest.raises(ConfigError, match="toy has 60 samples"):
        fit(lambda: Picky(ToyConfig(), Shape.of(DATA)).double(), DATA, QUICK, [0])


class Assigns(Queue):
    def remember(self, memo):
        self.queue = self.queue + 1


@pytest.mark.parametrize("stacked", [False, True])
def test_a_buffer_that_is_assigned_is_an_error(stacked):
    def build():
        return Assigns(ToyConfig(), Shape.of(DATA)).double()

    with pytest.raises(TrainingError, match="the model assigns queue; write into the buffer"):
        fit(build, DATA, QUICK, [0], stacked=stacked)


def test_fits_say_what_they_cost():
    (got,) = fit(builder("TwoStage", DATA), DATA, QUICK, [0])
    assert got.wall_s > 0
    assert got.cpu_s > 0
    assert got.peak_memory_mb > 1
    free = sum(p.numel() for p in MODELS["TwoStage"](ToyConfig(), Shape.of(DATA)).parameters() if p.requires_grad)
    assert got.parameters == free
