"""Affect-Diff's figures: what is typed is what is drawn, with our records and the author's curves or without."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from affectcore.figures import affect_diff as figures
from affectcore.studies.affect_diff import paper
from affectcore.studies.store import COLUMNS


@pytest.fixture
def ours():
    """Three seeds of every arm that stands beside a model: value .1 per seed, .2 more under a perturbation."""
    rows = [
        (arm, seed, split, condition, metric, 0.1 * seed + 0.2 * (condition != "clean"))
        for arm in figures.ARMS.values()
        for seed in (1, 2, 3)
        for split in ("valid", "test")
        for condition in ("clean", *paper.CONDITIONS)
        for metric in (figures.PAPER_METRIC, "accuracy", "balanced_accuracy", "macro_f1")
    ]
    names = ["arm", "seed", "split", "condition", "metric", "value"]
    return pd.DataFrame(rows, columns=names).reindex(columns=COLUMNS)


@pytest.fixture
def curves():
    epochs = np.arange(12)
    one = pd.DataFrame({"epoch": epochs, **dict.fromkeys((*paper.SERIES, *paper.MODALITIES), 0.2 + 0.01 * epochs)})
    return pd.concat([one.assign(model=key) for key in paper.BY_KEY], ignore_index=True)


def points(ax, marker):
    found = [
        np.c_[x.get_xdata(), x.get_ydata()] for x in ax.lines if x.get_marker() == marker and x.get_xdata() is not None
    ]
    return {tuple(np.round(p, 3)) for part in found for p in part.astype(float)}


def test_methods_show_the_printed_and_the_recorded_accuracy():
    validation, accuracy, balanced = figures.methods_plot().axes
    assert (0.384, 5) in points(validation, "D")
    assert {(0.642, 5), (0.667, 0)} <= points(accuracy, "D")
    assert points(accuracy, "o") == {(0.543, 5)}
    assert points(balanced, "D") == set()
    assert len(points(balanced, "o")) == 6
    assert len(balanced.collections) == 5  # MISA has no interval


def test_our_values_stand_beside_with_their_interval(ours):
    assert figures.values_of(ours, "full", "accuracy").tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert len(figures.values_of(ours, "no_vae", "accuracy")) == 0
    for ax in figures.methods_plot(ours).axes:
        assert {x for x, _ in points(ax, "^")} == {0.2}
    assert (0.2, 2) in points(figures.seeds_plot(ours=ours).axes[0], "^")
    labels = [t.get_text() for t in figures.perturbation_plot(ours).axes[0].get_yticklabels()]
    assert len(labels) == 14 + 7
    assert "ours: TFN" in labels
    assert any("+20" in t.get_text() for t in figures.perturbation_plot(ours).axes[0].texts)


def test_axes_widen_until_they_hold_our_values(ours):
    ours["value"] = ours["value"] * 3
    for fig in (figures.methods_plot(ours), figures.validation_plot(ours=ours), figures.seeds_plot(ours=ours)):
        for ax in fig.axes:
            assert ax.get_xlim()[0] < 0.3
            assert ax.get_xlim()[1] > 0.9
    for ax in figures.efficiency_plot(ours).axes:
        assert ax.get_ylim()[1] > 0.6  # the mean alone is drawn
    assert figures.methods_plot().axes[0].get_xlim() == (0.15, 0.42)


def records():
    """Two seeds of the full model and one of TFN, two epochs each."""
    hit = np.diag([277, 76, 36, 8, 0, 11])
    hit[4, 0] = 12  # Disgust goes to Happy
    history = [
        {
            "epoch": e,
            "losses": {"task": 3.0 - e, "kl": 5.0, "causal": 0.1, "diffusion": 1.0},
            "probe": {figures.PAPER_METRIC: 0.2, "sums.text": 0.2, "sums.audio": 0.3, "sums.vision": 0.5},
        }
        for e in (0, 1)
    ]
    runs = [("published_full", 0), ("published_full", 1), ("published_tfn", 0), ("full", 0)]
    specs = [SimpleNamespace(arm=arm, seed=seed) for arm, seed in runs]
    extra = {"confusion": {"test": {"clean": hit.tolist()}}}
    return [SimpleNamespace(spec=s, history=history, extra=extra) for s in specs]


def test_class_f1_of_our_runs():
    found = figures.class_f1_of(records())
    assert list(found) == ["Affect-Diff", "TFN"]
    assert found["TFN"] == pytest.approx([2 * 277 / (2 * 277 + 12), 1, 1, 1, 0, 1])
    assert figures.class_f1_of([]) == {}


def test_epochs_of_our_runs_feed_the_curves():
    found = figures.epochs_of(records())
    assert found[["seed", "epoch"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert set(found) - {"seed", "epoch"} <= {*paper.SERIES, *paper.MODALITIES}
    assert found["train_task"].tolist() == [3, 2, 3, 2]
    assert set(found["train_kl"]) == {0.5}  # times .1
    assert len(figures.losses_plot(ours=found).axes[0].collections) == 1
    assert len(figures.weights_plot(ours=found).axes[0].collections) == 3


def test_curves_are_drawn_above_where_they_are_present(curves):
    assert len(figures.validation_plot().axes) == len(figures.seeds_plot().axes) == 1
    top, below = figures.validation_plot(curves).axes
    assert len([x for x in top.lines if len(x.get_xdata()) == 12]) == 14
    assert (0.384, 4) in points(below, "o") | points(below, "D")
    assert len(figures.seeds_plot(curves).axes[0].lines) == len(paper.EQUIVALENT)
    n = len(figures.weights_plot().axes[0].lines)
    assert len(figures.weights_plot(curves).axes[0].lines) == n + 3


def test_bands_over_our_seeds(curves):
    own = pd.concat([curves[curves["model"] == "full"].assign(seed=s) for s in (0, 1)])
    own.loc[own["seed"] == 1, "train_task"] += 0.1
    assert len(figures.losses_plot(ours=own).axes[0].collections) == 2
    assert len(figures.weights_plot(ours=own).axes[0].collections) == 3


def test_class_f1_marks_rows_of_the_records():
    ax = figures.class_f1_plot({"full": np.full(6, 0.5)}).axes[0]
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[-1] == "ours: full"
    assert "no causal graph" in labels
    assert sum(label.endswith("*") for label in labels) == 6
    assert [t.get_text() for t in ax.texts[30:36]] == [".734", ".375", ".175", "0", "0", "0"]


def test_schedules_draw_three_versions():
    kl, diffusion = figures.schedules_plot().axes
    drawn = {x.get_label(): x.get_ydata() for x in kl.lines}
    assert drawn["code and logs"][28] == 0.8
    assert drawn["methods section"][15] == 0.5
    assert [x.get_ydata()[9] for x in diffusion.lines[:3]] == [0.45, 0, 0]


def test_efficiency_draws_the_points_typed_into_the_figure_and_the_frontier():
    top, below = figures.efficiency_plot().axes
    typed = {round(float(c.get_offsets()[0, 0])) for c in top.collections if len(c.get_facecolor()) == 0}
    assert typed == {320_000, 510_000, 644_230}
    stairs = next(x for x in below.lines if x.get_linestyle() == "--")
    assert max(stairs.get_ydata()) == 0.322
    assert 0.224 not in stairs.get_ydata()


def test_tasks_show_printed_and_recorded_accuracy_of_the_emotions():
    emotions, seven, two = figures.tasks_plot().axes
    assert {(0.543, 1), (0.224, 0)} == points(emotions, "o")
    assert (0.642, 1) in points(emotions, "D")
    assert {(0.729, 0), (0.952, 3)} <= points(seven, "D")
    assert (0.5, 0) in points(two, "|")


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (
            figures.pipeline_diagram,
            ["stop-gradient", "decoder: drawn,\nused in no run", "U-Net predicts\nthe noise in $z_t$"],
        ),
        (figures.gate_diagram, ["to the U-Net,\nno gradient"]),
        (figures.graph_plot, [".26", ".31", "0"]),
        (figures.losses_plot, []),
        (figures.weights_plot, ["equal"]),
    ],
)
def test_diagrams_say_what_they_must(draw, words):
    fig = draw()
    said = [t.get_text() for ax in fig.axes for t in ax.texts]
    assert set(words) <= set(said)
    fig.canvas.draw()


def test_the_take_away_has_every_mechanism_in_three_settings_on_two_measures():
    """Every arm scores .1 a letter of its name more than its seed says; rare recall is half of that."""
    data = {s: f"imbalance_{s}" for s in ("easy", "headline", "hard")} | {
        f"oracle {s}": f"oracle_{s}" for s in ("easy", "headline", "hard")
    }
    score = {arm: 0.01 * len(arm) for _, a, b, _ in figures.MECHANISMS for arm in (a, b)}
    records = [
        SimpleNamespace(
            spec=SimpleNamespace(arm=arm, seed=seed, data=SimpleNamespace(name=name)),
            metrics={"test": {"clean": {"balanced_accuracy": value + 0.001 * seed}}},
            extra={"confusion": {"test": {"clean": np.eye(6) * value * 500 + (1 - np.eye(6)) * (1 - value) * 100}}},
            bounds={b: {"test": {"balanced_accuracy": x}} for b, x in (("floor", 0.01), ("ceiling", 0.92))},
        )
        for arm, value in score.items()
        for name in data.values()
        for seed in (0, 1)
    ]
    fig = figures.takeaway_plot(SimpleNamespace(records=records))
    left, right = fig.axes
    for ax in (left, right):
        for marker in ("^", "o", "v"):  # a mark for every mechanism in every setting
            found = [x for x in ax.lines if x.get_marker() == marker]
            assert len(found) == len(figures.MECHANISMS)
            by_row = [x.get_xdata()[0] for x in sorted(found, key=lambda x: x.get_ydata()[0])]
            assert np.allclose(by_row, [score[a] - score[b] for _, a, b, _ in figures.MECHANISMS])
    printed = [x.get_xdata()[0] for x in left.lines if x.get_marker() == "D"]
    assert printed == [p for *_, p in figures.MECHANISMS if p is not None]
    assert [x for x in right.lines if x.get_marker() == "D"] == []
    reference = score["no_diffusion"] + 0.0005
    assert f"headline {reference - 0.01:.2f} and {0.92 - reference:.2f}" in fig.get_supxlabel()
    fig.canvas.draw()
