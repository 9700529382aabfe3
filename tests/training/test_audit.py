"""The gradient audit: norms against a gradient taken by hand, no path against zero, stages, parts that do not fit."""

import pytest
import torch
from small_data import make
from torch import nn
from toys import toy_data
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import AffectModel, Output, Progress, Shape, Stage
from affectcore.training.audit import gradient_table

START = Progress(0, 0, 1, 1)
DATA = toy_data("regression")
BATCH = DATA.split("train").to("cpu", torch.float64)
PARTS = {"body": ("body",), "head": ("head",), "critic": ("critic",)}
AFFECT_DIFF = {
    "encoders": ("encoders",),
    "graph": ("gate",),
    "fusion": ("fuse_in", "fuse_norm", "fuse_out"),
    "latent": ("mu", "logvar"),
    "classifier": ("pool_query", "hidden", "head"),
    "U-Net": ("unet",),
}


class Toy(AffectModel):
    """A body, a head, and a critic that reads the body through a stop and the head through a zero."""

    def __init__(self) -> None:
        super().__init__(None, Shape.of(DATA))
        torch.manual_seed(0)
        self.body, self.head, self.critic = nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(3, 1)
        self.double()

    def forward(self, batch, noise):
        h = noise.dropout(self.body(batch.features["text"].mean(-2)), 0.5)
        return Output(self.head(h).squeeze(-1), representation=h)

    def losses(self, output, batch, progress):
        terms = {"task": (output.prediction - batch.target).square().mean()}
        terms["critic"] = self.critic(output.representation.detach()).mean() + 0 * output.prediction.detach().mean()
        terms["zero"] = 0 * output.prediction.sum()
        terms["fixed"] = batch.target.mean()
        return terms, {}


class TwoStages(Toy):
    def stages(self):
        return (Stage("first", ("body", "head"), ("task",), hands=("kept",)), Stage("second", ("critic",), ("critic",)))

    def losses(self, output, batch, progress):
        terms, _ = super().losses(output, batch, progress)
        assert ("kept" in batch.extras) == (len(batch.extras) > 0)
        return terms, {"kept": output.prediction}


def test_no_path_is_none_and_a_zero_gradient_is_zero():
    table = gradient_table(Toy(), BATCH, START, PARTS)
    assert list(table.index) == ["task", "critic", "zero", "fixed"]
    assert list(table.columns) == list(PARTS)
    reached = {t: {p for p in PARTS if table.loc[t, p] is not None} for t in table.index}
    assert reached == {"task": {"body", "head"}, "critic": {"critic"}, "zero": {"body", "head"}, "fixed": set()}
    assert table.loc["zero", "body"] == 0
    assert table.loc["task", "body"] > 0


def test_norms_are_those_of_backward_and_nothing_of_the_model_changes():
    from affectcore.nn.noise import Pool, Tape, fill

    model = Toy()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    table = gradient_table(model, BATCH, START, PARTS, seed=3)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    like = torch.zeros((), dtype=torch.float64)
    tape = Tape(like)
    model(BATCH, tape)
    noise = Pool(fill([3], tape.words, "cpu", "audit", 0)[0], like)
    model.losses(model(BATCH, noise), BATCH, START)[0]["task"].backward()
    for part in ("body", "head"):
        grads = torch.cat([p.grad.flatten() for n, p in model.named_parameters() if n.startswith(part)])
        assert table.loc["task", part] == pytest.approx(float(grads.norm()))
    assert gradient_table(model, BATCH, START, PARTS, seed=4).loc["task", "body"] != table.loc["task", "body"]


def test_stages_have_rows_of_their_own_on_the_parameters_they_move():
    table = gradient_table(TwoStages(), BATCH, START, PARTS)
    assert list(table.index) == ["first.task", "second.critic"]
    assert table.loc["first.task", "critic"] is None
    assert table.loc["second.critic", "critic"] > 0
    assert table.loc["second.critic", "body"] is None


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"body": ("body",), "head": ("head",)}, "no part holds critic.weight, critic.bias"),
        (PARTS | {"again": ("body.weight",)}, r"'body.weight' lies in the parts 'body' and 'again'"),
        (PARTS | {"tail": ("tail",)}, "part 'tail': no trainable parameter lies under 'tail'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, named):
    with pytest.raises(ConfigError, match=named):
        gradient_table(Toy(), BATCH, START, parts)


@pytest.mark.parametrize("prior", ["stop", "joint"])
def test_the_stopped_prior_of_affect_diff_reaches_its_own_part_alone(prior):
    data = make("aligned", "single_label")
    settings = traits("affect_diff").small | {"prior": prior}
    model = registry.build("affect_diff", Shape.of(data), "clean", **settings).double()
    table = gradient_table(model, data.split("train").to("cpu", torch.float64), START, AFFECT_DIFF)
    reached = {p for p in AFFECT_DIFF if table.loc["diffusion", p] is not None}
    assert reached == ({"U-Net"} if prior == "stop" else {"encoders", "graph", "fusion", "latent", "U-Net"})
    assert table.loc["task", "U-Net"] is None
    assert table.loc["kl", "classifier"] is None
    assert table.loc["causal", "fusion"] is None
    assert all(v > 0 for v in table.to_numpy().ravel() if v is not None)
