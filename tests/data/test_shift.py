"""Re-splits and shift diagnostics, against brute force on small data and on the real MOSI transcripts."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectcore.data import shift as s
from affectcore.data.schema import AffectData, Selection, Task
from affectcore.errors import ConfigError, DataError

FROZEN = Selection("fixed")


def lexicon(n: int = 400, words: int = 60, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows of 4 to 9 words; half of the words lean to one of three classes."""
    r = np.random.default_rng(seed)
    classes = r.choice(3, n, p=[0.45, 0.1, 0.45])
    lean = np.where(np.arange(words) < words // 2, r.normal(0, 1.2, words), 0)
    tokens = []
    for c in classes:
        p = np.exp(lean * (c - 1.0))
        tokens.append(r.choice(words, r.integers(4, 10), p=p / p.sum()))
    return tokens, classes


def brute_word_shift(
    tokens: list[np.ndarray], positive: np.ndarray, test: np.ndarray, min_count: int, centred: bool = True
) -> float:
    found, weight = [], 0
    sets = [set(t.tolist()) for t in tokens]
    for w in set().union(*sets):
        rows = [i for i, t in enumerate(sets) if w in t]
        if len(rows) < min_count:
            continue
        weight += len(rows)
        a = [positive[i] for i in rows if not test[i]]
        b = [positive[i] for i in rows if test[i]]
        if a and b:
            found.append((len(rows), sum(a) / len(a) - sum(b) / len(b)))
    shared = sum(n * d for n, d in found) / sum(n for n, _ in found) if centred else 0.0
    return sum(n * abs(d - shared) for n, d in found) / weight


def world(n: int = 400, task: Task | None = None) -> tuple[AffectData, list[np.ndarray]]:
    tokens, classes = lexicon(n)
    r = np.random.default_rng(1)
    y: Any = (classes - 1.0) * r.uniform(0.2, 3, n) if task is None else classes
    x = {"text": r.normal(size=(n, 1, 3))}
    order = r.permutation(n)
    splits = {"train": order[: n // 2], "valid": order[n // 2 : n * 5 // 8], "test": order[n * 5 // 8 :]}
    ids = np.ones((n, 12), int)
    for i, t in enumerate(tokens):
        ids[i, : len(t)] = t + 2
    group, environment = np.arange(n) // 10, np.arange(n) % 40 // 10
    data = AffectData("toy", task or Task("regression", ("sentiment",)), x, y, splits, group=group,
                      environment=environment, extras={"token_ids": ids})  # fmt: skip
    return data, tokens


def rows(data: AffectData, name: str) -> list[int]:
    return data.split(name, FROZEN).index.tolist()


# Diagnostics


def test_word_shift_against_brute_force() -> None:
    tokens, classes = lexicon()
    positive, test = classes == 2, np.random.default_rng(3).random(400) < 0.3
    for least in (1, 5, 30):
        for centred in (True, False):
            assert s.word_shift(tokens, positive, test, least, centred) == pytest.approx(
                brute_word_shift(tokens, positive, test, least, centred)
            )
    copy = s.word_shift(tokens * 2, np.tile(positive, 2), np.repeat([True, False], 400))
    assert copy == pytest.approx(0)


def test_word_label_table_against_counting() -> None:
    tokens, classes = lexicon()
    positive = classes == 2
    table = s.word_label_table(tokens, positive, 5)
    count = Counter(w for t in tokens for w in set(t.tolist()))
    k = Counter(w for t, p in zip(tokens, positive) if p for w in set(t.tolist()))
    assert set(table.index) == {w for w, n in count.items() if n >= 5}
    for w, row in table.iterrows():
        assert row["count"] == count[w]
        assert row["positive"] == k[w]
        assert row["share"] == k[w] / count[w]
        assert row["pmi"] == pytest.approx(
            np.log2((k[w] + 0.5) / (count[w] + 1)) - np.log2((positive.sum() + 0.5) / 401)
        )
    with pytest.raises(DataError, match="tokens have 400 rows, labels 3"):
        s.word_label_table(tokens, positive[:3])
    with pytest.raises(DataError, match="must be 0 or more, got -2"):
        s.incidence([[1, -2]])


def test_distances() -> None:
    assert s.total_variation([1, 1], [3, 1]) == pytest.approx(0.25)
    assert s.total_variation([5, 0], [0, 2]) == 1
    with pytest.raises(DataError, match="total variation"):
        s.total_variation([1, 1], [1, 1, 1])
    x = np.array([[0.0, 0], [2, 0], [4, 4], [0, 1], [0, 0], [3, 0]])
    positive, test = np.array([1, 0, 0, 1, 0, 1], bool), np.array([0, 0, 0, 1, 1, 1], bool)
    assert s.class_mean_distance(x, positive, ~positive) == pytest.approx(np.hypot(1 - 2, 1 / 3 - 4 / 3))
    # train: (0, 0) - (3, 2); test: (1.5, .5) - (0, 0)
    assert s.class_direction_kept(x, positive, ~positive, test) == pytest.approx((-4.5 - 1.0) / 13)
    assert s.group_overlap(np.array([1, 2, 2]), np.array([2, 3, 4, 2])) == 0.5
    with pytest.raises(DataError, match="at least one positive"):
        s.class_mean_distance(x, positive & False, positive)


def test_a_shift_of_length_is_no_shift_of_words() -> None:
    """All words mean the same; in test, positive rows are short, in train long."""
    r = np.random.default_rng(0)
    positive, test = r.random(2000) < 0.5, r.random(2000) < 0.3
    tokens = [r.choice(40, 3 if p == t else 12) for p, t in zip(positive, test)]
    random = s.word_shift(tokens, positive, r.permutation(test))
    assert s.word_shift(tokens, positive, test, centred=False) > 0.3 + random
    assert s.word_shift(tokens, positive, test) < 0.05 + random


# Lexical shift


def test_annealing_on_generated_tokens() -> None:
    tokens, classes = lexicon()
    test = np.arange(400) < 120
    before = brute_word_shift(tokens, classes == 2, test, 5)
    found = s.anneal(tokens, classes, test, moves=6000)
    assert found.shift == pytest.approx(brute_word_shift(tokens, classes == 2, found.test, 5), abs=1e-9)
    assert found.shift > before + 0.2
    assert found.trace[0] == pytest.approx(before)
    assert found.trace[-1] == pytest.approx(found.shift)
    assert found.test.sum() == 120
    start = np.bincount(classes[test])
    assert tuple(np.bincount(classes[found.test])) == found.counts
    assert all(abs(a - b) <= 0.02 * b for a, b in zip(found.counts, start))
    assert test.tolist() == (np.arange(400) < 120).tolist()  # the argument is not written to
    again = s.anneal(tokens, classes, test, moves=6000)
    assert np.array_equal(again.test, found.test)
    assert not np.array_equal(s.anneal(tokens, classes, test, moves=6000, seed=1).test, found.test)


def test_annealing_moves_the_class_counts_where_asked() -> None:
    tokens, classes = lexicon()
    test = np.arange(400) < 120
    wanted = [70, 10, 40]
    found = s.anneal(tokens, classes, test, test_counts=wanted, moves=6000)
    assert all(abs(a - b) <= 0.02 * b for a, b in zip(found.counts, wanted))
    with pytest.raises(DataError, match=r"class counts .* are not within 2% of \[70, 10, 40\]: more moves"):
        s.anneal(tokens, classes, test, test_counts=wanted, moves=5)
    with pytest.raises(ConfigError, match="3 counts that sum to 120 and that the pool holds"):
        s.anneal(tokens, classes, test, test_counts=[120, 0, 1])
    with pytest.raises(ConfigError, match="that the pool holds"):
        s.anneal(tokens, classes, test, test_counts=[10, 100, 10])


def test_annealing_stops_at_the_shift_asked_for() -> None:
    tokens, classes = lexicon()
    test = np.arange(400) < 120
    start = s.word_shift(tokens, classes == 2, test)
    assert np.array_equal(s.anneal(tokens, classes, test, until=start).test, test)
    found = s.anneal(tokens, classes, test, until=start + 0.1, moves=6000)
    assert start + 0.1 <= found.shift < start + 0.12
    assert found.accepted < 400


def test_temperature_accepts_moves_uphill() -> None:
    tokens, classes = lexicon()
    test = np.arange(400) < 120
    hot = s.anneal(tokens, classes, test, moves=2000, temperature=1e9, cooling=1.0, penalty=0.0, tolerance=99)
    cold = s.anneal(tokens, classes, test, moves=2000, temperature=1e-9, penalty=0.0, tolerance=99)
    assert hot.accepted == 2000
    assert (np.diff(cold.trace) >= -1e-12).all()
    assert cold.shift > hot.shift + 0.1


def test_lexical_shift_of_a_data_set() -> None:
    data, tokens = world()
    read = s.tokens_of(data)
    assert all(set((t + 2).tolist()) - {0, 1} == set(u.tolist()) for t, u in zip(tokens, read))
    shifted = s.lexical_shift(data, read, moves=4000)
    assert shifted.name == "toy_lexical"
    assert shifted.splits == data.splits
    pool = sorted(rows(data, "train") + rows(data, "valid") + rows(data, "test"))
    assert sorted(rows(shifted, "train") + rows(shifted, "valid") + rows(shifted, "test")) == pool
    target = np.zeros(400)
    for name in data.splits:
        b = data.split(name, FROZEN)
        target[b.index.numpy()] = b.target.numpy()

    def part(d: AffectData, name: str) -> np.ndarray:
        return np.isin(np.arange(400), rows(d, name))

    before = brute_word_shift(read, target > 0, part(data, "test"), 5)
    after = brute_word_shift(read, target > 0, part(shifted, "test"), 5)
    assert after > before + 0.15
    counts = [np.bincount(np.sign(target[part(d, "test")]).astype(int) + 1) for d in (data, shifted)]
    assert (np.abs(counts[0] - counts[1]) <= 0.02 * counts[0]).all()
    # valid is a random part of what is not test: its associations are those of train, as far as chance allows
    rest = ~part(shifted, "test")
    inside = brute_word_shift([t for t, k in zip(read, rest) if k], target[rest] > 0, part(shifted, "valid")[rest], 5)
    assert inside < after - 0.1
    other = s.lexical_shift(data, read, moves=4000, seed=1)
    assert rows(other, "test") != rows(shifted, "test")
    with pytest.raises(ConfigError, match="toy: extra 'words' is unknown, it has token_ids"):
        s.tokens_of(data, "words")


def test_a_lexical_split_shifts_one_test_part_and_leaves_the_other() -> None:
    data, _ = world()
    made = s.lexical_split(data, ood=100, iid=80, valid=40, until=0.3, moves=4000)
    assert made.name == "toy_lexical"
    n = sum(len(rows(data, name)) for name in data.splits)
    assert made.splits == {"train": n - 220, "valid": 40, "test_iid": 80, "test": 100}
    assert sorted(i for name in made.splits for i in rows(made, name)) == sorted(
        i for name in data.splits for i in rows(data, name)
    )
    read, target = s.tokens_of(data), data._all.target.numpy()

    def apart(name: str) -> float:
        pool = rows(made, "train") + rows(made, name)
        inside = np.isin(pool, rows(made, name))
        return brute_word_shift([read[i] for i in pool], target[pool] > 0, inside, 5)

    assert apart("test") > apart("test_iid") + 0.1
    assert rows(s.lexical_split(data, ood=100, iid=80, valid=40, moves=100), "test_iid") != rows(made, "test_iid")
    with pytest.raises(ConfigError, match="leave no training rows"):
        s.lexical_split(data, ood=200, iid=150, valid=50)


def test_a_reader_splits_by_words_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from affectcore.data import readers, stand_in

    stand_in.write(tmp_path)
    monkeypatch.setenv("AFFECTCORE_DATA", str(tmp_path))
    plain = readers.load("cmu_mosi_utt")
    made = readers.load("cmu_mosi_utt", lexical={"ood": 6, "iid": 6, "valid": 6, "moves": 10})
    assert made.splits == {"train": len(plain) - 18, "valid": 6, "test_iid": 6, "test": 6}


@pytest.mark.skipif(not os.environ.get("AFFECTCORE_DATA"), reason="real data not present")
def test_lexical_shift_on_the_real_transcripts() -> None:
    from affectcore.data.readers import load

    data = load("cmu_mosi_utt")
    tokens = s.tokens_of(data)
    assert data.splits == {"train": 1284, "valid": 229, "test": 686}
    shifted = s.lexical_shift(data, tokens, test_counts=s.CIDER_MOSI_TEST, until=0.2)
    assert shifted.splits == data.splits
    test = shifted.split("test", FROZEN)
    counts = np.bincount(s.sign_classes(test.target.numpy()))
    assert (np.abs(counts - s.CIDER_MOSI_TEST) <= 0.02 * np.array(s.CIDER_MOSI_TEST)).all()
    target = data._all.target.numpy()
    is_test = np.isin(np.arange(len(data)), test.index.numpy())
    assert s.word_shift(tokens, target > 0, is_test) >= 0.2
    words = np.array([len(np.unique(t)) for t in tokens])
    length = [words[is_test & (np.sign(target) == c)].mean() for c in (-1, 1)]
    assert 0.5 < length[0] / length[1] < 2  # the words shift, not the lengths


# Label shift


def test_importance_weights_are_the_ratio_of_shares() -> None:
    classes = np.random.default_rng(0).choice(3, 500, p=[0.2, 0.3, 0.5])
    weights = s.importance_weights(classes, [0.6, 0.1, 0.3])
    assert weights.mean() == pytest.approx(1)
    assert [weights[classes == c].sum() / 500 for c in range(3)] == pytest.approx([0.6, 0.1, 0.3])
    loss = np.random.default_rng(1).normal(size=500)
    by_class = [loss[classes == c].mean() for c in range(3)]
    assert (weights * loss).mean() == pytest.approx(np.dot([0.6, 0.1, 0.3], by_class))


def test_draw_to_priors_is_exact_largest_and_keyed() -> None:
    r = np.random.default_rng(0)
    classes, ids = r.permutation(np.repeat([0, 1, 2], [50, 30, 20])), r.permutation(1000)[:100]
    kept = s.draw_to_priors(classes, [0.2, 0.2, 0.6], 0, ids)
    assert np.bincount(classes[kept]).tolist() == [7, 6, 20]  # n = 33: 6.6, 6.6, 19.8 by largest remainders
    assert len(np.unique(kept)) == len(kept)
    order = r.permutation(100)
    again = s.draw_to_priors(classes[order], [0.2, 0.2, 0.6], 0, ids[order])
    assert set(ids[order][again]) == set(ids[kept])
    assert set(s.draw_to_priors(classes, [0.2, 0.2, 0.6], 1, ids)) != set(kept)
    harder = s.draw_to_priors(classes, [0.1, 0.3, 0.6], 0, ids)
    assert set(kept[classes[kept] == 0]) > set(harder[classes[harder] == 0])
    assert s.draw_to_priors(classes, [0.5, 0.3, 0.2], 0).tolist() == list(range(100))
    assert np.bincount(classes[s.draw_to_priors(classes, [0, 0.5, 0.5], 0)]).tolist() == [0, 20, 20]


@pytest.mark.parametrize("seed", range(20))
def test_draw_to_priors_never_asks_for_more_than_there_is(seed: int) -> None:
    r = np.random.default_rng(seed)
    classes, p = np.r_[0, 1, 2, 3, r.choice(4, 200, p=r.dirichlet(np.ones(4)))], r.dirichlet(np.ones(4))
    kept = s.draw_to_priors(classes, p, seed)
    have, n = np.bincount(classes), len(kept)
    counts = np.bincount(classes[kept], minlength=4)
    assert (counts <= have).all()
    assert (np.abs(counts - n * p) < 1).all()
    assert ((n + 1) * p > have + 1e-9).any()  # one more would not fit


def test_label_shift_of_a_data_set() -> None:
    data, _ = world()
    shifted = s.label_shift(data, [0.7, 0.1, 0.2])
    assert rows(shifted, "train") == rows(data, "train")
    assert set(rows(shifted, "test")) < set(rows(data, "test"))
    sign = np.sign(shifted.split("test", FROZEN).target.numpy())
    n = len(sign)
    assert [abs((sign == c).sum() - n * p) < 1 for c, p in ((-1, 0.7), (0, 0.1), (1, 0.2))] == [True] * 3
    single, _ = world(task=Task("single_label", ("a", "b", "c")))
    target = s.label_shift(single, [0, 0.5, 0.5]).split("test", FROZEN).target
    assert np.bincount(target)[0] == 0


# Environment shift


def test_environments_are_left_out_and_groups_kept_together() -> None:
    data, _ = world()
    every = dict(s.leave_each_out(data, valid_share=0.2, seed=3))
    assert list(every) == [0, 1, 2, 3]
    seen = []
    for code, left in every.items():
        parts = {k: left.split(k, FROZEN) for k in ("train", "valid", "test")}
        assert set(parts["test"].environment.tolist()) == {code}
        assert code not in parts["train"].environment.tolist() + parts["valid"].environment.tolist()
        assert not set(parts["train"].group.tolist()) & set(parts["valid"].group.tolist())
        assert 0.2 <= len(parts["valid"]) / 300 < 0.2 + 10 / 300
        assert sum(map(len, parts.values())) == 400
        seen += parts["test"].index.tolist()
    assert sorted(seen) == list(range(400))
    pair = s.leave_out(data, [3, 5], by="group")
    assert set(pair.split("test", FROZEN).group.tolist()) == {3, 5}
    assert pair.name == "toy_without_group_3+5"
    assert rows(s.leave_out(data, [1], seed=1), "valid") != rows(s.leave_out(data, [1], seed=2), "valid")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, t: s.leave_out(d, [9]), "toy: environment 9 is unknown"),
        (lambda d, t: s.leave_out(d, []), "toy: environment"),
        (lambda d, t: s.leave_out(d, [0], by="speaker"), "by = 'speaker' must be group or environment"),
        (lambda d, t: s.leave_out(d, [0], valid_share=1.0), "valid_share = 1.0 must lie between"),
        (lambda d, t: s.leave_out(d, list(range(39)), by="group"), "leaves 1 groups, needs two or more"),
        (lambda d, t: s.label_shift(d, [0.5, 0.4, 0.3]), "must be shares of 0 or more that sum to 1"),
        (lambda d, t: s.label_shift(d, [0.5, 0.5]), "must name every class that occurs, 0..2"),
        (lambda d, t: s.label_shift(d, [0.2, 0.3, 0.5], split="dev"), "toy: split 'dev' is unknown"),
        (lambda d, t: s.draw_to_priors(np.array([0, 1]), [0.3, 0.3, 0.4], 0), "want 0.4 of class 2"),
    ],
)
def test_configuration_errors(call: Callable[..., object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(*world())


def test_one_label_per_sample() -> None:
    n = 20
    data = AffectData("many", Task("multi_label", ("a", "b")), {"text": np.ones((n, 1, 1))}, np.ones((n, 2)),
                      {"train": np.arange(10), "valid": np.arange(10, 14), "test": np.arange(14, n)})  # fmt: skip
    with pytest.raises(ConfigError, match="many: the shift needs one label per sample"):
        s.label_shift(data, [0.5, 0.5])
    with pytest.raises(ConfigError, match="many: has no environments, use by='group'"):
        s.leave_out(data, [0])
