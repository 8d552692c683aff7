"""Suite T6: where a policy drifts that cannot reach the right answer, under either recipe.

A bandit with one arm for each way of being wrong, trained by group-normalised policy gradient. What
a guard says is asked of the real guards; how often judge and embedder are fooled is assumed.
"""

from collections.abc import Mapping

import numpy as np
import pytest

from medreward.parsing.sample import parse_sample
from medreward.parsing.signal import Signal
from medreward.recipes.recipe import Recipe, SignalName, load_recipes
from medreward.rewards.reward import Reward, compose
from medreward.samples import Limits, Sample

SEEDS, STEPS, GROUP, RATE = 300, 400, 8, 0.5

PAIRS = (
    ("left lower lobe pneumonia", "right lower lobe pneumonia"),
    ("hypokalemia", "hyperkalemia"),
    ("acute subdural hematoma", "chronic subdural hematoma"),
    ("benign thyroid nodule", "malignant thyroid nodule"),
    ("increased intracranial pressure", "decreased intracranial pressure"),
    ("anterior wall infarction", "posterior wall infarction"),
    ("distal radius fracture", "proximal radius fracture"),
    ("upper lobe fibrosis", "lower lobe fibrosis"),
    ("type 1 diabetes mellitus", "type 2 diabetes mellitus"),
    ("pulmonary embolism", "no pulmonary embolism"),
    ("unilateral hydronephrosis", "bilateral hydronephrosis"),
    ("tachycardia", "bradycardia"),
    ("stage II breast cancer", "stage III breast cancer"),
    ("displaced fracture of the clavicle", "nondisplaced fracture of the clavicle"),
    ("mitral valve prolapse with regurgitation", "mitral valve prolapse without regurgitation"),
    ("medial meniscus tear", "lateral meniscus tear"),
)
SIBLINGS = ("aspiration pneumonitis", "renal calculus", "hepatic steatosis", "otitis media")
KEYS = ("Thought process:", "Solution", "解", "Let's solve this problem step by step.", "Respuesta")

ARMS = ("right", "contrast", "sibling", "key", "hedge")
FOOLED: Mapping[str, tuple[float, float]] = {
    # How often the judge says YES, and the embedder: judging.md's assumed rates.
    "right": (0.95, 0.95),
    "contrast": (0.15, 0.88),
    "sibling": (0.10, 0.08),
    "key": (0.15, 0.0),
    "hedge": (0.30, 0.30),
}


def answers(arm: str) -> list[tuple[str, str]]:
    """References with what a policy on that arm would answer."""
    if arm == "hedge":
        return [(right, f"{right} or {wrong}") for right, wrong in PAIRS]
    other = {"sibling": SIBLINGS, "key": KEYS}.get(arm)
    if other is not None:
        return [(right, text) for right, _ in PAIRS for text in other]
    return [(right, wrong if arm == "contrast" else f"{right} ") for right, wrong in PAIRS]


def outcomes(arm: str, recipe: Recipe) -> np.ndarray:
    """Rewards by answer, judge (NO, YES) and embedder (0, 1): all of good form and modality."""
    table = []
    for reference, answer in answers(arm):
        text = f"<X_RAY><thinking>x</thinking><answer>{answer}</answer>"
        sample = Sample(response=text, reference=reference, modality="X_RAY")
        accuracy = parse_sample(sample, recipe, Limits()).accuracy
        table.append(
            [[total(recipe, accuracy, judge, embed) for embed in (0, 1)] for judge in (0, 1)]
        )
    return np.array(table)


def total(recipe: Recipe, settled: Signal | None, judge: int, embed: int) -> float:
    """The reward where a rule settled the accuracies, else for what the models say."""
    right = Signal(1.0, "rule")
    signals: dict[SignalName, Signal] = {
        "accuracy_llm": settled or Signal(float(judge), "judge"),
        "accuracy_embed": settled or Signal(float(embed), "embedder"),
        "modality": right,
        "format": right,
    }
    reward = compose(signals, recipe)
    assert isinstance(reward, Reward)
    return reward.total


def trained(recipe: Recipe, arms: tuple[str, ...]) -> dict[str, float]:
    """Mean mass on each arm after training, over all seeds."""
    rng = np.random.default_rng(0)
    tables = [outcomes(arm, recipe) for arm in arms]
    fooled = np.array([FOOLED[arm] for arm in arms])
    logits_SA = np.zeros((SEEDS, len(arms)))
    for _ in range(STEPS):
        mass_SA = np.exp(logits_SA - logits_SA.max(1, keepdims=True))
        mass_SA /= mass_SA.sum(1, keepdims=True)
        drawn_SG = (rng.random((SEEDS, GROUP, 1)) > mass_SA.cumsum(1)[:, None, :-1]).sum(-1)
        judge_SG, embed_SG = (rng.random((SEEDS, GROUP)) < fooled[drawn_SG, i] for i in (0, 1))
        rewards_SG = np.zeros((SEEDS, GROUP))
        for arm, table in enumerate(tables):
            chosen = drawn_SG == arm
            item = rng.integers(len(table), size=int(chosen.sum()))
            rewards_SG[chosen] = table[item, judge_SG[chosen] * 1, embed_SG[chosen] * 1]
        centred_SG = rewards_SG - rewards_SG.mean(1, keepdims=True)
        advantages_SG = centred_SG / (rewards_SG.std(1, keepdims=True) + 1e-6)
        chosen_SGA = np.eye(len(arms))[drawn_SG]
        logits_SA += RATE * (advantages_SG[..., None] * (chosen_SGA - mass_SA[:, None])).mean(1)
    return dict(zip(arms, mass_SA.mean(0).tolist(), strict=True))


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    """The built-in recipes."""
    return load_recipes()


def test_the_published_sum_drives_a_policy_to_the_wrong_side(recipes: dict[str, Recipe]) -> None:
    """With the right answer out of reach, what fools the embedder alone takes nearly all mass."""
    mass = trained(recipes["medix-r1"], ARMS[1:])

    assert mass["contrast"] > 0.95


def test_the_guarded_recipe_leaves_exploits_no_mass(recipes: dict[str, Recipe]) -> None:
    """Contrast, key and hedge together keep at most 2 %; what remains is honest misses."""
    mass = trained(recipes["medix-r1-guarded"], ARMS[1:])

    assert mass["contrast"] + mass["key"] + mass["hedge"] <= 0.02


@pytest.mark.parametrize("name", ["medix-r1", "medix-r1-guarded"])
def test_a_right_answer_within_reach_wins(name: str, recipes: dict[str, Recipe]) -> None:
    """Where it can be found, the right answer takes the mass under both."""
    assert trained(recipes[name], ARMS)["right"] > 0.95
