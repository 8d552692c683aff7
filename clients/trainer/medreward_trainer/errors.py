"""What stops a run; each says what happened and what to do, and the run's state is saved first."""


class TrainerError(Exception):
    """Anything that a person has to mend."""


class BadConfig(TrainerError):
    """A key or a value that cannot be."""


class BadData(TrainerError):
    """A file or a row that cannot be learnt from; rows are named by file and line."""


class BadCheckpoint(TrainerError):
    """A checkpoint that cannot be read, or is not of this run."""


class RunIsTaken(TrainerError):
    """Another process writes to the run's folder."""


class NoRewards(TrainerError):
    """The service gave too few rewards for longer than the run was told to wait."""


class RewardsChanged(TrainerError):
    """The service scores by something else than the run began with."""


class NothingToLearn(TrainerError):
    """No group is left whose samples differ in what they are rewarded for."""


class NotFinite(TrainerError):
    """A loss or a gradient is not a number."""


class OutOfMemory(TrainerError):
    """A stage does not fit the machine."""


class Stopped(TrainerError):
    """The run was asked to stop."""
