"""Distribution shift: re-splits by lexicon, label or environment, and how far two parts of a data set lie apart.

Re-splits map AffectData -> AffectData: the same resident samples under other splits. They read the labels of every
split to build the new ones, as any benchmark does, before a model sees anything.

Tokens: one sequence of word numbers (0 or more) per row of the data set; repetitions inside a row count once.

Sources: the lexical shift follows what is known of the out-of-distribution sets of CLUE, CIDer and CmIR: simulated
annealing that drives word-sentiment associations of train and test apart. Their algorithm is not public; energy,
penalty, cooling and end are ours and written out in `anneal`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from affectcore import streams
from affectcore.data.schema import AffectData
from affectcore.errors import ConfigError, DataError

Rows = NDArray[np.integer]
Tokens = Sequence[Sequence[int] | NDArray[np.integer]]

# Negative, neutral and positive samples of CIDer's out-of-distribution test set of MOSI (of 2,199 utterances)
CIDER_MOSI_TEST = (284, 32, 370)


# Diagnostics


def incidence(tokens: Tokens) -> sparse.csr_array:
    """Return the (rows, words) matrix that is 1 where the word occurs in the row."""
    words = [np.unique(np.asarray(t, dtype=np.int64)) for t in tokens]
    flat = np.concatenate([*words, np.zeros(0, np.int64)])
    if len(flat) and flat.min() < 0:
        raise DataError(f"tokens: word numbers must be 0 or more, got {flat.min()}")
    offsets = np.cumsum([0, *map(len, words)])
    shape = (len(words), int(flat.max(initial=0)) + 1)
    return sparse.csr_array((np.ones(len(flat)), flat, offsets), shape=shape)


def word_label_table(tokens: Tokens, positive: NDArray[np.bool_], min_count: int = 1) -> pd.DataFrame:
    """Return the association of words and a binary label, one row per word that occurs in `min_count` rows or more.

    count: rows with the word; positive: those that are positive; share: p(positive | word); pmi: log2 of p(positive |
    word) / p(positive), in bits, with half a row added to both outcomes so that it is finite.
    """
    x = incidence(tokens)
    if x.shape[0] != len(positive):
        raise DataError(f"tokens have {x.shape[0]} rows, labels {len(positive)}")
    count, k = x.sum(0), x[positive].sum(0)
    word = np.flatnonzero(count >= min_count)
    count, k = count[word], k[word]
    prior = (positive.sum() + 0.5) / (len(positive) + 1)
    table = {"count": count.astype(int), "positive": k.astype(int), "share": k / count}
    return pd.DataFrame({**table, "pmi": np.log2((k + 0.5) / (count + 1) / prior)}, index=pd.Index(word, name="word"))


def word_shift(
    tokens: Tokens, positive: NDArray[np.bool_], test: NDArray[np.bool_], min_count: int = 5, centred: bool = True
) -> float:
    """Return how far word-label associations differ between train and test: the mean of |d_w| weighted by count n_w.

    d_w = p_train(positive | w) - p_test(positive | w). centred: their weighted mean is subtracted first. Without that,
    a difference that all words share counts as well: other class shares, or positive rows that are short in test and
    long in train, which moves every word the same way although no word changes its meaning.

    In [0, 1]; 0 only if every association is equal (but for the shared part). Words of fewer than `min_count` rows are
    left out; a word that is absent from either part counts as 0. Chance alone makes it positive: compare with random
    splits of the same sizes.
    """
    return _Associations(incidence(tokens), positive, test, min_count, centred).value


def total_variation(a: ArrayLike, b: ArrayLike) -> float:
    """Return half the L1 distance of two distributions, given as counts or shares of the same outcomes; in [0, 1]."""
    p, q = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if p.shape != q.shape or min(p.min(), q.min()) < 0 or min(p.sum(), q.sum()) <= 0:
        raise DataError(f"total variation needs two vectors of counts of one length, got {p.shape} and {q.shape}")
    return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)


def class_mean_distance(x: NDArray[np.floating], positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> float:
    """Return the Euclidean distance between the mean feature vectors of the positive and of the negative rows."""
    if not positive.any() or not negative.any():
        raise DataError("class_mean_distance: needs at least one positive and one negative row")
    return float(np.linalg.norm(x[positive].mean(0) - x[negative].mean(0)))


def class_direction_kept(
    x: NDArray[np.floating], positive: NDArray[np.bool_], negative: NDArray[np.bool_], test: NDArray[np.bool_]
) -> float:
    """Return how much of the training part's class difference the test part has, along the same direction.

    With d = mean of positive - mean of negative rows: <d_test, d_train> / <d_train, d_train>. 1: the same, 0: nothing
    of it, below 0: reversed. A distance alone cannot tell a shift that weakens from one that reverses.
    """
    train = ~test
    d = [x[positive & part].mean(0) - x[negative & part].mean(0) for part in (test, train)]
    return float(d[0] @ d[1] / (d[1] @ d[1]))


def group_overlap(train: Rows, test: Rows) -> float:
    """Return the share of test rows whose group (speaker, video) occurs among the training rows."""
    return float(np.isin(test, train).mean())


# Lexical shift


class _Associations:
    """Word counts of both sides of a split, updated when two rows change sides."""

    def __init__(
        self,
        x: sparse.csr_array,
        positive: NDArray[np.bool_],
        test: NDArray[np.bool_],
        min_count: int,
        centred: bool,
    ) -> None:
        if not len(positive) == len(test) == x.shape[0]:
            raise DataError(f"tokens have {x.shape[0]} rows, labels {len(positive)}, the split {len(test)}")
        if test.all() or not test.any():
            raise DataError("a split needs rows on both sides")
        x = x[:, np.flatnonzero(x.sum(0) >= min_count)].tocsr()
        self.rows = [x.indices[a:b] for a, b in zip(x.indptr, x.indptr[1:])]
        self.positive, self.centred = positive, centred
        self.n, self.k = x.sum(0), x[positive].sum(0)
        self.n_test, self.k_test = x[test].sum(0), x[test & positive].sum(0)
        self.all = max(float(self.n.sum()), 1.0)

    @property
    def total(self) -> float:
        """Sum over words of n_w |d_w|."""
        n_train = self.n - self.n_test
        weight = self.n * ((n_train > 0) & (self.n_test > 0))
        d = (self.k - self.k_test) / np.maximum(n_train, 1) - self.k_test / np.maximum(self.n_test, 1)
        if self.centred:
            d = d - weight @ d / max(weight.sum(), 1)
        return float(weight @ np.abs(d))

    @property
    def value(self) -> float:
        return self.total / self.all

    def exchange(self, out: int, into: int) -> None:
        """Move row `out` from test to train and row `into` from train to test."""
        for row, sign in ((out, -1), (into, 1)):
            self.n_test[self.rows[row]] += sign
            if self.positive[row]:
                self.k_test[self.rows[row]] += sign


@dataclass(frozen=True)
class Annealed:
    """What `anneal` found. test: (N,) bool; shift: `word_shift` of it; counts: its class counts; accepted: moves taken.

    trace: shift at the start and at every hundredth of the moves.
    """

    test: NDArray[np.bool_]
    shift: float
    counts: tuple[int, ...]
    trace: NDArray[np.float64]
    accepted: int


def anneal(
    tokens: Tokens,
    classes: Rows,
    test: NDArray[np.bool_],
    *,
    test_counts: Sequence[int] | None = None,
    seed: int = 0,
    until: float = 1.0,
    moves: int = 200_000,
    temperature: float = 1.0,
    cooling: float = 0.999,
    min_count: int = 5,
    tolerance: float = 0.02,
    penalty: float = 100.0,
    centred: bool = True,
) -> Annealed:
    """Return a test part of unchanged size in which words mean something else than in the rest.

    State: who is in test (start: `test`). Move: one row of test changes places with one of the rest. Energy, with the
    highest class number as "positive":

        E = - sum over words w with n_w >= min_count of n_w |d_w|, d_w = p_rest(positive | w) - p_test(positive | w)
            + penalty * sum over classes of the samples beyond tolerance * wanted from the wanted count

    A move that raises E by d is taken with probability exp(-d / T); T starts at `temperature` and is multiplied by
    `cooling` at each move. It ends when `word_shift` has reached `until` and the class counts are met, or after `moves`
    moves: `until` is the dial from the split as it is to one whose associations are reversed.
    n_w counts rows. tokens, classes (N,) int and test (N,) bool are of one pool of rows. test_counts: wanted class
    counts of test (default: those of the start, so that no label shift comes along).
    centred: the weighted mean of d_w is subtracted, see `word_shift`. Without it (the energy as one would first write
    it), annealing finds long negative and short positive test rows, and no word changes its meaning.
    Raises DataError if the counts are not met within the tolerance at the end.
    """
    classes, test = np.asarray(classes), np.asarray(test, dtype=bool).copy()
    if classes.shape != test.shape or classes.min() < 0:
        raise DataError(f"anneal: classes {classes.shape} and test {test.shape} must be of one length, classes >= 0")
    have = np.bincount(classes[test], minlength=int(classes.max()) + 1)
    wanted = have.copy() if test_counts is None else np.asarray(test_counts)
    if wanted.shape != have.shape or wanted.sum() != have.sum() or (wanted > np.bincount(classes)).any():
        rule = f"{len(have)} counts that sum to {have.sum()} and that the pool holds"
        raise ConfigError(f"anneal: test_counts = {tuple(wanted.tolist())} must be {rule}")
    words = _Associations(incidence(tokens), classes == classes.max(), test, min_count, centred)
    slack, seen = tolerance * wanted, have.tolist()

    def excess() -> float:
        return sum(max(0.0, abs(n - w) - s) for n, w, s in zip(seen, wanted, slack))

    inside, outside = np.flatnonzero(test), np.flatnonzero(~test)
    r = streams.rng(seed, "lexical shift")
    beyond, total, accepted, trace = excess(), words.total, 0, [words.value]
    for move in range(moves):
        if total >= until * words.all and beyond == 0:
            break
        i, j = int(r.integers(len(inside))), int(r.integers(len(outside)))
        out, into = int(inside[i]), int(outside[j])
        seen[classes[out]] -= 1
        seen[classes[into]] += 1
        words.exchange(out, into)
        after, new = excess(), words.total
        rise = penalty * (after - beyond) - (new - total)
        if rise <= 0 or r.random() < np.exp(-rise / temperature):
            inside[i], outside[j] = into, out
            beyond, total, accepted = after, new, accepted + 1
        else:
            words.exchange(into, out)
            seen[classes[out]] += 1
            seen[classes[into]] -= 1
        temperature = max(temperature * cooling, 1e-12)
        if (move + 1) % max(moves // 100, 1) == 0:
            trace.append(words.value)
    if beyond > 0:
        raise DataError(f"anneal: class counts {seen} are not within {tolerance:.0%} of {wanted.tolist()}: more moves")
    test[:] = False
    test[inside] = True
    return Annealed(test, words.value, tuple(seen), np.array(trace), accepted)


def tokens_of(data: AffectData, extra: str = "token_ids", skip: Sequence[int] = (0, 1)) -> list[Rows]:
    """Return the words of every row from `extras[extra]` (N, T), without the numbers `skip` (unknown, padding)."""
    ids = data._all.extras.get(extra)
    if ids is None:
        raise ConfigError(f"{data.name}: extra {extra!r} is unknown, it has {', '.join(data._all.extras) or 'none'}")
    return [row[~np.isin(row, skip)] for row in ids.numpy()]


def sign_classes(sentiment: NDArray[np.floating]) -> Rows:
    """Return 0 for negative, 1 for zero, 2 for positive sentiment."""
    return (np.sign(sentiment) + 1).astype(np.int64)


def lexical_shift(
    data: AffectData,
    tokens: Tokens,
    *,
    test_counts: Sequence[int] | None = None,
    seed: int = 0,
    until: float = 1.0,
    moves: int = 200_000,
    centred: bool = True,
) -> AffectData:
    """Return the data re-split by `anneal`: same sizes, but words point elsewhere in test than in train and valid.

    tokens: per row of the data set. Classes are the sign of a regression target, or the classes of a single-label task
    (the last one is "positive"). test_counts: see `anneal`; `CIDER_MOSI_TEST` gives the label shift of CIDer's split as
    well. valid is drawn at random from what is not test, so it has the distribution of train. Groups are not kept
    together: the same speaker may be on both sides (see `group_overlap`). until, moves, centred: see `anneal`.
    """
    rows = {name: _rows(data, name) for name in ("train", "valid", "test")}
    pool = np.concatenate(list(rows.values()))
    classes = _classes(data)[pool]
    test = np.isin(pool, rows["test"])
    chosen = [tokens[i] for i in pool]
    found = anneal(chosen, classes, test, test_counts=test_counts, seed=seed, until=until, moves=moves, centred=centred)
    rest = pool[~found.test]
    rest = rest[np.argsort(streams.uniform(streams.key(seed, "lexical shift", "valid"), rest))]
    n = len(rows["valid"])
    splits = {"train": np.sort(rest[n:]), "valid": np.sort(rest[:n]), "test": np.sort(pool[found.test])}
    return data.with_splits(splits, f"{data.name}_lexical")


def lexical_split(
    data: AffectData,
    *,
    ood: int = 400,
    iid: int = 400,
    valid: int = 229,
    until: float = 0.2,
    moves: int = 200_000,
    seed: int = 0,
) -> AffectData:
    """Return the data split at random into train, valid and "test_iid", and by `anneal` into "test", of other words.

    All rows with a split take part; words are the data's extra "token_ids". Annealing starts from a random part of
    `ood` rows and keeps its class counts; the rest is cut at random, so "test_iid" (`iid` rows) has the words of train.
    Groups are not kept together, in neither test: the same speaker may be on both sides. until, moves: see `anneal`.
    """
    pool = np.sort(np.concatenate([_rows(data, name) for name in data.splits]))
    if min(ood, iid, valid) < 1 or ood + iid + valid >= len(pool):
        raise ConfigError(f"{data.name}: ood {ood}, iid {iid} and valid {valid} leave no training rows of {len(pool)}")
    words = tokens_of(data)
    start = np.argsort(streams.uniform(streams.key(seed, "lexical split"), pool)) < ood
    classes = _classes(data)[pool]
    found = anneal([words[i] for i in pool], classes, start, until=until, moves=moves, seed=seed)
    rest = pool[~found.test]
    rest = rest[np.argsort(streams.uniform(streams.key(seed, "lexical split", "rest"), rest))]
    parts = {"test_iid": rest[:iid], "valid": rest[iid : iid + valid], "train": rest[iid + valid :]}
    splits = {**{k: np.sort(v) for k, v in reversed(parts.items())}, "test": np.sort(pool[found.test])}
    return data.with_splits(splits, f"{data.name}_lexical")


# Label shift


def importance_weights(classes: Rows, priors: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Return weights (N,) of mean 1 under which the classes have these priors: priors[c] / share of c.

    Expectations under label shift without losing a sample: mean(weights * loss). Raises ConfigError for a wanted class
    that does not occur.
    """
    p, have = _priors(classes, priors)
    weights: NDArray[np.float64] = (p / np.maximum(have, 1) * len(classes))[classes]
    return weights


def draw_to_priors(
    classes: Rows, priors: Sequence[float] | NDArray[np.floating], seed: int, ids: Rows | None = None
) -> Rows:
    """Return positions of the largest subset, drawn without replacement, whose classes have exactly these priors.

    Exact to the rounding of counts (largest remainders). Within a class, who stays is ordered by a uniform keyed by
    (seed, id), so a class that is cut further keeps a subset. ids: default 0..N-1.
    """
    p, have = _priors(classes, priors)
    n = int(np.floor(min(have[c] / p[c] for c in np.flatnonzero(p)) + 1e-9))
    counts = np.floor(n * p + 1e-9).astype(int)
    by_remainder = np.argsort(-(n * p - counts), kind="stable")
    counts[by_remainder[: n - counts.sum()]] += 1
    who = np.arange(len(classes)) if ids is None else np.asarray(ids)
    order = np.argsort(streams.uniform(streams.key(seed, "label shift"), who), kind="stable")
    kept = [order[classes[order] == c][:k] for c, k in enumerate(counts)]
    return np.sort(np.concatenate(kept))


def label_shift(
    data: AffectData, priors: Sequence[float] | NDArray[np.floating], seed: int = 0, split: str = "test"
) -> AffectData:
    """Return the data with `split` cut down to these class priors; other splits stay.

    Classes: sign of a regression target (negative, zero, positive) or the classes of a single-label task.
    """
    rows = _rows(data, split)
    classes = _classes(data)[rows]
    splits = {name: _rows(data, name) for name in data.splits}
    splits[split] = rows[draw_to_priors(classes, priors, seed, rows)]
    return data.with_splits(splits, f"{data.name}_label_shift")


def _priors(
    classes: Rows, priors: Sequence[float] | NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p = np.asarray(priors, dtype=float)
    if p.ndim != 1 or not np.isfinite(p).all() or (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise ConfigError(f"priors = {p.tolist()} must be shares of 0 or more that sum to 1")
    if len(classes) == 0 or int(classes.max()) >= len(p):
        raise ConfigError(f"priors = {p.tolist()} must name every class that occurs, 0..{np.max(classes, initial=0)}")
    have = np.bincount(classes, minlength=len(p))
    absent = np.flatnonzero((p > 0) & (have == 0))
    if len(absent):
        raise ConfigError(f"priors want {p[absent[0]]:g} of class {absent[0]}, of which there is no sample")
    return p / p.sum(), have


# Environment shift


def leave_out(
    data: AffectData,
    held: Sequence[int],
    *,
    by: Literal["group", "environment"] = "environment",
    valid_share: float = 0.15,
    seed: int = 0,
) -> AffectData:
    """Return the data with the groups or environments `held` as test and everything else as train and valid.

    valid: whole groups, in keyed random order, until at least `valid_share` of the rest is reached; so no speaker is in
    both train and valid. Rows that were in no split stay out. Raises ConfigError for an unknown code and where nothing
    would be left to train on.
    """
    if not 0 < valid_share < 1:
        raise ConfigError(f"leave_out: valid_share = {valid_share} must lie between 0 and 1")
    pool = np.unique(np.concatenate([_rows(data, name) for name in data.splits]))
    codes = _codes(data, by)[pool]
    unknown = [h for h in held if h not in codes]
    if unknown or not len(held):
        raise ConfigError(f"{data.name}: {by} {unknown[0] if unknown else '()'} is unknown, it has {np.unique(codes)}")
    out = np.isin(codes, held)
    group = _codes(data, "group")[pool]
    groups = np.unique(group[~out])
    if len(groups) < 2:
        raise ConfigError(f"{data.name}: leaving {by} {list(held)} out leaves {len(groups)} groups, needs two or more")
    order = groups[np.argsort(streams.uniform(streams.key(seed, "environment shift"), groups))]
    sizes = np.array([(group[~out] == g).sum() for g in order])
    enough = int(np.searchsorted(np.cumsum(sizes), valid_share * sizes.sum())) + 1
    valid = ~out & np.isin(group, order[: min(enough, len(order) - 1)])
    splits = {"train": pool[~out & ~valid], "valid": pool[valid], "test": pool[out]}
    return data.with_splits(splits, f"{data.name}_without_{by}_{'+'.join(map(str, held))}")


def leave_each_out(
    data: AffectData,
    *,
    by: Literal["group", "environment"] = "environment",
    valid_share: float = 0.15,
    seed: int = 0,
) -> Iterator[tuple[int, AffectData]]:
    """Yield (code, data) for every group or environment, that one left out."""
    pool = np.unique(np.concatenate([_rows(data, name) for name in data.splits]))
    for code in np.unique(_codes(data, by)[pool]).tolist():
        yield code, leave_out(data, [code], by=by, valid_share=valid_share, seed=seed)


# The rooms of the data package may look at all samples; models and loops may not


def _rows(data: AffectData, split: str) -> Rows:
    rows: Mapping[str, object] = data.splits
    if split not in rows:
        raise ConfigError(f"{data.name}: split {split!r} is unknown, it has {', '.join(rows)}")
    return data._rows[split].numpy()


def _classes(data: AffectData) -> Rows:
    target = data._all.target.numpy()
    if data.task.kind == "multi_label":
        raise ConfigError(f"{data.name}: the shift needs one label per sample, the task is multi_label")
    return sign_classes(target) if data.task.kind == "regression" else target


def _codes(data: AffectData, by: str) -> Rows:
    if by not in ("group", "environment"):
        raise ConfigError(f"leave_out: by = {by!r} must be group or environment")
    codes = data._all.group if by == "group" else data._all.environment
    if codes is None:
        raise ConfigError(f"{data.name}: has no environments, use by='group'")
    return codes.numpy()
