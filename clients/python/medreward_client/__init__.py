"""Score free-form medical answers with a medreward service.

Example:
    with RewardClient("http://localhost:8080") as client:
        reply = client.reward([Sample("<answer>Left lower lobe</answer>", "left lower lobe")])
    print(reply.rewards)  # one number a sample, None if it has no reward

"""

from medreward_client._client import AsyncRewardClient, RewardClient
from medreward_client._errors import (
    BadReply,
    MedrewardError,
    NoReward,
    Overloaded,
    RequestRefused,
    TimedOut,
    TryAgain,
    Unavailable,
)
from medreward_client._many import Tally, score_many
from medreward_client._results import OtherResults, read_results
from medreward_client._types import (
    Asking,
    Choice,
    ChoiceCriterion,
    Component,
    Counts,
    Criterion,
    CriterionResult,
    EngineState,
    GroupRank,
    GroupResult,
    Health,
    Item,
    JudgeCounts,
    Judged,
    JudgedCriterion,
    JudgeExam,
    JudgeProvenance,
    JudgeReply,
    Problem,
    Provenance,
    RewardReply,
    Sample,
    Scored,
    Unjudged,
    Unscored,
    Veto,
    Vote,
)

__all__ = [
    "Asking",
    "AsyncRewardClient",
    "BadReply",
    "Choice",
    "ChoiceCriterion",
    "Component",
    "Counts",
    "Criterion",
    "CriterionResult",
    "EngineState",
    "GroupRank",
    "GroupResult",
    "Health",
    "Item",
    "JudgeCounts",
    "JudgeExam",
    "JudgeProvenance",
    "JudgeReply",
    "Judged",
    "JudgedCriterion",
    "MedrewardError",
    "NoReward",
    "OtherResults",
    "Overloaded",
    "Problem",
    "Provenance",
    "RequestRefused",
    "RewardClient",
    "RewardReply",
    "Sample",
    "Scored",
    "Tally",
    "TimedOut",
    "TryAgain",
    "Unavailable",
    "Unjudged",
    "Unscored",
    "Veto",
    "Vote",
    "read_results",
    "score_many",
]
