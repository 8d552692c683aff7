"""What stops a command; each says what happened and what to do, and what was done is in its file."""


class EvalError(Exception):
    """Anything that a person has to mend."""


class BadTask(EvalError):
    """A task that is not known, or an entry of a task file that cannot be."""


class BadData(EvalError):
    """A file or a row that cannot be read; rows are named by file and line, never quoted."""


class OtherRun(EvalError):
    """A file holds another run than the one that would be added, or is being written to."""


class Failed(EvalError):
    """A server failed for longer than it was waited for."""
