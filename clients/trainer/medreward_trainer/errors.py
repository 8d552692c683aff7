"""Errors that stop a run, each with a cause and a remedy; the state is saved first."""


class TrainerError(Exception):
    """Base class of all errors that a person has to correct."""


class BadConfig(TrainerError):
    """A key or a value of the configuration is invalid."""


class BadData(TrainerError):
    """A file or a row of the data is unusable; the message names rows by file and line."""


class BadCheckpoint(TrainerError):
    """A checkpoint is unreadable, or belongs to another run."""


class RunIsTaken(TrainerError):
    """Another process holds the run's folder."""


class NoRewards(TrainerError):
    """The service gave too few rewards for longer than `reward.patience_s`."""


class RewardsChanged(TrainerError):
    """The service has another recipe, judge or embedder than at the beginning of the run."""


class NothingToLearn(TrainerError):
    """No group of the step can be learnt from: too few rewards, or all are filtered out."""


class NotFinite(TrainerError):
    """A loss or a gradient is infinite or not a number."""


class OutOfMemory(TrainerError):
    """A stage of the step does not fit into the machine's memory."""


class Stopped(TrainerError):
    """The run was asked to stop."""
