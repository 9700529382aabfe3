"""The rounding conventions reproduce the class counts of CMU-MOSEI's own tables. Needs the real data."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affectcore.evaluation.metrics import round_sentiment

FILE = Path(os.environ.get("AFFECTCORE_DATA", "")) / "cmu_mosei_labels" / "segments.csv.gz"
pytestmark = pytest.mark.skipif(
    "AFFECTCORE_DATA" not in os.environ or not FILE.is_file(), reason="real data not present"
)


@pytest.mark.parametrize(
    ("rounding", "counts"),
    [
        ("half_even", [408, 1830, 2869, 9758, 5929, 2196, 269]),
        # 24 of 23,259 labels end in one half; the rules part on 11 of .5, 4 of -.5 and 1 of 2.5
        ("half_away", [408, 1830, 2869 + 4, 9758 - 15, 5929 + 11, 2196 - 1, 269 + 1]),
        ("sdk", [821, 2253, 3609, 5100, 7576, 3225, 675]),  # printed by s3prl's MOSEI task
    ],
)
def test_class_counts_of_mosei(rounding, counts):
    y = pd.read_csv(FILE)["sentiment"].to_numpy()
    assert np.bincount(round_sentiment(y, 7, rounding) + 3, minlength=7).tolist() == counts
