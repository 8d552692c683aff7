"""What the cascade takes for terms, which go to the verifier, and what for an answer in words."""

import pytest

from medreward.engines.judge import Inquiry, View
from medreward.engines.judges.terms import is_about_terms, is_term
from medreward.engines.templates import load_templates

TEMPLATES = load_templates()
MATCH, EQUIVALENCE = TEMPLATES["match"], TEMPLATES["equivalence"]


@pytest.mark.parametrize(
    "text",
    [
        "lupus",
        "Systemic lupus erythematosus",
        "left lower lobe",
        "Intellectual disability, mild",
        "Abnormality of the kidney",
        "no pneumothorax",
        "Sjögren's syndrome",
        "non-small-cell lung cancer",
        "pneumonia.",
    ],
)
def test_a_name_of_a_few_words_is_a_term(text: str) -> None:
    """With commas, hyphens, possessives and a final stop too."""
    assert is_term(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5 mg",
        "type 2 diabetes",
        "It is the lung.",
        "The picture shows a cat",
        "There's a mass",
        "left; right",
        "Pneumonia. No effusion",
        "liver, kidney, spleen",
        "Diagnosis: lupus",
        "an opacity in the left lower lobe of the lung",
        "肺炎 5",
    ],
)
def test_sentences_numbers_and_lists_are_no_terms(text: str) -> None:
    """A verb, a digit, a mark of sentences, three parts or more than six words."""
    assert not is_term(text)


@pytest.mark.parametrize("text", ["MS", "COPD", "COPD.", "HbA", " mRNA "])
def test_an_abbreviation_on_either_side_is_for_the_language_model(text: str) -> None:
    """Its letters say little to a verifier: AUC 0.57, and 0.85 of the language model."""
    assert not is_about_terms(Inquiry(MATCH, text, "multiple sclerosis"))
    assert not is_about_terms(Inquiry(MATCH, "multiple sclerosis", text))


@pytest.mark.parametrize(
    "text", ["Lupus", "increased CSF protein", "LEFT LOWER LOBE", "CARDIOMEGALY"]
)
def test_a_term_with_capitals_is_no_abbreviation(text: str) -> None:
    """Of terms that hold an abbreviation a verifier knows as much (AUC 0.98 of both)."""
    assert is_about_terms(Inquiry(MATCH, text, "lupus"))


def test_both_texts_have_to_be_terms() -> None:
    """A sentence on either side, or no reference, leaves the pair to the language model."""
    term, sentence = "lupus", "It is lupus."

    assert is_about_terms(Inquiry(MATCH, term, term))
    assert not is_about_terms(Inquiry(MATCH, sentence, term))
    assert not is_about_terms(Inquiry(MATCH, term, sentence))
    assert not is_about_terms(Inquiry(MATCH, term))


def test_terms_behind_a_question_are_for_the_language_model() -> None:
    """Unless the template or the view hides the question."""
    asked = Inquiry(EQUIVALENCE, "lupus", "lupus", "Which disease?")

    assert not is_about_terms(asked)
    assert is_about_terms(asked._replace(view=View.WITHOUT_QUESTION))
    assert is_about_terms(asked._replace(template=MATCH))
