"""Robust multimodal emotion recognition: models, baselines, protocols, metrics and statistics of five papers."""

__version__ = "0.1.0"
