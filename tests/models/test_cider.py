"""CIDer: counts, paths of the position code, distillation, the causal head, counterfactual text, switches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import make

from affectcore.data.schema import Batch, Task
from affectcore.errors import ConfigError
from affectcore.models import cider, registry
from affectcore.models.cider import AUTHOR, CLEAN, CIDer, Config
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool, fill
from affectcore.training.learner import Single
from affectcore.training.recipe import Recipe

NAMES = ("text", "audio", "vision")
FIRST = Progress(0, 0, 10, 2)
SMALL = {"width": 8, "heads": 2, "layers": 2, "unread_alignment": False}
STILL = dict.fromkeys(("embed_dropout", "relu_dropout", "residual_dropout", "output_dropout"), 0.0)


class Noise:
    """No drop-out; uniforms from a stream."""

    def __init__(self, training: bool = True, seed: int = 0) -> None:
        self.training, self.generator = training, torch.Generator().manual_seed(seed)

    def dropout(self, x, p):
        return x

    def uniform(self, *shape):
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)


def model_of(config, size="unaligned", kind="single_label", seed=0, **changes):
    data = make(size, kind)
    torch.manual_seed(seed)
    model = CIDer(replace(config, **SMALL | changes), Shape.of(data)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model, data.split("train").to("cpu", torch.float64)


def terms_of(model, batch, seed=0, progress=FIRST):
    output = model(batch, Noise(seed=seed))
    return output, *model.losses(output, batch, progress)


# parameters


ROWS = [  # dims, steps, parameters without transformer layers for 3 and for 7 classes
    ((768, 5, 20), (50, 375, 500), 179_126, 186_846),
    ((768, 5, 20), (50, 50, 50), 139_601, 147_321),
    ((768, 74, 35), (50, 500, 500), 193_649, 201_369),
    ((768, 74, 35), (50, 50, 50), 147_749, 155_469),
    ((768, 25, 171), (44, 44, 44), 155_048, 162_768),
    ((768, 25, 171), (75, 75, 75), 162_488, 170_208),
]
CAUSAL = [(33_545, 41_265), (33_545, 41_265), (36_233, 43_953), (36_233, 43_953), (39_017, 46_737), (39_017, 46_737)]


@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize("classes", [3, 7])
def test_parameters_of_the_published_code_in_its_twelve_settings(row, classes):
    dims, steps, *bases = ROWS[row]
    task = Task("single_label", tuple(map(str, range(classes))))
    shape = Shape(dict(zip(NAMES, dims)), dict(zip(NAMES, steps)), task)
    for n in (1, 4):
        model = CIDer(replace(AUTHOR, layers=n, class_norm=row > 3), shape)
        assert sum(p.numel() for p in model.parameters()) == bases[classes == 7] + 32_480 * n
    assert sum(p.numel() for p in model.network.head.parameters()) == CAUSAL[row][classes == 7]


def test_parameters_at_the_entry_shape():
    assert registry.parameters("cider", "author") == 276_566
    assert registry.parameters("cider", "clean") == 276_566


# positions, padding, slices


def test_the_published_position_code_runs_along_the_batch():
    for config, depends in ((AUTHOR, True), (CLEAN, False), (replace(AUTHOR, positions="time"), False)):
        model, batch = model_of(config)
        order = torch.arange(len(batch)).flip(0)
        with torch.no_grad():
            gap = model(batch.rows(order), Noise(False)).prediction.flip(0) - model(batch, Noise(False)).prediction
        assert (gap.abs().max() > 1e-4) == depends


def test_position_codes():
    code = cider.position_code(4, 5, torch.zeros((), dtype=torch.float64))
    assert code.shape == (4, 5)
    assert code[0].tolist() == [0, 1, 0, 1, 0]
    w = 10000 ** (-2 / 5)
    assert code[3, :4].tolist() == pytest.approx([np.sin(3), np.cos(3), np.sin(3 * w), np.cos(3 * w)])
    outs = []
    for kind in ("restart", "time", "batch", "none"):
        model, batch = model_of(CLEAN, positions=kind)
        outs.append(model(batch, Noise(False)).prediction)
    assert min((a - b).abs().max() for i, a in enumerate(outs) for b in outs[:i]) > 1e-6


@pytest.mark.parametrize(("t", "cuts"), [(7, (5, 5, 11)), (4, (5, 5, 2)), (2, (5, 1, 0))])
def test_fixed_slices_cut_at_the_lengths_of_training(t, cuts):
    model, _ = model_of(AUTHOR, "aligned")
    x = {m: torch.randn(3, t, d, dtype=torch.float64) for m, d in model.shape.dims.items()}
    valid = {m: torch.ones(3, t, dtype=torch.bool) for m in x}
    view = model.network(x, valid, model.classes, Noise(False))
    assert view.lengths == cuts
    assert torch.isfinite(view.prediction).all()
    if cuts[2] == 0:  # nothing is left for vision: its pooled state is zero
        assert model.network.pool[2](view.states[2], None).abs().max() == 0
    clean, _ = model_of(CLEAN, "aligned")
    assert clean.network(x, valid, clean.classes, Noise(False)).lengths == (t, t, t)


@pytest.mark.parametrize(
    ("alignment", "anchor"), [("attention", "vision"), ("chunks", "text"), ("convolution", "text"), ("none", "text")]
)
def test_every_alignment_trains(alignment, anchor):
    model, batch = model_of(CLEAN, alignment=alignment, anchor=anchor, special="text")
    _, terms, _ = terms_of(model, batch)
    sum(terms.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_words_that_may_not_ask_get_the_bias():
    model, batch = model_of(AUTHOR)
    align, x = model.network.align[0], batch.features["audio"]
    asks = batch.valid("text") & ~cider.ends_of(batch.valid("text"))
    words = model.network.project[0](batch.features["text"])
    out = align(words, x, model.network.project[1], asks, batch.valid("audio"))
    bias = align.attention.out_proj.bias
    torch.testing.assert_close(out[~asks], bias.expand_as(out[~asks]), rtol=0, atol=0)
    assert (out[asks] - bias).abs().min(0).values.max() > 1e-6


def test_chunks_are_equal_parts_of_what_exists():
    x = torch.arange(6.0).view(1, 6, 1)
    valid = torch.tensor([[True] * 4 + [False] * 2])
    assert cider.chunk_means(x, valid, 3, torch.tensor([2])).flatten().tolist() == [0.5, 2.5, 0]


def test_plain_attention_has_one_group():
    model, batch = model_of(CLEAN, composite=False)
    assert model.network.layers[0].attention.groups == ((0, 1, 2),)
    assert torch.isfinite(model(batch, Noise(False)).prediction).all()


# masks and distillation


@pytest.mark.parametrize("kind", ["sample", "modality", "half", "position", "fixed", "whole"])
def test_masks_of_the_second_view(kind):
    model, batch = model_of(CLEAN, missing=kind, missing_rate=0.3, special="text")
    rows = batch.rows(torch.arange(len(batch)).repeat(400))
    valid = {m: rows.valid(m) for m in rows.modalities}
    kept = model._kept(rows, valid, Noise())
    share = {m: 1 - kept[m].double().mean().item() for m in ("audio", "vision")}
    expected = {"fixed": 0.3, "half": 0.25}.get(kind, 0.5)
    assert list(share.values()) == pytest.approx([expected] * 2, abs=0.02)
    assert kept["text"][cider.ends_of(valid["text"])].all()  # [CLS] and [SEP] stay
    rate = {m: k.double().mean(-1) for m, k in kept.items()}
    varies = rate["audio"].std().item()  # the rate itself varies but where it is the position's
    assert varies < 0.2 if kind in ("position", "fixed") else varies > 0.25
    together = np.corrcoef(rate["audio"], rate["vision"])[0, 1]
    assert (together > 0.25) == (kind in ("sample", "whole"))
    whole = kept["audio"].all(-1) | ~kept["audio"].any(-1)
    assert bool(whole.all()) == (kind == "whole")


@pytest.mark.parametrize("config", [CLEAN, AUTHOR])
def test_nothing_is_lost_where_nothing_is_hidden(config):
    model, batch = model_of(config, missing="fixed", missing_rate=0.0)
    _, terms, _ = terms_of(model, batch)
    assert terms["feature"] == 0
    assert terms["attention"].abs() < 1e-12
    assert terms["joint"].abs() < 1e-12
    torch.testing.assert_close(terms["task_missing"], terms["task"], rtol=0, atol=1e-12)


def test_the_feature_loss_counts_hidden_steps_alone():
    model, batch = model_of(CLEAN)
    output, terms, _ = terms_of(model, batch)
    total = 0.0
    for (m, hidden), y in zip(output.hidden.items(), output.decoded):
        assert not (hidden & ~batch.observed[m]).any()
        error = F.smooth_l1_loss(y[hidden], batch.features[m][hidden], reduction="sum")
        total += error / (hidden.sum() * y.shape[-1] + 1e-6)
    torch.testing.assert_close(terms["feature"], total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("config", [CLEAN, AUTHOR])
@pytest.mark.parametrize(
    ("kind", "layers", "groups"),
    [
        ("kl", "last", "whole"),
        ("kl", "all", "subsets"),
        ("kl_mean", "last", "subsets"),
        ("mse_logits", "all", "whole"),
        ("mse_probabilities", "last", "whole"),
    ],
)
def test_attention_losses_equal_sums_over_written_scores(config, kind, layers, groups):
    model, batch = model_of(config, attention_loss=kind, attention_layers=layers, attention_groups=groups)
    output, terms, _ = terms_of(model, batch)
    chosen = cider.subsets(3) if groups == "subsets" else ((0, 1, 2),)
    view, losses = output.missing, []
    block = torch.repeat_interleave(torch.arange(3), torch.tensor(view.lengths))
    for t, s in zip(output.target.scores, view.scores[-len(output.target.scores) :]):
        for g in chosen:
            per_sample = []
            for b in range(len(batch)):
                rows = torch.isin(block, torch.tensor(g))
                if view.mask is not None:
                    rows = rows & view.mask[b]
                a, c = (v.written()[b][:, rows][:, :, rows] for v in (t, s))
                if kind.startswith("kl"):
                    row = (a.softmax(-1) * (a.log_softmax(-1) - c.log_softmax(-1))).sum(-1)
                else:
                    row = ((a - c) if kind == "mse_logits" else a.softmax(-1) - c.softmax(-1)).square().mean(-1)
                per_sample.append((row.sum(-1) if kind == "kl" else row.mean(-1)).mean())
            losses.append(torch.stack(per_sample).mean())
    torch.testing.assert_close(terms["attention"], torch.stack(losses).mean(), rtol=1e-9, atol=1e-12)
    assert len(output.target.scores) == (2 if layers == "all" else 1)


def test_the_joint_loss_moves_the_student_alone():
    model, batch = model_of(CLEAN)
    output, terms, _ = terms_of(model, batch)
    assert not output.target.joint.requires_grad
    expected = 1 - F.cosine_similarity(output.missing.joint, output.complete.joint, dim=-1).mean()
    torch.testing.assert_close(terms["joint"], expected)


def test_weights_of_zero_leave_their_terms_out():
    off = {"feature_weight": 0.0, "attention_weight": 0.0, "joint_weight": 0.0}
    model, batch = model_of(CLEAN, **off)
    _, terms, _ = terms_of(model, batch)
    assert set(terms) == {"task", "task_missing"} == set(model.weights(FIRST))
    assert not hasattr(model, "decoders")
    alone, _ = model_of(CLEAN, missing="none")
    assert set(terms_of(alone, batch)[1]) == {"task"} == set(alone.weights(FIRST))


def test_the_published_step_is_two_adam_steps_with_gradients_kept():
    recipe = Recipe(optimizer="adam", lr=1e-2, weight_decay=0.0, clip_norm=None)
    for steps, keep in (("accumulated", True), ("two", False)):
        model, batch = model_of(AUTHOR, steps=steps, **STILL)
        other, _ = model_of(AUTHOR, **STILL)
        mask = {m: torch.arange(x.shape[-2]) % 2 == 0 for m, x in batch.features.items()}
        for m in (model, other):
            m._kept = lambda b, valid, noise, mask=mask: {k: v & mask[k] for k, v in valid.items()}
        Single(model, 0, recipe).step(batch.map(lambda x: x.unsqueeze(0)), FIRST, [1.0])
        optimizer = torch.optim.Adam(other.parameters(), lr=1e-2)
        output = other(batch, Noise())
        other._task(output.complete, batch).backward()
        optimizer.step()
        if not keep:
            optimizer.zero_grad()
        second = other._distil(batch, Noise(), output.target, None)
        weights = other.weights(FIRST)
        sum(weights[k] * v for k, v in other._distilled(second, batch).items()).backward()
        optimizer.step()
        for (k, a), b in zip(model.named_parameters(), other.parameters()):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10, msg=k)


def test_teachers():
    model, batch = model_of(CLEAN, teacher="average", teacher_decay=0.5)
    before = [b.clone() for b in model.average.buffers()]
    with torch.no_grad():
        for p in model.network.parameters():
            p.add_(1.0)
    model.remember({"decay": torch.ones(())})
    for a, b, p in zip(model.average.buffers(), before, model.network.parameters()):
        if a.ndim:
            torch.testing.assert_close(a, 0.5 * (b + p))
    output, terms, _ = terms_of(model, batch)
    assert not torch.allclose(output.target.joint, output.complete.joint)

    own, _ = model_of(CLEAN, teacher="own", teacher_width=16, teacher_layers=3, teacher_epochs=2)
    output, terms, _ = terms_of(own, batch)
    assert output.target.joint.shape[-1] == 48
    only = torch.autograd.grad(terms["task"], own.network.first.weight, allow_unused=True, retain_graph=True)
    assert only[0] is None  # the complete view is the teacher's
    student = sum(v for k, v in terms.items() if k != "task")
    assert torch.autograd.grad(student, own.teacher.first.weight, allow_unused=True)[0] is None
    early, late = own.weights(FIRST), own.weights(Progress(2, 20, 40, 4))
    assert (early["task"], early["task_missing"], early["joint"]) == (1, 0, 0)
    assert (late["task"], late["task_missing"], late["joint"]) == (0, 1, 0.5)

    class Half(Noise):
        def dropout(self, x, p):
            return x * 0.5 if p > 0 else x

    for on, same in ((True, False), (False, True)):
        model, _ = model_of(CLEAN, teacher_dropout=on)
        calm = model._complete(batch, Noise())[0].joint
        assert torch.allclose(model._complete(batch, Half())[0].joint, calm) == same


# the causal head


@pytest.mark.parametrize("config", [CLEAN, AUTHOR])
@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_the_head_is_a_mixture_of_linear_experts(config, kind):
    model, batch = model_of(config, kind=kind)
    head, classes = model.network.head, model.classes
    classes.remember(classes.gather(batch, FIRST))
    h = torch.randn(5, 24, dtype=torch.float64)
    u, share = head.encodings(classes.means()), classes.shares()
    assert share.sum() == pytest.approx(1)
    total = 0.0
    for i, expert in enumerate(head.experts):
        y = expert(torch.cat([h, u[i].expand(5, -1)], -1))
        total = total + share[i] * {"single_label": y.softmax(-1), "multi_label": y.sigmoid()}.get(kind, y)
    expected = {"single_label": total.log(), "multi_label": total.logit()}.get(kind, total.squeeze(-1))
    torch.testing.assert_close(head(h, classes, True), expected, rtol=1e-9, atol=1e-12)
    if kind == "single_label":
        assert head(h, classes, True).exp().sum(-1).tolist() == pytest.approx([1] * 5)


def test_a_log_of_a_sum_may_underflow_where_a_sum_of_logs_does_not():
    head = model_of(AUTHOR)[0].network.head
    logits, share = torch.tensor([[[0.0, 1000.0, 0.0]] * 3], dtype=torch.float64), torch.ones(3).double() / 3
    assert head.mix(logits, share)[0, 0] == -np.inf
    assert model_of(CLEAN)[0].network.head.mix(logits, share)[0, 0] == pytest.approx(-1000)


def test_evaluation_of_the_published_head_is_uniform_over_one_mean():
    model, batch = model_of(AUTHOR)
    clean, _ = model_of(CLEAN)
    memo = model.classes.gather(batch, FIRST)
    h = torch.randn(4, 24, dtype=torch.float64)
    for m in (model, clean):
        m.classes.remember(memo)
    head, classes = model.network.head, model.classes
    u = head.encodings(classes.means().mean(0, keepdim=True))
    p = torch.stack([e(torch.cat([h, u.expand(4, -1)], -1)).softmax(-1) for e in head.experts]).mean(0)
    torch.testing.assert_close(head(h, classes, False), p.log())
    still, head = clean.network.head(h, clean.classes, False), clean.network.head
    torch.testing.assert_close(still, head(h, clean.classes, True))
    other = tuple(tuple(r) for r in (classes.means() + 1).tolist())
    leaky, _ = model_of(CLEAN, evaluation_class_means=other)
    leaky.classes.remember(memo)
    assert not torch.allclose(leaky.network.head(h, leaky.classes, False), leaky.network.head(h, leaky.classes, True))


@pytest.mark.parametrize(("kind", "strata"), [("single_label", 3), ("multi_label", 2), ("regression", 3)])
def test_class_means_are_exact_after_the_first_epoch(kind, strata):
    model, batch = model_of(CLEAN, kind=kind)
    for rows in (torch.arange(5), torch.arange(5, len(batch))):
        model.classes.remember(model.classes.gather(batch.rows(rows), FIRST))
    model.classes.remember(model.classes.gather(batch, Progress(1, 5, 10, 2)))  # a second epoch adds nothing
    means, shares = cider.class_statistics(batch, model.shape.task)
    torch.testing.assert_close(model.classes.means(), torch.tensor(means, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.classes.shares(), torch.tensor(shares, dtype=torch.float64), rtol=0, atol=1e-12)
    assert len(means) == strata
    weights = cider.classes_of(model.shape.task, batch.target, batch.features["text"])
    own = (weights[:, 0] > 0) & batch.observed["text"].any(-1)
    x = torch.stack([v[o].mean(0) for v, o in zip(batch.features["text"][own], batch.observed["text"][own])])
    torch.testing.assert_close(x.mean(0), model.classes.means()[0, :6])
    given, _ = model_of(CLEAN, kind=kind, class_means=means, class_shares=shares)
    torch.testing.assert_close(given.classes.means(), model.classes.means(), rtol=1e-6, atol=1e-7)
    assert given.classes.gather(batch, FIRST) == {}


def test_padded_class_means_count_the_padding():
    _, batch = model_of(CLEAN)
    padded, _ = cider.class_statistics(batch, model_of(CLEAN)[0].shape.task, padded=True)
    chosen = batch.target == 0
    expected = batch.features["text"][chosen].mean((0, 1))
    assert padded[0][:6] == pytest.approx(expected.tolist())


@pytest.mark.parametrize("encodings", ["means", "learned", "zeros", "shuffled", "random"])
def test_what_the_experts_are_told(encodings):
    model, batch = model_of(CLEAN, encodings=encodings)
    model.classes.remember(model.classes.gather(batch, FIRST))
    head = model.network.head
    names = {n.split(".")[0] for n, _ in head.named_parameters()}
    assert names == {"experts"} | {"means": {"encoders"}, "shuffled": {"encoders"}, "learned": {"table"}}.get(
        encodings, set()
    )
    assert head.experts[0].in_features == (24 if encodings == "zeros" else 48)
    if encodings == "shuffled":
        plain = replace(head.config, encodings="means")
        told, head.config = head.encodings(model.classes.means()), plain
        torch.testing.assert_close(told, head.encodings(model.classes.means()).roll(1, 0))
    assert torch.isfinite(model(batch, Noise(False)).prediction).all()


def test_class_means_of_some_modalities_and_a_plain_head():
    model, batch = model_of(CLEAN, class_modalities=("text", "audio"), class_norm=True)
    assert model.network.head.experts[0].in_features == 24 + 16
    plain, _ = model_of(CLEAN, head="linear")
    _, terms, _ = terms_of(plain, batch)
    expected = F.cross_entropy(plain(batch, Noise()).prediction, batch.target)
    torch.testing.assert_close(terms["task"], expected)


# counterfactuals


def with_tokens(batch):
    tokens = torch.arange(batch.features["text"].shape[-2]).expand(len(batch), -1) + 10
    return replace(batch, extras={"tokens": tokens})


def test_a_hidden_text_has_itself_as_counterfactual():
    tau = 0.7
    model, batch = model_of(CLEAN, paths=(("text", "words", tau),), words=(10, 12))
    plain, _ = model_of(CLEAN)
    hidden = batch.with_observed({"text": torch.zeros_like(batch.observed["text"])})
    factual = plain(hidden, Noise(False)).prediction
    torch.testing.assert_close(model(with_tokens(hidden), Noise(False)).prediction, (1 - tau) * factual)
    shown = model(with_tokens(batch), Noise(False))
    kept = torch.tensor([True, False, True, False]).expand(len(batch), -1)
    words = plain(batch.with_observed({"text": kept}), Noise(False)).prediction
    torch.testing.assert_close(shown.counterfactuals[0], words)
    torch.testing.assert_close(shown.prediction, plain(batch, Noise(False)).prediction - tau * words)


@pytest.mark.parametrize("kind", ["deleted", "mean", "shuffle", "zeros", "prior"])
def test_other_counterfactual_paths(kind):
    model, batch = model_of(CLEAN, paths=(("vision" if kind != "deleted" else "text", kind, 1.0),), words=(11,))
    model.classes.remember(model.classes.gather(batch, FIRST))
    batch = with_tokens(batch)
    output = model(batch, Noise(False))
    view = model.network(*model._read(batch), model.classes, Noise(False))
    torch.testing.assert_close(output.prediction, view.prediction - output.counterfactuals[0])
    if kind == "prior":
        expected = model.classes.shares().log().expand_as(output.prediction)
        torch.testing.assert_close(output.counterfactuals[0], expected)
    if kind == "shuffle":
        x, valid = batch.features["vision"], batch.valid("vision")
        mixed = cider.shuffled(x, valid)
        assert not torch.equal(mixed, x)
        for a, b, v in zip(mixed, x, valid):  # the same steps in another order, padding at the end
            assert torch.equal(a[v].sort(0).values, b[v].sort(0).values)
    if kind == "mean":
        mean = model.classes.shares() @ model.classes.means()[:, 9:]
        torch.testing.assert_close(cider.replaced(batch, "vision", kind, model.config, model.classes)[0][2, 0], mean)


def test_encoded_counterfactuals_and_differences_of_probabilities():
    model, batch = model_of(CLEAN, paths=(("text", "words", 2.0),), difference="probability")
    plain, _ = model_of(CLEAN)
    text = torch.randn_like(batch.features["text"])
    output = model(replace(batch, extras={"counterfactual": text}), Noise(False))
    other = replace(batch, features={**batch.features, "text": text})
    expected = [plain(b, Noise(False)).prediction.softmax(-1) for b in (batch, other)]
    torch.testing.assert_close(output.prediction, expected[0] - 2 * expected[1])
    with pytest.raises(ConfigError, match="the path 'words' needs token ids in extras"):
        model(batch, Noise(False))


def test_bias_words():
    tokens = np.array([[5, 5, 6, 8, 0], [5, 6, 7, 8, 0], [9, 6, 6, 8, 7]])
    classes = np.array([0, 2, 1])
    code = {"normalised": False, "neutral": False, "stale": True}
    # counts (neg, neutral, pos): 5 (2, 0, 1), 6 (1, 2, 1), 8 (1, 1, 1), 7 (0, 1, 1), 9 (0, 1, 0)
    assert cider.bias_words(tokens, classes, **code) == (5, 7, 9)  # 9 has the value of 7, met before it
    assert cider.bias_words(tokens, classes, **code | {"stale": False}) == (5, 7)
    assert cider.bias_words(tokens, classes, normalised=False) == (6, 5, 7, 9)
    assert cider.bias_words(tokens, classes, normalised=False, most=2) == (6, 5)
    assert cider.bias_words(tokens, classes, **code, most=2, filter_first=False) == (5,)
    assert cider.bias_words(tokens, classes, cv=0.0, most=None) == (6, 5, 8, 7, 9)
    rates = (np.array([2.0, 0, 1]) + 0.5) / np.array([4, 5, 4])
    exact = rates.std() / rates.mean()
    assert 5 in cider.bias_words(tokens, classes, cv=exact - 1e-9)
    assert 5 not in cider.bias_words(tokens, classes, cv=exact + 1e-9)


def test_counterfactual_tokens_keep_special_and_chosen_ids():
    tokens = torch.tensor([[101, 7, 8, 100, 102, 0]])
    assert cider.counterfactual_tokens(tokens, [8]).tolist() == [[101, 103, 8, 100, 102, 0]]


# settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": "sideways"}, "positions 'sideways' must be one of restart"),
        ({"special": "video"}, "special 'video' is unknown, the data have text, audio, vision"),
        ({"heads": 3}, "8 features cannot be split into 3 heads"),
        ({"missing_rate": 2.0}, r"missing_rate 2.0 must lie in \[0, 1\]"),
        ({"teacher_layers": 4}, "need teacher 'own', got 'shared'"),
        ({"teacher": "own", "steps": "two"}, "steps 'two' needs teacher 'shared'"),
        ({"paths": (("text", "mask", 1.0),)}, "path kind 'mask' must be one of words"),
        ({"paths": (("face", "zeros", 1.0),)}, "path modality 'face' is unknown"),
        ({"padded": True, "paths": (("text", "deleted", 1.0),)}, "path 'deleted' needs masks"),
        ({"class_means": ((1.0,),)}, "class_means must hold 3 rows of 13 numbers"),
        ({"class_shares": (1.0,)}, "class_shares has 1 numbers"),
        ({"class_modalities": ("face",)}, "class_modalities"),
        ({"joint_weight": -1.0}, "joint_weight -1.0 must be 0 or more"),
    ],
)
def test_settings_that_cannot_hold(settings, message):
    data = make("unaligned", "single_label")
    with pytest.raises(ConfigError, match=message):
        CIDer(replace(Config(), **SMALL | settings), Shape.of(data))


def test_probability_differences_need_classes():
    data = make("unaligned")
    with pytest.raises(ConfigError, match="needs a single_label task"):
        CIDer(Config(difference="probability"), Shape.of(data))


def test_attention_drop_out_draws_for_the_whole_group():
    model, batch = model_of(CLEAN, attention_dropout=0.5, **STILL)
    noise = Pool(fill([0], 10_000_000, "cpu", "x")[0], batch.features["text"].new_zeros(()))
    assert not torch.allclose(model(batch, noise).joint, model(batch, Noise()).joint)


def test_a_shape_of_one_modality_has_one_group():
    task = Task("single_label", ("a", "b"))
    model = CIDer(replace(CLEAN, **SMALL), Shape({"face": 3}, {"face": 4}, task))
    x = torch.randn(2, 4, 3)
    rows = torch.arange(2)
    batch = Batch({"face": x}, {"face": torch.tensor([4, 2])}, {"face": x[..., 0] > -9}, rows, rows, rows)
    assert model(batch, Noise(False)).prediction.shape == (2, 2)
