"""MPLMM: patterns of missing modalities, what generates what, prompts that cannot learn, refusals."""

from dataclasses import replace

import pytest
import torch
from incomplete_help import SILENT, gradient, plenty, pools, small
from small_data import make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape


def without(batch, *missing):
    return batch.with_observed({m: torch.zeros_like(batch.observed[m]) for m in missing})


def test_some_but_not_all_modalities_go():
    model, batch = small("mplmm", hide_rate=1.0)
    seen = []
    for seed in range(60):
        view = model.view(batch, plenty(seed))
        seen.append(torch.stack([view.observed[m].any(1) for m in view.modalities], 1)[2:])  # rows that had all
    patterns, counts = torch.cat(seen).unique(dim=0, return_counts=True)
    assert len(patterns) == 6
    assert 1 <= patterns.sum(1).min() <= patterns.sum(1).max() <= 2
    assert counts.min() > 0.7 * counts.double().mean()
    kept, _ = small("mplmm", hide_rate=0.0)
    same = kept.view(batch, pools(kept, batch, 1)[0])
    assert all(torch.equal(same.observed[m], batch.observed[m]) for m in batch.modalities)


@pytest.mark.parametrize("preset", ["author", "clean"])
def test_generated_features_come_from_the_modalities_that_are_present(preset):
    model, batch = small("mplmm", preset)
    gone = without(batch, "audio")
    for m, matters in (("audio", False), ("text", True), ("vision", True)):
        x = {**gone.features, m: gone.features[m] + 1.0 * gone.valid(m).unsqueeze(-1)}
        other = replace(gone, features=x)
        gap = (model(other, SILENT).prediction - model(gone, SILENT).prediction)[2:].abs().max()
        assert gap > 1e-4 if matters else gap == 0, m


def test_a_missing_modality_is_blended_by_the_map_of_its_pattern():
    model, batch = small("mplmm")
    gone = without(batch, "audio", "vision").rows(torch.arange(2, 6))
    i, steps = 1, model.shape.steps["audio"]
    present = torch.tensor([[True, False, False]]).expand(4, 3)
    out = model._embedded(gone, present, SILENT)[i]
    pair, source = model.pairs.index((1, 0)), model.sources.index((1, (0,)))
    x = gone.features["text"]
    for b in range(4):
        columns = torch.cat([model.generative[i], torch.nn.functional.gelu(model.translate[pair](x[b])).t()], 1)
        expected = torch.nn.functional.gelu(model.blend[source](columns)) + model.signal_missing[i]
        torch.testing.assert_close(out[b], expected.t())
    assert out.shape[1] == steps


def test_prompts_that_start_at_zero_never_tell_the_kind_of_missingness():
    data = make("unaligned")
    batch = data.split("train")
    for preset, learns in (("author", False), ("clean", True)):
        torch.manual_seed(0)
        model = registry.build("mplmm", Shape.of(data), preset, **traits("mplmm").small)
        terms, _ = model.losses(model(batch, SILENT), batch, Progress(0, 0, 1, 1))
        for p in (*model.kind, *model.mix):
            assert gradient(terms["task"], [p])[0].any() == learns
        assert any(gradient(terms["task"], [p])[0].any() for p in model.signal_present)


def test_nothing_at_all_gives_the_missing_signal_alone():
    model, batch = small("mplmm", "author")  # which does not know lengths: all samples are then the same
    gone = without(batch, *batch.modalities)
    out = model(gone, SILENT)
    assert not out.present.any()
    torch.testing.assert_close(out.prediction, out.prediction[:1].expand(len(batch)), rtol=0, atol=1e-12)
    for x, prompt in zip(model._embedded(gone, out.present, SILENT), model.signal_missing):
        torch.testing.assert_close(x, prompt.t().expand_as(x), rtol=0, atol=0)


def test_refusals():
    data = make("unaligned").only(("text",))
    with pytest.raises(ConfigError, match="needs two modalities or more to generate one from others, got text"):
        registry.build("mplmm", Shape.of(data), "clean")
    with pytest.raises(ConfigError, match="width 8 cannot be split into 3 heads"):
        small("mplmm", heads=3)
    with pytest.raises(ConfigError, match="hide_rate 7 must lie"):
        small("mplmm", hide_rate=7)
