"""The errors that a user can cause and mend; the command line prints each as one sentence."""


class FacelibError(Exception):
    """Wrong usage or bad input; the message names the thing, the reason and the remedy."""


class UnknownSetting(FacelibError):
    """A profile, or a key of one, that does not exist."""


class UnreadableData(FacelibError):
    """A data source that yields no usable face."""


class MissingFromRun(FacelibError):
    """A run folder, or a file of one, that an earlier notebook has to make first."""


class RunConflict(FacelibError):
    """A run folder that belongs to other parameters, or that another process is using."""


class DamagedRun(FacelibError):
    """A file of a run folder or of the cache that is not what facelib writes."""


class InvalidDecision(FacelibError):
    """A row of decisions.csv that says something other than keep, drop or relabel to an allowed value."""


class NotebookFailed(FacelibError):
    """A notebook that stopped with an error."""
