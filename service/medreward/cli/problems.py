"""What to do about a sample that could not be scored."""

from collections.abc import Mapping

from medreward.errors import ProblemKind

WHAT_TO_DO: Mapping[ProblemKind, str] = {
    ProblemKind.JUDGE_UNREACHABLE: "see that the judge's server runs (MEDREWARD_JUDGE_URL), "
    "then score again",
    ProblemKind.JUDGE_TIMEOUT: "score again with a smaller --batch, or give the judge longer "
    "(MEDREWARD_JUDGE_TIMEOUT_S)",
    ProblemKind.JUDGE_UNPARSEABLE: "this judge does not answer such a question with YES or NO: "
    "use a better one (MEDREWARD_JUDGE_MODEL)",
    ProblemKind.JUDGE_REFUSED: "the judge declines to answer: look at the texts, or use another "
    "judge (MEDREWARD_JUDGE_MODEL)",
    ProblemKind.JUDGE_ABSTAINED: "the votes are divided: ask for an odd number of --votes",
    ProblemKind.EMBEDDER_UNREACHABLE: "see that the embedder's server runs "
    "(MEDREWARD_EMBEDDER_URL), then score again",
    ProblemKind.EMBEDDER_TIMEOUT: "score again with a smaller --batch, or give the embedder longer "
    "(MEDREWARD_EMBEDDER_TIMEOUT_S)",
    ProblemKind.INVALID_REFERENCE: "mend the sample's reference: scoring again will not help",
    ProblemKind.DEADLINE: "score again with a longer --deadline or a smaller --batch",
    ProblemKind.TOO_LONG: "shorten the text, or raise the service's limit "
    "(MEDREWARD_MAX_RESPONSE_BYTES, MEDREWARD_MAX_TEXT_BYTES)",
}
