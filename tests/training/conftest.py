"""One thread: sums are then in one order everywhere, and tests beside each other do not fight for cores."""

import torch

torch.set_num_threads(1)
