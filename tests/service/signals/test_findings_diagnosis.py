"""Findings in texts, and their agreement with labels and with each other."""

from itertools import chain, combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.normal import Normal
from medreward.signals.findings import FINDINGS, Finding, findings_in
from medreward.signals.findings_diagnosis import KIND, Inputs, Options, f1
from tests.service.signals.rollouts import answered

SETS = st.frozensets(st.sampled_from(FINDINGS), max_size=14)
PATHOLOGIES = FINDINGS[1:]


def value_of(answer: str, thinking: str, *labels: str, penalty: float = 0.3) -> float:
    """The value of an answer and its thinking."""
    inputs = Inputs.model_validate({"labels": labels})
    return KIND.value(answered(answer, thinking=thinking), inputs, Options(penalty=penalty))


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("Small left pleural effusion. No pneumothorax.", {"Pleural Effusion"}),
        ("No pneumothorax, pleural effusion or consolidation.", {"No Finding"}),
        ("The heart is mildly enlarged.", {"Cardiomegaly"}),
        ("The heart is not enlarged. There is pulmonary oedema.", {"Edema"}),
        ("Bibasilar opacities, likely atelectasis", {"Lung Opacity", "Atelectasis"}),
        ("Pneumonia rather than edema.", {"Pneumonia"}),
        ("Pneumonia cannot be excluded", set()),
        ("Pneumothorax is absent; rib fractures are present.", {"Fracture"}),
        ("Small pericardial effusion", set()),
        ("The lungs are clear. Heart size is normal.", {"No Finding"}),
        ("The lungs are not clear.", set()),
        ("No acute cardiopulmonary abnormality.", {"No Finding"}),
        ("No findings of edema. Cardiomegaly.", {"Cardiomegaly"}),
        ("Cardiomegaly: present\nEdema: no\nPneumonia: absent", {"Cardiomegaly"}),
        ('["Support Devices", "Lung Lesion"]', {"Support Devices", "Lung Lesion"}),
        ("The image is of the chest.", set()),
        ("", set()),
    ],
)
def test_a_finding_is_asserted_denied_or_left_open(text: str, findings: set[Finding]) -> None:
    """By phrase and negation; silence is not a normal image."""
    assert findings_in(Normal(text)) == findings


@given(st.lists(st.sampled_from(PATHOLOGIES), min_size=1, unique=True))
def test_a_list_of_names_is_read_as_it_is(names: list[Finding]) -> None:
    """Each of CheXpert's names is a phrase of its own finding and of no other."""
    assert findings_in(Normal(", ".join(names))) == set(names)
    assert findings_in(Normal("No Finding")) == {"No Finding"}


@given(SETS, SETS)
def test_f1_is_the_harmonic_mean(one: frozenset[Finding], other: frozenset[Finding]) -> None:
    """Of precision and recall, counted one by one."""
    common = sum(finding in other for finding in one)
    precision, recall = common / (len(one) or 1), common / (len(other) or 1)
    mean = 2 * precision * recall / (precision + recall) if common else 0.0

    assert f1(one, other) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("answer", "thinking", "labels", "value"),
    [
        ("Edema", "edema is seen", ["Edema"], 1.0),
        ("Edema", "pneumonia is seen", ["Edema"], 0.7),
        ("Edema", "", ["Edema"], 0.7),
        ("Edema", "edema and a fracture", ["Edema"], 1 - 0.3 * (1 - 2 / 3)),
        ("Pneumonia", "pneumonia", ["Edema"], 0.0),
        ("Edema, Fracture", "edema, fracture", ["Edema"], 2 / 3),
        ("Edema", "edema", ["Edema", "Fracture"], 2 / 3),
        ("No Finding", "The lungs are clear, no effusion.", ["no_finding"], 1.0),
        ("", "", ["No Finding"], 0.0),
    ],
)
def test_hand_table(answer: str, thinking: str, labels: list[str], value: float) -> None:
    """Labels earn, and disagreement takes a share of it away."""
    assert value_of(answer, thinking, *labels) == pytest.approx(value)


@pytest.mark.parametrize(
    "labels", [*chain.from_iterable(combinations(PATHOLOGIES, n) for n in (1, 2))]
)
def test_swapping_a_label_lowers_the_value(labels: tuple[Finding, ...]) -> None:
    """In the answer and in the thinking, for each label and each other finding."""
    told = ", ".join(labels)
    assert value_of(told, told, *labels) == 1.0

    for swapped in PATHOLOGIES:
        if swapped in labels:
            continue
        other = ", ".join([swapped, *labels[1:]])
        least = 0.3 / len(labels)

        assert value_of(other, told, *labels) <= 1 - least + 1e-12
        assert value_of(told, other, *labels) <= 1 - least + 1e-12


@pytest.mark.parametrize(("label", "other"), [*permutations(PATHOLOGIES[:4], 2)])
def test_agreement_on_wrong_labels_earns_nothing(label: Finding, other: Finding) -> None:
    """Nor does naming all of them earn much."""
    everything = ", ".join(PATHOLOGIES)

    assert value_of(other, other, label) == 0.0
    assert value_of(everything, everything, label) == pytest.approx(2 / (1 + len(PATHOLOGIES)))
