"""Self-MM: labels against the published order of operations over epochs, when they move, what they need."""

from dataclasses import replace

import pytest
import torch
from fusion_help import SILENT, built, terms_of

from affectcore.models.contract import Progress
from affectcore.models.naive import twin


def train(model, naive, batch, epochs, lr=0.05):
    """Train both by plain gradient steps on the same parts; return the largest difference of their losses."""
    ours, theirs = (torch.optim.SGD(m.parameters(), lr) for m in (model, naive))
    worst = 0.0
    for epoch in range(epochs):
        naive.labels.epoch = epoch
        for part in torch.arange(len(batch)).chunk(2):
            b = batch.rows(part)
            terms, memo = terms_of(model, b, Progress(epoch, 0, 1, epochs))
            mine = sum(terms.values())
            for his in naive.losses(b):  # the twin writes its labels after the step
                worst = max(worst, (mine - his).abs().item())
                for loss, optimizer in ((mine, ours), (his, theirs)):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            with torch.no_grad():
                model.remember(memo)
    return worst


def test_losses_and_labels_follow_the_published_order_over_epochs():
    torch.set_default_dtype(torch.float64)
    try:
        model, batch = built("self_mm", "author", first_epoch=1)
        naive = twin(model).eval()
        for labels in naive.labels.labels:
            labels[batch.index] = batch.target
        naive.labels.started = True
        assert train(model, naive, batch, 4) < 1e-9
    finally:
        torch.set_default_dtype(torch.float32)
    labels = model.labels.labels(batch.index, batch.target)
    for i in range(3):
        torch.testing.assert_close(labels[:, i], naive.labels.labels[i + 1][batch.index], rtol=0, atol=1e-8)
    assert (labels - batch.target[:, None]).abs().max() > 0.1  # control: they moved


def test_labels_rest_before_their_first_epoch_and_with_them_the_heads():
    model, batch = built("self_mm", first_epoch=1)
    for epoch in (0, 0, 1):
        terms, memo = terms_of(model, batch, Progress(epoch, 0, 1, 2))
        assert all(terms[f"task_{m}"] == 0 for m in batch.modalities)
        with torch.no_grad():
            model.remember(memo)
    assert (model.labels.shift != 0).any()
    terms, _ = terms_of(model, batch, Progress(1, 0, 1, 2))
    assert all(terms[f"task_{m}"] > 0 for m in batch.modalities)


def test_a_missing_modality_keeps_its_label_and_enters_no_centre():
    model, batch = built("self_mm")
    for epoch in (0, 1):
        _, memo = terms_of(model, batch, Progress(epoch, 0, 1, 2))
        with torch.no_grad():
            model.remember(memo)
    gone = ~torch.stack([batch.observed[m].any(1) for m in batch.modalities], 1)
    shift = model.labels.shift[batch.index]
    assert gone.any()
    assert (shift[gone] == 0).all()
    assert (shift[~gone] != 0).any()
    y, features = batch.target[:, None] + torch.cat([torch.zeros_like(shift[:, :1]), shift], 1), model.labels.features
    start = 0
    for k, n in enumerate(model.labels.sizes):
        counted = torch.ones(len(batch), dtype=torch.bool) if k == 0 else ~gone[:, k - 1]
        mine = features[batch.index, start : start + n]
        for side, sign in enumerate((1, -1)):
            expected = mine[counted & (sign * y[:, k] > 0)].mean(0)
            centre = model.labels.sums[side, start : start + n] / model.labels.counts[side, k]
            torch.testing.assert_close(centre, expected)
        start += n


def test_labels_follow_the_middle_of_the_scale():
    results = []
    for offset in (0.0, 5.0):
        model, batch = built("self_mm")
        model.labels.middle = offset
        moved = replace(batch, target=batch.target + offset)
        for epoch in (0, 1):
            _, memo = terms_of(model, moved, Progress(epoch, 0, 1, 2))
            with torch.no_grad():
                model.remember(memo)
        results.append(model.labels.shift)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
def test_classes_give_every_head_the_samples_target(kind):
    model, batch = built("self_mm", kind=kind)
    assert model.labels is None
    output = model(batch, SILENT)
    terms, memo = model.losses(output, batch, Progress(3, 0, 1, 4))
    assert not memo
    for m in batch.modalities:
        seen = batch.observed[m].any(1)
        loss = torch.nn.functional.cross_entropy if kind == "single_label" else None
        loss = loss or torch.nn.functional.binary_cross_entropy_with_logits
        torch.testing.assert_close(terms[f"task_{m}"], loss(output.unimodal[m][seen], batch.target[seen]))


def test_text_is_its_first_step_or_the_mean_of_its_observed_ones():
    for first in (True, False):
        model, batch = built("self_mm", first_step=first)
        x = batch.features["text"].clone().requires_grad_()
        features = dict(batch.features) | {"text": x}
        model(replace(batch, features=features), SILENT).prediction.sum().backward()
        reached = (x.grad != 0).any(2)
        steps = torch.arange(x.shape[1]) == 0 if first else torch.ones(x.shape[1], dtype=torch.bool)
        assert torch.equal(reached, batch.observed["text"] & steps)
