"""The errors a user can cause. Each message is one line that names the file or field, the value and the rule."""


class AffectError(Exception):
    """Base of all errors that are the input's fault; the command line prints them without a traceback."""


class DataError(AffectError):
    """A data file, array or id that breaks the rules of its format."""


class UnsafePickleError(DataError):
    """A pickle that asks for anything but arrays, containers, strings and numbers. Nothing of it was executed."""


class TestLocked(AffectError):
    """The test split was asked for before a selection was frozen."""

    __test__ = False  # pytest would otherwise take the name for a test class


class ConfigError(AffectError):
    """An unknown name, parameter or illegal value in a configuration."""


class EvaluationError(AffectError):
    """Targets, predictions or scores that a metric or test cannot be computed from."""


class TrainingError(AffectError):
    """Training that cannot start or go on: non-finite loss, wrong device, mismatched checkpoint."""


class StoreError(AffectError):
    """A result store that cannot be read or written: stale, half-written, full or read-only."""
