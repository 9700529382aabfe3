"""TETFN: steps against the published order of operations, which modality reaches which, what it needs."""

from dataclasses import replace

import pytest
import torch
from fusion_help import SILENT, built, terms_of
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.models.naive import twin


def test_losses_and_gradients_equal_the_naive_twins_when_labels_have_moved():
    torch.set_default_dtype(torch.float64)
    try:
        model, batch = built("tetfn", "author", residual_dropout=0.0, attention_dropout=0.0)
        naive = twin(model).eval()
        for labels in naive.labels.labels:
            labels[batch.index] = batch.target
        naive.labels.started = True
        for epoch in range(3):
            naive.labels.epoch = epoch
            terms, memo = terms_of(model, batch, Progress(epoch, 0, 1, 3))
            ours = sum(terms.values())
            for theirs in naive.losses(batch):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
            with torch.no_grad():
                model.remember(memo)
    finally:
        torch.set_default_dtype(torch.float32)
    assert terms["task_audio"] > 0  # control: labels moved
    ours.backward()
    theirs.backward()
    mine, his = (sorted(p.grad.norm().item() for p in m.parameters()) for m in (model, naive))
    assert mine == pytest.approx(his, abs=1e-10)


def test_the_heads_read_the_largest_observed_step():
    model, batch = built("tetfn")
    output = model(batch, SILENT)
    x = model.project["text"](batch.features["text"])
    for i in range(2, len(batch)):
        top = x[i][batch.observed["text"][i]].amax(0)
        expected = model.heads["text"](top, SILENT)[1]
        torch.testing.assert_close(output.unimodal["text"][i], expected)
    assert torch.equal(output.there["text"], batch.observed["text"].any(1).double())


def test_others_meet_by_way_of_the_text():
    """Vision reaches audio's part through text alone: without text it cannot change which steps audio attends to."""
    model, batch = built("tetfn")
    assert model.pairs == [("audio", "vision"), ("vision", "audio")]
    assert len(model.lower) == len(model.upper) == 2
    alone = batch.with_observed({"text": torch.zeros_like(batch.observed["text"])})
    c = model.lower[0].cross(
        model._place(model._steps("vision", alone).x), model._steps("text", alone), 0.0, model.config, SILENT
    )
    d = model.config.width
    plain = model.lower[0].layers[0]
    x = model._place(model._steps("vision", alone).x)  # nothing to attend to: the layer's bias and its network remain
    x = x + plain.attention.out_proj(torch.zeros(d, dtype=x.dtype))
    expected = model.lower[0].norm(x + plain.down(torch.relu(plain.up(plain.norm_network(x)))))
    torch.testing.assert_close(c, expected)


def test_a_step_that_starts_with_zero_has_no_position_in_the_authors_enhanced_stacks():
    model, _ = built("tetfn", "author")
    x = torch.ones(1, 3, 6, dtype=torch.float64)
    x[0, 1, 0] = 0
    plain, placed = model._place(x), model._place(x, enhanced=True)
    assert torch.equal(plain[0, 1], placed[0, 1])
    assert not torch.equal(plain[0, 2], placed[0, 2])
    clean, _ = built("tetfn")
    assert torch.equal(clean._place(x), clean._place(x, enhanced=True))


def test_the_future_is_hidden_by_its_switch_alone():
    for hidden in (True, False):
        model, batch = built("tetfn", future_mask=hidden)
        raw = model._steps("audio", batch)
        x, stack = model._place(raw.x), model.memory["text"]
        wide = torch.cat([x, x], -1)
        later = wide.clone()
        later[:, 5:] += 1
        mine = replace(raw, x=wide, mask=None), replace(raw, x=later, mask=None)
        position = torch.full_like(batch.index, 3)
        a, b = (stack.last(s, position, 0.0, model.config, SILENT) for s in mine)
        first = torch.equal(stack.cross(wide, mine[0], 0.0, model.config, SILENT)[:, :5],
                            stack.cross(wide, mine[1], 0.0, model.config, SILENT)[:, :5])  # fmt: skip
        assert first == hidden
        assert not torch.equal(a, b)  # the step that is read sees all: it is meant to be the last


@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
def test_classes_make_no_labels(kind):
    model, batch = built("tetfn", kind=kind)
    terms, memo = terms_of(model, batch)
    assert model.labels is None
    assert not memo
    assert all(terms[f"task_{m}"] > 0 for m in batch.modalities)


def test_tetfn_needs_text_and_others():
    data = make("aligned")
    for names in (("text",), ("audio", "vision")):
        with pytest.raises(ConfigError, match=f"needs a modality named text and others.*got {', '.join(names)}"):
            registry.build("tetfn", Shape.of(data.only(names)))
