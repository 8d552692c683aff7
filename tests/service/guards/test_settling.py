"""What is decided without a model, and what is left to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.normal import normal
from medreward.guards.pair import Pair
from medreward.guards.settling import settle

OPTIONS = "Which is it?\nA. Pneumonia\nB. Left lower lobe collapse\nC. Asthma"
INLINE = "Which is it? (A) Pneumonia (B) Left lower lobe collapse (C) Asthma"
BRACKETS = "Which is it?\nA) Pneumonia\nB) Left lower lobe collapse\nC) Asthma"


def decided(answer: str, reference: str, question: str | None = None) -> bool | None:
    """Tell what is settled: yes, no, or nothing."""
    asked = normal(question) if question is not None else None
    settled = settle(Pair(normal(answer), normal(reference), asked))
    return None if settled is None else settled.says_yes


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        # Case, space, article, hyphen, spelling and final stop change nothing; signs do.
        ("Pneumonia.", "pneumonia", True),
        ("the  left-sided pneumonia", "Left sided pneumonia", True),
        ("Haemorrhage", "hemorrhage", True),
        ("a fracture", "fracture", True),
        ("< 5", "5", False),
        ("HER2+", "HER2-", None),
        ("pneumonia", "asthma", None),
        ("", "", None),
        (".", ".", None),
        # A disease is called by their discoverer with and without an s.
        ("Barrett's oesophagus", "Barrett esophagus", True),
        # Without options, too, letters and numbers alone decide.
        ("(B)", "B", True),
        ("C.", "B", False),
        ("B", "hepatitis", None),
        ("500 mg", "0.5 g", True),
        ("50 mg", "0.5 g", False),
        ("5", "5.0", True),
        ("five", "5", True),
        ("6", "5", False),
        ("5 cm", "5", None),
        ("3-5 mg", "3 to 5 mg", True),
        ("about 5 mg", "5 mg", None),
    ],
)
def test_what_is_plain_is_settled_without_a_model(
    answer: str, reference: str, expected: bool | None
) -> None:
    """Spelling, case, space and final stop change nothing; yes, no, letters and numbers decide."""
    assert decided(answer, reference) is expected


EFFUSION = "Is there evidence of a pleural effusion?"
MIDLINE = "Is the trachea midline?"
MASS = "Are there any masses in the liver?"
MUSIC = "Does music before surgery reduce anxiety?"
SPREAD = "Did the tumor spread from the lung to the liver?"
TUMOUR = "图中有肿瘤吗？"


@pytest.mark.parametrize(
    ("question", "reference", "answer", "expected"),
    [
        # A verdict alone, or with the same claim behind it.
        (None, "yes", "Yes", True),
        (None, "No", "yes.", False),
        (None, "no", "YES YES YES", False),
        ("Is there a fracture?", "no", "No, there is no fracture.", True),
        ("Is there a fracture?", "No, there is no fracture", "no", True),
        (None, "no", "No, there is no fracture.", None),
        (None, "yes", "Yes, it is.", True),
        (None, "no", "No, of course not.", True),
        (EFFUSION, "yes", "Yes. There is a moderate pleural effusion on the right.", True),
        (None, "No, there is no fracture", "Yes, it is broken", False),
        (None, "No, there is no fracture", "No, it is dislocated", None),
        (None, "yes", "oui", True),
        (None, "no", "Nein.", True),
        (None, "yes", "はい", True),
        (EFFUSION, "yes", "The answer is yes.", True),
        (EFFUSION, "yes", "The answer is no.", False),
        (EFFUSION, "no", "**Yes**, there is a meniscus at the right base.", False),
        (EFFUSION, "no", "La respuesta es no.", True),
        # Whatever else is said goes to the judge: it may say anything.
        (EFFUSION, "yes", "Yes, there is a meniscus at the right base.", None),
        (EFFUSION, "no", "No, fluid is seen in the pleural space", None),
        (EFFUSION, "yes", "Yes, wrong", None),
        (EFFUSION, "yes", "Yes, with a probability of 2%", None),
        (EFFUSION, "yes", "Yes, in another patient", None),
        (EFFUSION, "no", "No, it is", None),
        (EFFUSION, "no", "No. One is seen.", None),
        (EFFUSION, "yes", "yes?", None),
        (EFFUSION, "yes", "Yes. " + "The image was read with care. " * 250, None),
        ("Is this the liver?", "yes", "Yes, this is the spleen", None),
        ("Is the mass malignant?", "no", "No, it is cancer", None),
        ("Is the patient male?", "yes", "Yes, she is", None),
        ("Is pneumonia absent?", "no", "No, there is none", None),
        (MUSIC, "maybe", "Maybe: certainly not", None),
        # So does a verdict at the end.
        (EFFUSION, "yes", "The wrong answer is yes", None),
        (EFFUSION, "yes", "I would not answer yes", None),
        (EFFUSION, "yes", "If blunted, the final answer is yes", None),
        (EFFUSION, "no", "The costophrenic angles are sharp, so no.", None),
        # Where more is asked for, a verdict is a part of the answer.
        ("Is there a mass? If so, where?", "Yes, in the right lung", "yes", None),
        ("Is there a mass? If so, where?", "yes", "yes, there is a mass", None),
        ("Is there an effusion and on which side?", "Yes, left", "Yes", None),
        ("Is the mass malignant or benign?", "Yes, malignant", "yes", None),
        ("Is there a mass? State its side.", "Yes, left", "yes", None),
        ("Is there a mass? Answer yes or no.", "Yes, left", "yes", True),
        ("Which lobe is affected, and is there an effusion?", "no, the left", "no", None),
        # It may be taken back, or explained by its opposite.
        (None, "yes", "Yes or no", None),
        (None, "yes", "Yes. No.", None),
        (None, "yes", "pneumonia", None),
        (None, "no", "No doubt", None),
        (EFFUSION, "yes", "Yes, but it is not pleural", None),
        (EFFUSION, "yes", "Yes, possibly", None),
        (EFFUSION, "no", "No, there is a pleural effusion", None),
        (
            EFFUSION,
            "no",
            "No. An effusion of the left pleural space, a pleural effusion, is seen.",
            None,
        ),
        (MUSIC, "yes", "Yes, scores fell by a third.", None),
        (MUSIC, "yes", "Yes, scores changed: they were higher.", None),
        ("Is there a fracture?", "yes", "Yes, the bone is intact.", None),
        ("Are the lungs clear?", "yes", "Yes, there are opacities.", None),
        ("Are the lungs clear?", "no", "No, clear lungs.", None),
        ("Are the lungs clear?", "no", "No, there are opacities.", None),
        # Maybe is a verdict of its own.
        (MUSIC, "maybe", "Maybe.", True),
        (MUSIC, "maybe", "The answer is maybe.", True),
        (MUSIC, "Maybe; the trial was small.", "The answer is maybe.", True),
        (MUSIC, "maybe", "yes", False),
        (MUSIC, "no", "Maybe", False),
        (MUSIC, "yes", "Possibly", None),
        # A prefix is no verdict.
        (None, "no", "Non-displaced fracture", None),
        # The question's own words say yes or no too.
        (EFFUSION, "no", "There is no evidence of a pleural effusion.", True),
        (EFFUSION, "yes", "There is no evidence of a pleural effusion.", False),
        (EFFUSION, "no", "No pleural effusion is seen", True),
        (EFFUSION, "no", "Pleural effusion is absent.", True),
        (EFFUSION, "No pleural effusion", "No", True),
        (EFFUSION, "No pleural effusion", "Yes", False),
        (EFFUSION, "yes", "There is a moderate pleural effusion on the right.", True),
        (EFFUSION, "no", "There is a moderate pleural effusion on the right.", False),
        (EFFUSION, "yes", "A pleural effusion is present.", True),
        (MASS, "no", "No masses are identified.", True),
        (MASS, "no", "There are no masses in the liver.", True),
        (MIDLINE, "yes", "The trachea is midline", True),
        (MIDLINE, "yes", "The trachea is not midline", False),
        ("Is the lung healthy?", "No", "The lung is not healthy.", True),
        ("Is the lung healthy?", "No", "The lung is healthy.", False),
        ("In this image, is there a fracture?", "yes", "A fracture is visible", True),
        # Another topic, a narrower one, a doubt or another place claims nothing of the kind.
        (EFFUSION, "no", "No left pleural effusion", None),
        (EFFUSION, "no", "No pneumothorax", None),
        (EFFUSION, "yes", "Resolved pleural effusion", None),
        (EFFUSION, "yes", "A history of pleural effusion", None),
        (EFFUSION, "yes", "A pleural effusion was seen last year", None),
        (MUSIC, "yes", "It was", None),
        (EFFUSION, "yes", "Drainage of a pleural effusion", None),
        (EFFUSION, "yes", "A pleural effusion drain", None),
        (EFFUSION, "yes", "A pleural effusion would be visible", None),
        (EFFUSION, "yes", "The pleural effusion has cleared", None),
        (EFFUSION, "yes", "pleural effusion?", None),
        (EFFUSION, "yes", "Near pleural effusion", None),
        ("Is there free fluid?", "yes", "Free fluid is present.", True),
        ("Is there free fluid?", "no", "There is no free fluid.", True),
        (EFFUSION, "yes", "Possible pleural effusion", None),
        (EFFUSION, "no", "Pleural effusion cannot be excluded", None),
        (MASS, "yes", "There is a mass next to the liver", None),
        (MIDLINE, "no", "The trachea is deviated to the left", None),
        ("Is aspirin better than heparin?", "no", "Heparin is not better than aspirin", None),
        ("Is there no effusion?", "yes", "No effusion", None),
        ("Is there an effusion or a mass?", "yes", "There is an effusion", None),
        ("What is seen?", "no", "No effusion", None),
        ("Which vitamin?", "Vitamin C", "no", None),
        # A claim is one clause; what follows may take it back.
        (EFFUSION, "yes", "There is a pleural effusion. Actually no.", None),
        (EFFUSION, "no", "There is no pleural effusion; the pleura is full of fluid.", None),
        (EFFUSION, "yes", "Present. No.", None),
        (EFFUSION, "no", "Nothing, a pleural effusion", None),
        (EFFUSION, "no", "None, there is one", None),
        (EFFUSION, "no", "None. Well, one.", None),
        (EFFUSION, "yes", "Pleural effusion (-)", None),
        (EFFUSION, "yes", "Pleural effusion -", None),
        (EFFUSION, "yes", "Is there a pleural effusion", None),
        (EFFUSION, "no", "Pleural effusion is rarely seen", None),
        # Prepositions belong to the topic.
        (SPREAD, "yes", "The tumor spread from the lung to the liver", True),
        (SPREAD, "no", "The tumor spread from the lung to the liver", False),
        (SPREAD, "yes", "The tumor spread to the lung from the liver", None),
        ("Is the mother infected by the child?", "yes", "The mother infected the child", None),
        ("Is the trachea pushed to the left?", "yes", "The trachea is pushed from the left", None),
        ("Is the tube in the trachea?", "yes", "The tube is at the trachea", None),
        ("Is the tube in the trachea?", "no", "The tube is not in the trachea", True),
        (MASS, "yes", "mass liver", None),
        # A denial of the verb, not of what is spoken of.
        ("Is surgery safe?", "no", "Surgery is not safe", True),
        ("Is surgery safe?", "no", "No surgery is safe", None),
        ("Does smoking cause cancer?", "no", "Not smoking does cause cancer", None),
        ("Is there loss of height?", "no", "no height", None),
        (MASS, "no", "The masses are not in the liver", True),
        (MASS, "no", "mass in no liver", None),
        (MASS, "no", "No patient has a mass", None),
        (MASS, "no", "a mass in the liver and nothing", None),
        ("Is the liver normal?", "no", "The liver that is not is normal", None),
        ("Do they differ?", "yes", "that is", None),
        # `None` is less than the denial of a number; `false` may agree.
        ("Are there two nodules?", "no", "none", None),
        ("Is it false that there is a mass?", "yes", "false", None),
        # Short statements.
        (EFFUSION, "no", "None seen", True),
        (EFFUSION, "No, there is no effusion", "Absent", True),
        (EFFUSION, "no", "One is visible.", False),
        (EFFUSION, "yes", "Y", True),
        (MUSIC, "Yes, it lowers anxiety", "It does not", False),
        (MUSIC, "Yes, it lowers anxiety", "It does", True),
        ("Is the left kidney absent?", "no", "Absent", None),
        # Other languages.
        (TUMOUR, "有", "是的，有肿瘤。", True),
        (TUMOUR, "有", "没有", False),
        (TUMOUR, "没有", "有", False),
        (TUMOUR, "没有", "未见肿瘤。", True),
        ("肺里有肿瘤吗？", "有", "有肿瘤", True),
        # Any other word of the question is no topic.
        ("肺里有肿瘤吗？", "有", "有肺", None),
        ("图中有没有肿瘤？", "有", "有没有肿瘤", None),
        ("左肺有积液，右肺有肿瘤吗？", "有", "有肿瘤", None),
        ("¿Hay derrame en el pulmón derecho?", "no", "sin pulmón", None),
        ("¿Hay derrame en el pulmón derecho?", "no", "No hay derrame en el pulmón derecho", True),
        ("Y a-t-il une fracture du fémur ?", "non", "pas de fémur", None),
        ("Gibt es einen Tumor in der Lunge?", "nein", "keine Lunge", None),
        ("¿Hay derrame?", "no", "No hay derrame.", True),
        ("¿Hay derrame?", "no", "Hay derrame.", False),
        ("Y a-t-il un infarctus ?", "non", "Pas d'infarctus", True),
        ("Gibt es einen Erguss?", "nein", "Kein Erguss", True),
        ("هل يوجد انصباب؟", "نعم", "لا يوجد انصباب", False),
    ],
)
def test_a_verdict_is_yes_no_or_maybe(
    question: str | None, reference: str, answer: str, *, expected: bool | None
) -> None:
    """Stated or claimed in the question's words, it decides unless it may be taken back."""
    assert decided(answer, reference, question) is expected


@given(
    st.sampled_from(["yes", "no", "maybe"]),
    st.lists(
        st.sampled_from(
            ["yes", "no", "maybe", "but", "not", "pleural", "effusion", "there", "is", ",", "or"]
        ),
        max_size=8,
    ),
)
def test_a_text_with_two_verdicts_is_never_right(meant: str, pieces: list[str]) -> None:
    """Whoever says yes and maybe has answered neither."""
    if len({"yes", "maybe"} & set(pieces)) > 1:
        assert decided(" ".join(pieces), meant, EFFUSION) is not True


@pytest.mark.parametrize("question", [OPTIONS, INLINE, BRACKETS])
@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("B", "B", True),
        ("(b)", "B", True),
        ("Option B", "B", True),
        ("The answer is B.", "B", True),
        ("B. Left lower lobe collapse", "B", True),
        ("left lower lobe collapse", "B", True),
        ("B", "Left lower lobe collapse", True),
        ("B", "B: left lower lobe collapse", True),
        ("C", "B", False),
        ("asthma", "B", False),
        ("C", "left lower lobe collapse", False),
        ("B. Asthma", "B", False),
        ("B. Something else", "B", None),
        ("collapse of a lobe", "B", None),
        ("pneumonia and asthma", "B", False),
        ("pneumonia or asthma", "B", False),
        ("B or C", "B", False),
    ],
)
def test_a_letter_and_its_text_are_one(
    question: str, answer: str, reference: str, expected: bool | None
) -> None:
    """With the options in the question, letter and text stand for each other."""
    assert decided(answer, reference, question) is expected


SEEN = "What abnormality is seen?"
CHEST = "What does the chest X-ray show?"


@pytest.mark.parametrize(
    ("question", "reference", "answer", "expected"),
    [
        # The same denial in other words.
        (None, "No pneumothorax", "Pneumothorax is absent", True),
        (None, "no fracture", "fracture is not seen", True),
        (None, "No evidence of metastasis", "negative for metastasis", True),
        (None, "no metastasis", "No metastases are identified.", True),
        (None, "no effusion", "There is no effusion", True),
        (None, "without effusion", "free of effusion", True),
        (None, "no free air", "Free air is absent.", True),
        (None, "no pleural effusion or pneumothorax", "No pneumothorax or pleural effusion", True),
        # Another denial, or more than one; the place of the denial counts, and each preposition.
        (None, "fracture without displacement", "no fracture displacement", None),
        (None, "no metastasis to lung", "no metastasis from lung", None),
        (None, "no free air", "no air", None),
        (None, "no negative T waves", "no T waves", None),
        (None, "no signs of life", "no life", None),
        (None, "no Murphy sign", "no Murphy", None),
        (None, "no visible mass", "no mass", None),
        (None, "fever in absence of infection", "no fever in infection", None),
        (None, "hepatitis negative for antibodies", "no hepatitis antibodies", None),
        (None, "no effusion", "no large effusion", None),
        (None, "no fracture", "no acute fracture", None),
        (None, "no effusion or pneumothorax", "no effusion", None),
        (None, "no effusion or pneumothorax", "no effusion, pneumothorax", None),
        (None, "no effusion", "no effusion but consolidation", None),
        (None, "no pneumonia", "pneumonia is not excluded", None),
        (None, "no effusion", "no further effusion", None),
        (None, "benign tumour is absent", "the tumour is not benign", None),
        (None, "no pneumothorax", "small pneumothorax", None),
        # Normal findings.
        (None, "normal", "Unremarkable", True),
        (None, "normal", "No abnormality detected", True),
        (None, "normal", "No abnormal findings.", True),
        (CHEST, "normal", "The chest X-ray is normal.", True),
        (CHEST, "normal", "Unremarkable chest X-ray", True),
        (None, "within normal limits", "WNL", True),
        (None, "No acute findings", "Normal study", True),
        (None, "No acute findings", "No acute abnormality", True),
        (None, "No acute cardiopulmonary process", "No acute cardiopulmonary abnormality.", True),
        (None, "negative", "not detected", True),
        (None, "negative", "The test was not positive", True),
        (SEEN, "none", "There is no abnormality.", True),
        # What is less than normal, or says something else too.
        (None, "normal", "No acute findings", None),
        (None, "No acute cardiopulmonary process", "No acute intracranial process", None),
        (None, "normal", "Normal heart, enlarged liver", None),
        (None, "normal", "No abnormality except a cyst", None),
        (None, "normal", "Not normal", None),
        (None, "normal", "Abnormal", None),
        (None, "normal", "almost normal", None),
        (None, "normal", "negative", None),
        ("Which drug?", "none", "no abnormality", None),
        # A study, organ or process that one of the texts does not name.
        (None, "normal ECG", "normal mammogram", None),
        (None, "normal", "Unremarkable chest X-ray", None),
        (None, "no acute cardiopulmonary process", "normal head CT", None),
        (None, "no acute cardiopulmonary process", "normal", None),
        (None, "negative CT", "nonreactive", None),
        # These questions ask for a change, not for what is abnormal.
        ("Which abnormalities have resolved?", "none", "normal", None),
        ("Which pathology is new?", "none", "normal scan", None),
    ],
)
def test_nothing_is_nothing_in_other_words(
    question: str | None, reference: str, answer: str, *, expected: bool | None
) -> None:
    """A denial or a normal finding equals another only if neither says more."""
    assert decided(answer, reference, question) is expected


@given(
    st.lists(
        st.sampled_from(
            ["no", "normal", "without", "is", "absent", "or", "evidence of", "acute", "and", "but"]
        ),
        max_size=6,
    ),
    st.lists(st.sampled_from(["no", "is", "absent", "seen", "not"]), max_size=3),
)
def test_a_finding_is_never_settled_as_normal(before: list[str], behind: list[str]) -> None:
    """Whatever stands around it, a named finding is no plain normal."""
    answer = " ".join([*before, "cardiomegaly", *behind])
    assert decided(answer, "normal") is not True
    assert decided(answer, "no acute findings") is not True


@pytest.mark.parametrize(
    ("question", "reference", "answer", "expected"),
    [
        (
            "Which vessel is occluded in this photograph?",
            "Central vein",
            "The central vein is occluded.",
            True,
        ),
        (
            "Which lobe is affected?",
            "left lower lobe",
            "The affected lobe is the left lower lobe.",
            True,
        ),
        ("In which organ is the cyst located?", "liver", "The cyst is located in the liver.", None),
        ("Which nodule in the liver is seen?", "cyst", "The cyst in the liver", None),
        ("How does the nodule in the liver appear?", "Bright", "The liver is bright", None),
        ("What nerve controls the muscle that is weak?", "facial", "facial is weak", None),
        ("Is the fracture displaced?", "no", "no fracture", None),
        ("Is the spleen missing?", "no", "No spleen", None),
        ("Which finding is seen?", "none", "none is finding", None),
        ("Which drug is an antagonist of naloxone?", "naloxone", "antagonist of naloxone", None),
        ("Where is the mass?", "lung", "above the lung", None),
        ("What treats gout?", "colchicine", "treats colchicine", None),
        ("Which joint needs replacement?", "hip", "hip replacement", None),
        ("Which receptor binds it?", "dopamine", "dopamine receptor", None),
        ("What is the drug's effect?", "sedation", "The drug is sedation", None),
        (
            "What is the cause of the fever and cough?",
            "flu",
            "The cause of the fever and cough is flu",
            True,
        ),
        ("Which side shows the effusion?", "Left", "It is on the left.", True),
        ("How does the lesion appear?", "Hypoechoic", "The lesion is hypoechoic.", True),
        ("What lies behind the heart?", "aorta", "The aorta lies behind the heart", None),
        ("Which vitamin is needed?", "A", "Vitamin A", None),
        ("Which tumor is a sign?", "A", "a tumor", None),
        # The other order, another word, or a denial.
        ("What is behind the heart?", "aorta", "The aorta is behind the heart", True),
        ("What lies behind the heart?", "aorta", "The heart lies behind the aorta", None),
        (
            "What is located behind the heart?",
            "aorta",
            "The heart is located behind the aorta",
            None,
        ),
        (
            "Which lobe is affected?",
            "left lower lobe",
            "The affected lobe is the right lower lobe.",
            None,
        ),
        (
            "Which lung is affected?",
            "left lung",
            "The left lung and the right lung are affected",
            None,
        ),
        (
            "Which lung is affected?",
            "left lung",
            "The upper lobe of the left lung is affected",
            None,
        ),
        ("Which lung is affected?", "left lung", "The left lung is not affected", None),
        ("Which lung is affected?", "left lung", "Is the left lung affected", None),
        ("Which lung is not affected?", "left lung", "The left lung is affected", None),
        ("Which is the least likely diagnosis?", "asthma", "asthma is likely", None),
        ("Is it in the liver or the spleen?", "liver", "The liver is in the spleen", None),
        ("Which non-small thing?", "small cell carcinoma", "Non-small cell carcinoma", None),
        ("Which status?", "HER2", "HER2+ is status", None),
    ],
)
def test_an_answer_may_restate_its_question(
    question: str, reference: str, answer: str, *, expected: bool | None
) -> None:
    """The reference in a sentence of the whole question is right; any other form is open."""
    assert decided(answer, reference, question) is expected


@pytest.mark.parametrize(
    ("question", "reference", "answer", "expected"),
    [
        # Short forms of sides and places.
        (None, "left lower lobe", "LLL", True),
        (None, "left lower lobe", "Left lower lobe (LLL)", True),
        (None, "right lung", "R lung", True),
        (None, "left", "L", True),
        (None, "Left side", "left-sided", True),
        (None, "bilateral", "both sides", True),
        (None, "right upper quadrant", "RUQ", True),
        (None, "right eye", "OD", True),
        (None, "left ear", "AS", True),
        (None, "aortic stenosis", "AS", None),
        # Drugs and vitamins with two names.
        (None, "aciclovir", "Acyclovir.", True),
        (None, "trimethoprim-sulfamethoxazole", "co-trimoxazole", True),
        (None, "vitamin B1", "thiamine", True),
        (None, "vitamin B12", "thiamine", None),
        (None, "noradrenaline 1 mg", "norepinephrine 1 mg", True),
        (None, "right lower lobe", "LLL", None),
        (None, "right", "L", None),
        (None, "right eye", "od", None),
        (None, "left lower lobe", "Left lower lobe (RLL)", None),
        # A letter may be something else than a side, and two sides something else than both.
        (None, "L lactate", "left lactate", None),
        (None, "tall R wave", "tall right wave", None),
        ("Arteries or veins?", "both", "left and right", None),
        # A capital A and a share are no articles; case and signs have a meaning.
        (None, "positive", "A positive", None),
        (None, "delta fibers", "A-delta fibers", None),
        (None, "third", "a third", None),
        (None, "fracture", "a fracture", True),
        (None, "CO", "Co", None),
        (None, "MRI", "mri", True),
        (None, "HLA-B", "HLA-B*", None),
        (None, "pneumonia", "!pneumonia", None),
        (None, "pneumonia", "□ pneumonia", None),
        # The order of a list, and what a word beside it belongs to, may matter.
        (None, "low, high", "high, low", None),
        (None, "right and left", "left and right", None),
        (None, "left lung and kidney", "kidney and left lung", None),
        (None, "Lymphocytes and plasma cells", "Plasma cells and lymphocytes", None),
        (None, "fever and cough", "cough and no fever", None),
        (None, "7 and 9", "9 and 7", None),
        # Another person, role or source is another statement.
        ("What does the mother have?", "asthma", "The child has asthma", None),
        ("What does the mother have?", "asthma", "asthma in her child", None),
        ("What is the cause?", "heparin", "The treatment is heparin", None),
        ("What does the film show?", "pneumonia", "History shows pneumonia", None),
        ("What does the wife have?", "asthma", "He has asthma", None),
        ("What is excluded?", "asthma", "Asthma is seen", None),
        ("What is seen?", "asthma", "Asthma is seen", True),
    ],
)
def test_only_the_same_statement_is_equal(
    question: str | None, reference: str, answer: str, *, expected: bool | None
) -> None:
    """LLL is the left lower lobe; what may be another thing, order or person is left to the judge."""
    assert decided(answer, reference, question) is expected


ARTERY = (
    "Which artery is most likely occluded?\nA. Left anterior descending artery\n"
    "B. Right coronary artery\nC. Left circumflex artery\nD. Posterior descending artery"
)
MARKERS = "Which are tumour markers of HCC?\nA. AFP\nB. CEA\nC. PIVKA\nD. PSA"
GLOSSARY = "Which is a feature? Options: {'A': 'Ataxia', 'B': 'Chorea', 'C': 'Dystonia'}"
NOT_ASKED = "Which is NOT a feature?\nA. Ataxia\nB. Chorea\nC. Dystonia"
CLUBBING = (
    "Causes of clubbing:\nA. Lung cancer\nB. Cirrhosis\nC. Bronchiectasis\nD. All of the above"
)
VIRUS = "乙型肝炎病毒属于哪一类病毒？\nA. DNA病毒\nB. RNA病毒\nC. 朊病毒"
DOSES = "Which dose?\nA. 5 mg\nB. 50 mg"
STATUS = "What is the status?\nA. HER2+\nB. HER2-"


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The inferior lobe of the left lung", "left lower lobe", True),
        ("inferior lobe of the left lung", "LLL", True),
        ("It is in the superior lobe of the right lung.", "Right upper lobe", True),
        ("lower lobes of both lungs", "bilateral lower lobes", True),
        ("left upper renal pole", "superior pole of the left kidney", True),
        ("left inferior extremity", "left lower limb", True),
        # Another place, or perhaps one.
        ("inferior lobe of the left lung", "left upper lobe", None),
        ("inferior lobe of the right lung", "left lower lobe", None),
        ("left upper pole", "superior pole of the left kidney", None),
        ("left lower lobe", "lower lobe", None),
        ("superior segment of the left lower lobe", "left lower lobe", None),
        ("inferior vena cava", "lower vena cava", None),
        ("upper mesenteric artery", "superior mesenteric artery", None),
        ("upper and lower lobe of the left lung", "left lower lobe", None),
        ("no inferior lobe of the left lung", "left lower lobe", None),
    ],
)
def test_a_place_may_be_named_in_another_order(
    answer: str, reference: str, expected: bool | None
) -> None:
    """Superior is upper beside a lobe, limb, pole, lip, lid or quadrant, and nowhere else."""
    assert decided(answer, reference) is expected


@pytest.mark.parametrize(
    ("question", "reference", "answer", "expected"),
    [
        # A sentence that names a letter as the answer.
        (ARTERY, "B", "Option B is correct.", True),
        (ARTERY, "B", "Therefore, the correct option is (B) Right coronary artery.", True),
        (ARTERY, "Right coronary artery", "**Answer:** B", True),
        (ARTERY, "B", "The answer is B. Note that A is a common distractor.", True),
        (ARTERY, "A", "The answer is B. Note that A is a common distractor.", False),
        (ARTERY, "B", "The right choice is B, since the inferior wall is affected.", None),
        (ARTERY, "B", "The right choice is A, not B.", False),
        (ARTERY, "C", "A, B and D supply other walls, so C.", None),
        (ARTERY, "A", "B, C and D are the others, which leaves A.", None),
        (ARTERY, "C", "Neither A, B nor D. The answer is C.", None),
        (
            ARTERY,
            "D",
            "D. Posterior descending artery\n\nIt is not the right coronary artery.",
            None,
        ),
        (ARTERY, "B", r"The vessel is on the right, so the answer is \boxed{B}.", None),
        (CLUBBING, "All of the above", "Lung cancer and cirrhosis both do, so D.", None),
        # Nothing is chosen by what is denied, taken back, or only mentioned.
        (ARTERY, "B", "The answer is not B.", None),
        (ARTERY, "B", "The answer is B. Actually, it is C.", None),
        (ARTERY, "B", "The answer is B for some, and the answer is C for others.", None),
        (ARTERY, "B", "A is a distractor.", None),
        (ARTERY, "B", "B is correct only if the wall is spared.", None),
        (ARTERY, "B", "B, not sure", None),
        (ARTERY, "B", "Some say the answer is B.", None),
        (ARTERY, "B", "The least likely option is B.", None),
        (ARTERY, "B", "Answer: B? No, C", None),
        (ARTERY, "B", "right coronary artery?", None),
        (ARTERY, "B", "right coronary artery (A)", None),
        (ARTERY, "A", "The answer is a matter of debate.", None),
        (NOT_ASKED, "B", "A is correct.", None),
        (NOT_ASKED, "B", "The answer is B.", True),
        # One option's text in a sentence of the question's own words.
        (ARTERY, "B", "The right coronary artery is occluded.", True),
        (ARTERY, "B", "The left circumflex artery is occluded.", False),
        (ARTERY, "B", "It is the right coronary artery, option B.", True),
        (ARTERY, "B", "The right coronary artery (C)", None),
        (ARTERY, "B", "The right coronary artery is spared.", None),
        (ARTERY, "B", "Not the right coronary artery", None),
        (ARTERY, "B", "A branch of the right coronary artery", None),
        (ARTERY, "B", "The posterior right coronary artery", None),
        (NOT_ASKED, "B", "Chorea is a feature", None),
        (VIRUS, "A", "乙型肝炎病毒属于DNA病毒。", True),
        (VIRUS, "A", "乙型肝炎病毒属于RNA病毒。", False),
        (DOSES, "A", "0.5 mg", None),
        (STATUS, "A", "It is HER2-", False),
        # Letter and text have to be one.
        (ARTERY, "B", "B. Left circumflex artery", False),
        (ARTERY, "B. Right coronary artery", "C. Right coronary artery", False),
        # Several options: all of them, and alternatives are none.
        (MARKERS, "A, C", "A and C", True),
        (MARKERS, "A, C", "C & A", True),
        (MARKERS, "AC", "A, C", True),
        (MARKERS, "A, C", "A and C are correct.", True),
        (MARKERS, "A, C", "AFP and PIVKA", True),
        (MARKERS, "A, C", "A", False),
        (MARKERS, "A, C", "A, B and C", False),
        (MARKERS, "A, C", "AFP alone", False),
        (MARKERS, "A, C", "A or C", False),
        (ARTERY, "B", "The answer is B or C.", False),
        (CLUBBING, "D", "A, B and C", None),
        (CLUBBING, "D", "Lung cancer, cirrhosis and bronchiectasis", None),
        (CLUBBING, "D", "A", False),
        ("What follows?\nA. Pneumonia\nB. Empyema", "B", "Empyema with pneumonia", None),
        (ARTERY, "B", "The answer is A branch of the aorta", None),
        # Other shapes and languages.
        (GLOSSARY, "B", "Chorea", True),
        (GLOSSARY, "Chorea", "B", True),
        (GLOSSARY, "B", "Ataxia", False),
        (ARTERY, "B", "La respuesta es B.", True),
        (ARTERY, "C", "정답은 D 입니다.", False),
        (VIRUS, "A", "正确答案是A。", True),
        (VIRUS, "A", "故选B。", False),
        ("Pick one: (A)Ataxia (B)Chorea", "B", "chorea", True),
        # A question that offers two things.
        ("Is this image taken with CT or MRI?", "MRI", "CT", False),
        ("Is this image taken with CT or MRI?", "MRI", "This is an MRI.", True),
        ("Is this a PA or an AP film?", "PA", "AP", False),
        ("Is this a PA or an AP film?", "PA", "lateral", None),
        (
            "Which lack causes it, of ascorbic acid or vitamin C?",
            "vitamin C",
            "ascorbic acid",
            True,
        ),
    ],
)
def test_options_are_chosen_in_any_plain_way(
    question: str, reference: str, answer: str, *, expected: bool | None
) -> None:
    """By letter or text, in a sentence or alone; who names two has chosen none of them."""
    assert decided(answer, reference, question) is expected


DRUGS = "Which drug? A. aspirin B. heparin C. warfarin"
STOPPED = "Which drug should be stopped? A. aspirin B. heparin"
ALLERGY = "She is allergic to a drug. Which is given next? A. aspirin B. heparin"
GROUPS = "Which blood group? A. O B. A C. B D. AB"


@pytest.mark.parametrize(
    ("question", "reference", "answer"),
    [
        (DRUGS, "B", "The answer is B (warfarin)"),
        (DRUGS, "B", "B. heparin; but the right one is C"),
        (DRUGS, "B", "B. heparin: incorrect. C. warfarin: correct"),
        (DRUGS, "B", "I doubt that the answer is B"),
        (DRUGS, "B", "It is a myth that the answer is B"),
        (DRUGS, "B", "B is correct? Hardly."),
        (DRUGS, "B", "The answer is B for children and C for adults"),
        (DRUGS, "B", "B. But it should be A"),
        (DRUGS, "B", "B. heparin\nNo, C."),
        (DRUGS, "B", "B. heparin, which is contraindicated here"),
        (DRUGS, "B", "Warfarin is right, so B."),
        (DRUGS, "B", "Novices choose B."),
        (DRUGS, "B", "The answer is B. I retract that."),
        (DRUGS, "B", "The answer is B. Note that B is a distractor."),
        (DRUGS, "B", "My colleague's answer is B."),
        (DRUGS, "B", "B. heparin (rejected)"),
        (DRUGS, "B", "Were it a thrombosis, the answer is B."),
        (DRUGS, "A", "A. aspirin\nB. heparin\nC. warfarin"),
        (DRUGS, "B", "B. heparin. " + "It acts at once and is cheap. " * 9),
        (STOPPED, "B", "give heparin"),
        (STOPPED, "B", "use heparin"),
        (ALLERGY, "B", "allergic to heparin"),
        (GROUPS, "B", "A"),
        (GROUPS, "A", "A"),
    ],
)
def test_an_unclear_choice_is_never_right(question: str, reference: str, answer: str) -> None:
    """Whatever else stands beside letter and text leaves the choice to the judge."""
    assert decided(answer, reference, question) is not True


@given(st.text(max_size=100), st.text(max_size=100), st.none() | st.text(max_size=200))
def test_what_is_settled_is_settled_both_ways(one: str, other: str, question: str | None) -> None:
    """Answer and reference may change places, though only a reference may explain its verdict."""
    assert {decided(one, other, question), decided(other, one, question)} != {True, False}


@pytest.mark.parametrize(
    "piece",
    [
        *("a. ", "(a) ", "yes ", "no, ", "- ", "a-", "the answer is ", "1 ", "'a': '", "is there "),
        *("The answer is A. ", "A is correct. ", "A and ", "B, ", "so A", "no effusion or ", "有"),
        *("not seen ", "normal ", "left ", "the left is affected ", "? ", "没有肿瘤"),
    ],
)
@pytest.mark.parametrize("question", [None, ARTERY, EFFUSION, TUMOUR])
def test_long_texts_are_read(piece: str, question: str | None) -> None:
    """A text at the limit of 16 KiB is read like any other."""
    text = (piece * 16_384)[:16_384]
    assert decided(text, "pneumonia", question or text) is not True
    assert decided("B", text, question or text) is not True
