"""Errors that a user can cause and fix; the command line prints each as one sentence."""


class FacelibError(Exception):
    """Wrong usage or bad input; the message names the thing, the reason and the remedy."""


class UnknownSetting(FacelibError):
    """A profile, recipe or setting that does not exist, or a value that is not allowed."""


class UnreadableData(FacelibError):
    """A data source without a usable face."""


class MissingFromRun(FacelibError):
    """A run folder, or a file of one, that an earlier notebook has to make."""


class RunConflict(FacelibError):
    """A run folder with other parameters, or in use by another process."""


class DamagedRun(FacelibError):
    """A file of a run folder or of the cache that facelib did not write."""


class InvalidDecision(FacelibError):
    """A row of decisions.csv with another action than keep, drop or relabel to an allowed value."""


class NotebookFailed(FacelibError):
    """A notebook that stopped with an error."""
