"""MCTN: parameters, decoder and losses against loops, feeding, the batch taken for time, chains of several sources."""

from dataclasses import replace

import pytest
import torch
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.baselines.mctn import Decoder
from affectcore.models.contract import Progress, Shape
from affectcore.models.naive import twin
from affectcore.nn.noise import Pool, Tape, fill

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)
NOW = Progress(0, 0, 1, 1)


def build(data, preset="clean", **settings):
    torch.manual_seed(0)
    return registry.build("mctn", Shape.of(data), preset, **({"hidden": 6} | settings)).double()


def some(size="aligned"):
    data = make(size)
    return data, data.split("train").to("cpu", torch.float64)


def train_pass(model, batch):
    tape = Tape(torch.zeros((), dtype=torch.float64))
    model(batch, tape)
    return model(batch, Pool(fill([0], tape.words, "cpu", "test")[0], torch.zeros((), dtype=torch.float64)))


def test_parameters_are_those_of_the_published_code():
    # counted on MCTN of thuiar/MMSA, commit a94e65d; the decoders' recurrent weights are never used
    assert registry.parameters("mctn", "author") == 763_778


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_decoder_equals_a_loop_that_forms_every_step(restart, share):
    torch.manual_seed(0)
    decoder = Decoder(7, 4, restart).double()
    memory, state, inputs = torch.randn(3, 5, 4).double(), torch.randn(3, 4).double(), torch.randn(3, 6, 7).double()
    mask, forced = torch.rand(3, 5) < 0.7, torch.rand(3, 6) < share
    mask[:, 0] = True
    found = decoder(memory, state, mask, inputs, None if share == 1 else forced)
    cells = [torch.nn.LSTMCell(11, 4).double() for _ in range(1 + restart)]
    for cell, suffix in zip(cells, ("l0", "l0_reverse")):
        for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, k).data.copy_(getattr(decoder.rnn, f"{k}_{suffix}"))
    for b in range(3):
        s, c, last = state[b : b + 1], torch.zeros(1, 4).double(), None
        for t in range(6):
            keys = memory[b, mask[b]]
            scores = decoder.score(torch.tanh(decoder.mix(torch.cat([s.expand(len(keys), 4), keys], 1)))).squeeze(1)
            context = scores.softmax(0) @ keys
            step = inputs[b, t] if t == 0 or share == 1 or forced[b, t] else last
            x = torch.cat([step, context]).unsqueeze(0)
            if restart:
                s = sum(cell(x)[0] for cell in cells)
            else:
                s, c = cells[0](x, (s, c))
            last = decoder.out(torch.cat([s[0], context]))
            torch.testing.assert_close(found[b, t], last, rtol=0, atol=1e-12)


def test_errors_are_means_over_known_steps_and_real_features():
    data, batch = some("unaligned")
    model = build(data)
    x, masks = model._sequences(batch)
    assert {v.shape[1:] for v in x.values()} == {(9, 6)}
    found = torch.randn(12, 9, 6).double()
    loop = [
        (found[b, t, :3] - batch.features["audio"][b, t]).square().mean()
        for b in range(12)
        for t in range(9)
        if batch.observed["audio"][b, t]
    ]
    value = model._error(found, x["audio"], masks["audio"], "audio")
    assert value.item() == pytest.approx(torch.stack(loop).mean().item(), abs=1e-12)
    back = model._error(found, x["audio"], masks["audio"], "audio", masks["text"])
    there = [
        b for b in range(12) for _ in range(int(batch.observed["audio"][b].sum())) if batch.observed["text"][b].any()
    ]
    assert len(there) < len(loop)
    assert back.item() != pytest.approx(value.item(), abs=1e-9)
    wide = build(data, padded=True)
    x, masks = wide._sequences(batch)
    value = wide._error(found, x["audio"], masks["audio"], "audio")
    assert value.item() == pytest.approx((found - x["audio"]).square().mean().item(), abs=1e-12)


def test_terms_are_means_over_the_chains_and_only_training_translates():
    data, batch = some()
    model = build(data, teacher_forcing=1.0)
    output = train_pass(model, batch)
    terms, _ = model.losses(output, batch, NOW)
    assert set(terms) == {"task", "translation", "cycle", "further"}
    assert set(model.weights(NOW)) == {"translation", "cycle", "further"}
    alone = []
    for i, s in enumerate(data.modalities):
        one = build(data, sources=(s,), teacher_forcing=1.0)
        one.chains[0].load_state_dict(model.chains[i].state_dict())
        alone.append(one.losses(train_pass(one, batch), batch, NOW)[0])
    for k, v in terms.items():
        torch.testing.assert_close(v, torch.stack([t[k] for t in alone]).mean(), rtol=0, atol=1e-12)
    silent = model(batch, SILENT)
    assert set(model.losses(silent, batch, NOW)[0]) == {"task"}
    torch.testing.assert_close(silent.prediction, output.prediction, rtol=0, atol=1e-12)
    two = make("pooled")
    output = train_pass(build(two), two.split("train").to("cpu", torch.float64))
    assert set(output.errors) == {"translation", "cycle"}
    assert set(build(two).weights(NOW)) == {"translation", "cycle"}


def test_the_prediction_is_the_mean_over_the_sources_that_a_sample_has():
    data, batch = some()
    model = build(data)
    gone = batch.with_observed({"text": torch.zeros_like(batch.observed["text"])})
    for b in (batch, gone):
        output = model(b, SILENT)
        for i in range(12):
            there = [s for s in b.modalities if b.observed[s][i].any()] or list(b.modalities)
            expected = sum(output.by_source[s][i] for s in there) / len(there)
            assert output.prediction[i].item() == pytest.approx(expected.item(), abs=1e-12)
    kinds = make("aligned", "multi_label")
    logits = build(kinds)(kinds.split("train").to("cpu", torch.float64), SILENT)
    assert logits.prediction.shape == (12, 2)
    torch.testing.assert_close(logits.prediction[2], sum(v[2] for v in logits.by_source.values()) / 3)


def test_without_its_only_source_a_model_is_a_constant():
    data, batch = some()
    gone = batch.with_observed({"text": torch.zeros_like(batch.observed["text"])})
    y = build(data, sources=("text",))(gone, SILENT).prediction
    assert torch.equal(y, y[:1].expand(12))


def test_the_batch_taken_for_time_makes_neighbours_matter():
    data, batch = some()
    for along_batch in (True, False):
        model = build(data, "author", batch_as_time=along_batch)
        shown = model(batch, SILENT).prediction
        other = replace(batch, features={m: x.index_fill(0, torch.tensor([6]), 1.5) for m, x in batch.features.items()})
        change = (model(other, SILENT).prediction - shown).abs() > 1e-9
        assert change[6]
        assert bool(change[5]) is bool(change[7]) is along_batch


def test_what_is_fed_is_the_truth_where_known_else_the_models_own_step():
    data, batch = some()
    base = {"sources": ("text",)}
    always, half, never = (build(data, teacher_forcing=p, **base) for p in (1.0, 0.5, 0.0))
    errors = [train_pass(m, batch).errors["translation"].item() for m in (always, half, never)]
    assert len({round(e, 9) for e in errors}) == 3
    hidden = batch.with_observed({"vision": torch.zeros_like(batch.observed["vision"])})
    spoiled = replace(hidden, features=hidden.features | {"vision": batch.features["vision"] + 5})
    for b in (hidden, spoiled):
        output = train_pass(always, b)
        assert output.errors["translation"] == 0  # nothing is known, nothing is asked
        assert output.errors["cycle"] == 0
    a, b = (train_pass(always, x).errors["further"] for x in (hidden, spoiled))
    assert a == b


def test_a_first_step_left_zero():
    data, batch = some()
    model = build(data, "author", batch_as_time=False)
    x, _ = model._sequences(batch)
    chain = model.chains[0]
    memory, state = chain.encoders[0](x["text"], None)
    found = model._translate(chain.decoders[0], memory, state, None, x["vision"], None, SILENT)
    assert found.shape == x["vision"].shape
    assert not found[:, 0].any()
    one = {m: v[:, :1] for m, v in x.items()}
    assert not model._translate(chain.decoders[0], memory, state, None, one["vision"], None, SILENT).any()


def test_the_total_equals_the_naive_twins():
    data, batch = some()
    model = build(data, "author")
    naive = twin(model)
    output = train_pass(model, batch)
    terms, _ = model.losses(output, batch, NOW)
    ours = sum(model.weights(NOW).get(k, 1.0) * v for k, v in terms.items())
    (theirs,) = naive.losses(batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    ours.backward()
    theirs.backward()
    mine, others = (
        sorted(0.0 if p.grad is None else p.grad.norm().item() for p in m.parameters()) for m in (model, naive)
    )
    assert mine == pytest.approx(others, abs=1e-10)


def test_the_joint_representation_has_samples_first():
    data, batch = some()
    for preset in ("clean", "author"):
        output = build(data, preset)(batch, SILENT)
        assert output.joint["text"].shape == (12, 5, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ("speech",)}, "source 'speech' is unknown, the data have text, audio, vision"),
        ({"teacher_forcing": 1.5}, r"teacher_forcing = 1.5 must lie in \[0, 1\]"),
    ],
)
def test_settings_are_checked(settings, message):
    data = make("aligned")
    with pytest.raises(ConfigError, match=message):
        build(data, **settings)
    shape = Shape({"text": 3}, {"text": 4}, data.task)
    with pytest.raises(ConfigError, match="two modalities or more"):
        registry.build("mctn", shape)
