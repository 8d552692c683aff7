"""What excludes what: sides, levels, stages, negations; and what only looks as if it did."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.contrast import contrast
from medreward.guards.lexicon import lexicon as read_lexicon
from medreward.guards.polarity import lexicon
from tests.service.guards.pairs import pair, rule


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("right lower lobe pneumonia", "left lower lobe pneumonia", "contrast.laterality"),
        ("right-sided effusion", "left sided effusion", "contrast.laterality"),
        ("bilateral pneumonia", "left pneumonia", "contrast.laterality"),
        ("RLL pneumonia", "pneumonia of the left lower lobe", "contrast.laterality"),
        ("R knee effusion", "left knee effusion", "contrast.laterality"),
        ("upper lobe", "lower lobe", "contrast.level"),
        ("superior lobe of the left lung", "left lower lobe", "contrast.level"),
        ("inferior lobe of the right lung", "left lower lobe", "contrast.laterality"),
        ("proximal femur", "distal femur", "contrast.level"),
        ("L5/S1 disc herniation", "L4/L5 disc herniation", "contrast.level"),
        ("posterior wall", "anterior wall", "contrast.direction"),
        ("genu varum", "genu valgum", "contrast.direction"),
        ("esotropia", "exotropia", "contrast.direction"),
        ("elevated lipase", "decreased lipase", "contrast.amount"),
        ("hypoglycaemia", "hyperglycemia", "contrast.amount"),
        ("hypotension", "hypertensive", "contrast.amount"),
        ("bradycardia", "tachycardia", "contrast.amount"),
        ("thrombocytopenia", "thrombocytosis", "contrast.amount"),
        ("macrocephaly", "microcephaly", "contrast.size"),
        ("chronic gastritis", "acute gastritis", "contrast.time"),
        ("malignant neoplasm", "benign neoplasm", "contrast.malignancy"),
        ("mild stenosis", "severe stenosis", "contrast.severity"),
        ("acquired toxoplasmosis", "congenital toxoplasmosis", "contrast.onset"),
        ("displaced fracture", "nondisplaced fracture", "contrast.negation"),
        ("displaced fracture", "non-displaced fracture", "contrast.negation"),
        ("unstable angina", "stable angina", "contrast.negation"),
        ("no pneumothorax", "pneumothorax", "contrast.negation"),
        ("pneumothorax", "no evidence of pneumothorax", "contrast.negation"),
        ("pneumothorax was ruled out", "pneumothorax", "contrast.negation"),
        ("effusion is not seen", "effusion", "contrast.negation"),
        ("negative for malignancy", "malignancy", "contrast.negation"),
        (
            "diabetes with ulcer with gangrene",
            "diabetes with ulcer without gangrene",
            "contrast.negation",
        ),
        ("stage II", "stage III", "contrast.stage"),
        ("stage IIIA", "stage 3b", "contrast.stage"),
        ("second-degree burn", "third degree burn", "contrast.stage"),
        ("type 1 diabetes", "type II diabetes", "contrast.type"),
        ("hepatitis B", "hepatitis C", "contrast.type"),
        ("fracture of the 4th metacarpal", "fracture of the fifth metacarpal", "contrast.digit"),
        ("thumb amputation", "index finger amputation", "contrast.digit"),
        ("CD20 positive", "CD25 positive", "contrast.number"),
        ("Le Fort II fracture", "Le Fort III fracture", "contrast.number"),
        ("right kidney, left ureter", "left kidney, right ureter", "contrast.laterality"),
        ("increased LDH, decreased iron", "decreased LDH, increased iron", "contrast.amount"),
    ],
)
def test_what_excludes_the_reference_is_vetoed(answer: str, reference: str, expected: str) -> None:
    """A member of a group stands against another of the same group, by the group's rule."""
    assert rule(contrast, answer, reference) == expected


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("lower lobe pneumonia", "left lower lobe pneumonia"),
        ("left lower lobe pneumonia with effusion", "pneumonia"),
        ("pneumonia of the left and right lung", "bilateral pneumonia"),
        ("left pneumonia", "unilateral pneumonia"),
        ("elevated lipase", "increased lipase"),
        ("hyperglycaemia", "hyperglycemia"),
        ("superior lobe", "upper lobe"),
        ("type 2 diabetes", "type II diabetes"),
        ("grade three", "grade III"),
        ("stage III", "stage IIIA"),
        ("5th finger", "little finger"),
        ("syndactyly of fingers 3-5", "syndactyly of the 3rd, 4th and 5th finger"),
        ("CD25 deficiency", "interleukin-2 receptor deficiency"),
        ("fracture without displacement", "nondisplaced fracture"),
        ("absent thumb", "aplasia of the thumb"),
        ("absent thumbs", "missing thumbs"),
        ("sparse eyelashes", "partial absence of eyelashes"),
        ("pneumothorax cannot be excluded", "pneumothorax"),
        ("pneumonia, no effusion", "pneumonia"),
        ("no fever, chills or cough", "no fever or chills"),
        ("not only pneumonia", "pneumonia"),
        ("petit mal seizure", "absence seizure"),
        ("low HDL", "decreased high-density lipoprotein"),
        ("acute on chronic subdural haematoma", "acute-on-chronic subdural hematoma"),
        ("glucose 5 mmol/L", "glucose of 5 mmol/L"),
        ("", "left"),
    ],
)
def test_omission_and_other_words_for_the_same_are_not_vetoed(answer: str, reference: str) -> None:
    """What says less, more, or the same otherwise is left to the judge."""
    assert rule(contrast, answer, reference) is None


OPPOSITES: dict[str, list[tuple[str | None, str, str]]] = {
    "place": [
        ("Where is the tip?", "2 cm above the carina", "It lies 2 cm below the carina."),
        (None, "superior to the bladder", "below the bladder"),
        (None, "behind the uterus", "in front of the uterus"),
        (None, "within the joint capsule", "outside the joint capsule"),
        (None, "toward the affected side", "away from the affected side"),
        (None, "head of the pancreas", "tail of the pancreas"),
    ],
    "order": [
        ("When is it taken?", "30 minutes before breakfast", "30 minutes after breakfast"),
        (None, "left-to-right shunt", "right-to-left shunt"),
        (None, "Bleeding follows the fever", "Fever follows the bleeding"),
        (None, "upstream of the stenosis", "downstream of the stenosis"),
    ],
    "comparison": [
        (None, "more common in men", "less common in men"),
        (None, "higher mortality", "lower mortality"),
        (None, "It shortens the stay", "It lengthens the stay"),
        (None, "higher than plasma", "The content is lower than that of plasma."),
    ],
    "action": [
        (None, "discontinue warfarin", "continue warfarin"),
        (None, "start insulin", "stop insulin"),
        (None, "rule in sepsis", "rule out sepsis"),
        (None, "withhold warfarin", "give warfarin"),
        (None, "Begin prednisolone", "Prednisolone should be ceased."),
        (None, "argues against sepsis", "It argues for sepsis."),
        (None, "remove the drain", "insert the drain"),
    ],
    "amount": [
        (None, "The nodule is unchanged", "The nodule has resolved"),
        (None, "unchanged nodule", "enlarged nodule"),
        (None, "高密度灶", "低密度灶"),
        (None, "hipoglucemia", "hiperglucemia"),
        (None, "isodense", "hyperdense"),
        (None, "hypo-oestrogenism", "hyperestrogenism"),
        (None, "hypoaesthesia", "hyperesthesia"),
        ("What do the labs show?", "TSH is decreased", "TSH is increased"),
    ],
    "grade": [(None, "well differentiated tumor", "The tumor is poorly differentiated.")],
    "function": [(None, "CYP3A4 inducer", "an inhibitor of CYP3A4")],
    "vessel": [(None, "insuffisance mitrale", "rétrécissement mitral")],
    "time": [(None, "new infarct", "an old infarct")],
    "level": [
        (None, "UMN lesion", "LMN lesion"),
        (None, "Infiltrat im Oberlappen", "Infiltrat im Unterlappen"),
    ],
    "echo": [(None, "hypoechoic nodule", "The nodule is hyperechoic.")],
    "view": [(None, "PA view", "AP view")],
    "letter": [
        (None, "Child-Pugh B", "Child-Pugh C"),
        (None, "Mallampati A", "Mallampati C"),
        (None, "T-cell lymphoma", "A B-cell lymphoma"),
        (None, "protein C deficiency", "Deficiency of protein S"),
    ],
    "label": [
        (None, "P = aorta, Q = bladder", "P = bladder, Q = aorta"),
        (None, "1: liver; 2: spleen", "1 is the spleen and 2 is the liver"),
        (None, "A = ureter; B = bladder", "A is the bladder; B is the ureter."),
    ],
    "lookalike": [
        (None, "nephritic syndrome", "nephrotic syndrome"),
        (None, "ilium", "It is the ileum."),
        (None, "preeclampsia", "Eclampsia"),
        (None, "influenza", "parainfluenza"),
        (None, "hydralazine", "Give hydroxyzine."),
        (None, "hyponatremia", "hypoglycemia"),
    ],
    "part": [
        ("Which organs?", "liver, kidney, spleen", "liver and kidney"),
        ("What is seen?", "cardiomegaly and pleural effusion", "cardiomegaly"),
        ("Which two are torn?", "supraspinatus and infraspinatus", "The supraspinatus is torn."),
    ],
    "laterality": [
        ("Which side?", "left side", "R"),
        ("Welche Niere?", "linke Niere", "Die rechte Niere"),
        ("Quel côté ?", "poumon gauche", "Le poumon droit"),
        ("¿Qué pulmón?", "pulmón izquierdo", "El pulmón derecho"),
        (None, "左肺", "右侧肺"),
        (None, "الرئة اليسرى", "الرئة اليمنى"),
        (
            "Findings?",
            "Displaced fracture of the left third rib with a small hemothorax, no other injury.",
            "There is a displaced fracture of the third rib on the right, with a small hemothorax.",
        ),
        ("What is absent?", "left kidney", "No right kidney; the left kidney is large"),
        (
            "Which kidney is absent?",
            "right kidney",
            "There is no left kidney.",
        ),
        ("Which knee?", "left knee", "The right knee rather than the left one."),
    ],
    "malignancy": [
        (None, "benign", "It is not benign"),
        (None, "malignant", "no malignant cells"),
        (None, "follicular adenoma", "follicular carcinoma"),
        (None, "良性肿瘤", "恶性肿瘤"),
    ],
    "result": [
        (None, "normal", "The spleen is not normal"),
        (None, "positively correlated", "negatively correlated"),
    ],
    "direction": [
        (None, "dorsiflexion of the foot", "plantar flexion of the foot"),
        ("Welche Ebene?", "axial", "koronar"),
        (
            "Which ligament is torn?",
            "anterior cruciate ligament",
            "The posterior cruciate ligament; the anterior one is intact.",
        ),
    ],
    "negation": [
        ("What is missing?", "gallbladder", "The gallbladder is in place."),
        ("Name the missing organ.", "There is no spleen.", "The spleen is present."),
        (None, "riñón sin hidronefrosis", "riñón con hidronefrosis"),
        (None, "sans épanchement", "avec épanchement"),
        (None, "ohne Erguss", "mit Erguss"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "question", "reference", "answer"),
    [(kind, *one) for kind, cases in OPPOSITES.items() for one in cases],
)
def test_opposites_are_vetoed_by_kind(
    kind: str, question: str | None, reference: str, answer: str
) -> None:
    """Whatever the sentence around it, the other member is another answer."""
    assert rule(contrast, answer, reference, question) == f"contrast.{kind}"


@pytest.mark.parametrize(
    ("question", "reference", "answer"),
    [
        # Who denies a member does not state it, and of two that exhaust it states the other.
        (None, "benign", "No, this is not malignant"),
        (None, "cannot be determined", "That can't be determined here"),
        (None, "a gluten-free diet", "a diet without gluten"),
        (None, "a gluten-free diet", "avoidance of gluten"),
        ("What does the patient deny?", "chest pain", "He has no chest pain."),
        ("What was given?", "ACE inhibitor", "an inhibitor of ACE induced it"),
        # A comparison may be told from its other end.
        ("Which kidney is larger?", "left", "The right kidney is smaller than the left."),
        (
            "Which is more common?",
            "ischemic",
            "Hemorrhagic ones are less common than ischemic ones.",
        ),
        (None, "Lower in preterm than in term infants", "Higher in term than in preterm infants"),
        ("Which is first?", "atrial contraction", "The ventricles contract after the atria."),
        # Doses of a day and at a time are ranges of one unit.
        (None, "80–90 mg/kg/day in two doses", "40–45 mg/kg twice, i.e. 80–90 mg/kg per day"),
        (None, "24–28 weeks", "Between the 24th and the 28th week"),
        (None, "abnormal", "The spleen is not normal"),
        (None, "normal", "Nothing abnormal was found"),
        (None, "systolic murmur", "Holosystolic murmur, no diastolic component"),
        (None, "normal leukocyte count", "White cells are not elevated"),
        (None, "stable angina", "angina, not unstable"),
        # What is asked for is what is not there.
        ("Which enzyme is deficient?", "alpha-galactosidase", "Lack of alpha-galactosidase"),
        ("Which kidney is missing?", "left kidney", "There is no left kidney"),
        ("What is absent?", "left kidney", "No left kidney; the right kidney is large"),
        ("Which protein is missing?", "IgA", "IgA is absent; IgG is normal"),
        ("Which protein is missing?", "IgA", "IgA, not IgG"),
        ("Which side is missing?", "left breast", "The left one; the right breast is present."),
        ("Which reflex is lost?", "ankle reflex", "The ankle reflex is absent"),
        ("What should be avoided?", "NSAIDs", "Do not give NSAIDs"),
        # A clause may speak of something else.
        ("What do the labs show?", "decreased TSH", "Undetectable TSH with an elevated free T4"),
        ("Which meniscus is torn?", "medial meniscus", "The inner one; the lateral is intact."),
        ("Which nerve?", "radial nerve", "The radial nerve, unlike the ulnar one"),
        ("Where?", "right upper and middle lobes", "All of the right lung but its lower lobe"),
        (None, "start insulin", "Stop metformin and start insulin"),
        (None, "before birth", "prenatally, not after birth"),
        (None, "T cells", "T lymphocytes; B cells are few"),
        (None, "above the diaphragm", "superior to the diaphragm, below the heart"),
        # Negations on both sides.
        (None, "appendicitis (no perforation)", "Appendicitis; perforation: no"),
        (None, "No suspicious lesion.", "The lesion is a cyst; there is no other one."),
        (None, "Clear lungs", "Neither lung is consolidated."),
        (None, "sin derrame", "No hay derrame"),
        (None, "kein Erguss", "Ein Erguss ist nicht nachweisbar"),
        (None, "absent pulse", "The pulse is not palpable and cannot be detected."),
        (None, "Partial absence of the septum", "Only part of the septum is present"),
        # The normal is what something is measured against.
        (None, "elevated ferritin", "An above normal level of ferritin"),
        (None, "abnormal calcium", "Any deviation from the normal concentration of calcium"),
        (None, "delayed ossification", "Ossification is less advanced than expected"),
        # Words with more than one meaning.
        (None, "late-stage disease", "advanced disease"),
        (None, "1 tablet at night", "One tablet a day, at bedtime"),
        (None, "The effusion has improved", "The effusion has partially resolved"),
        (None, "Gallbladder perforation", "Gall bladder perforation"),
        (None, "hypoestrogenism", "hypo-oestrogenism"),
        (None, "gastroesophageal reflux", "gastro-oesophageal reflux"),
        # Lists that are none, or of which one member is enough.
        ("Name one symptom.", "cough, fever", "fever"),
        (None, "heart attack, myocardial infarction", "heart attack"),
        ("What are the findings?", "Pneumonia, right lower lobe", "Pneumonia"),
        (None, "nausea and vomiting", "vomiting and nausea"),
        (None, "A: aorta; B: bladder", "B is the bladder and A is the aorta"),
        (None, "P: aorta; Q: bladder", "Q is the bladder and P is the aorta"),
        ("Which side?", "left side", "L"),
    ],
)
def test_what_only_looks_like_an_opposite_is_let_through(
    question: str | None, reference: str, answer: str
) -> None:
    """A word of the other member states it only where the sentence does."""
    assert rule(contrast, answer, reference, question) is None


ANOTHER_NAME = {
    "abbreviation": [
        ("Right coronary artery", "RCA in 90%, left circumflex in 10%", None),
        ("Acute kidney injury", "AKI on chronic kidney disease", None),
        ("Acute kidney injury", "chronic AKI", "contrast.time"),
        ("Left renal vein", "LRV; the right one drains into the cava", None),
        ("Left atrium", "LA enlargement, displacing the right heart border", None),
        ("Intramuscular epinephrine", "IM epinephrine, not intravenous", None),
        ("Intramuscular epinephrine", "Intravenous epinephrine", "contrast.route"),
        ("Left renal vein", "Right RV", "contrast.laterality"),
    ],
    "synonym": [
        ("Hypocalcemia", "Low calcium; hypercalcemia shortens the QT", None),
        ("Hypocalcemia", "The labs show hypercalcemia", "contrast.amount"),
        ("Vasodilation", "Widening of the vessels; vasoconstriction raises pressure", None),
        ("Right lung pneumonia", "Pneumonia: left lung", "contrast.laterality"),
        ("Right kidney", "Final answer: the left kidney", "contrast.laterality"),
    ],
    "direction": [
        ("It decreases", "Preload falls, heart rate increases", None),
        ("It increases", "Goes up; elastic recoil is reduced", None),
        ("Preload decreases", "Preload rises", "contrast.amount"),
        ("Preload decreases", "Preload goes up", "contrast.amount"),
    ],
    "told from the other side": [
        (
            "The right atrium is larger than the left",
            "The left is smaller than the right one",
            None,
        ),
        ("Right hemianopia", "Contralateral hemianopia (left tract)", None),
        ("Right hemianopia", "Left hemianopia", "contrast.laterality"),
        ("Left knee", "The right knee rather than the left", "contrast.laterality"),
    ],
    "denied kind": [
        ("Pericardial effusion", "Hemopericardium; no pleural effusion", None),
        ("Ischemic stroke", "Cerebral infarction, not a hemorrhagic stroke", None),
        ("Pericardial effusion", "No pleural effusion", "contrast.negation"),
        ("Pericardial effusion", "Clear lungs, no pericardial effusion", "contrast.negation"),
        ("Non-contrast CT", "CT (no contrast); contrast-enhanced CT hides stones", None),
        ("Non-contrast CT", "Contrast CT", "contrast.negation"),
        ("p < 0.01", "It was not below 0.01", "contrast.negation"),
    ],
}


@pytest.mark.parametrize(
    ("reference", "answer", "expected"), [one for cases in ANOTHER_NAME.values() for one in cases]
)
def test_the_other_member_may_explain_another_name(
    reference: str, answer: str, expected: str | None
) -> None:
    """What follows a synonym or an abbreviation of the reference may speak of its opposite."""
    assert rule(contrast, answer, reference) == expected


LOOKALIKES = [line.split() for line in read_lexicon("lookalikes")["terms"]]


def test_there_are_many_lookalikes() -> None:
    """At least 150 pairs, none of a term with itself."""
    pairs = [pair for terms in LOOKALIKES for pair in combinations(terms, 2)]
    assert len(pairs) >= 150
    assert all(one != other for one, other in pairs)


@given(st.sampled_from(LOOKALIKES).flatmap(st.permutations))
def test_lookalikes_exclude_each_other(terms: list[str]) -> None:
    """Each term of a group against each other one, and none that is only denied."""
    one, other = (term.split(",")[0] for term in terms[:2])
    assert rule(contrast, one, other) is not None
    assert rule(contrast, f"{one}, not {other}", one) is None


def test_the_spans_show_both_words() -> None:
    """A veto shows what stands against what, in the texts as they came."""
    answer, reference = "Pneumonia, RIGHT lung", "Left lung pneumonia"
    veto = contrast(pair(answer, reference))
    assert veto is not None
    assert answer[slice(*veto.span)] == "RIGHT"
    assert veto.reference_span is not None
    assert reference[slice(*veto.reference_span)] == "Left"


def test_in_long_texts_both_words_stand_by_one_noun() -> None:
    """Two findings of one report are no contrast, for all that one is mild and one severe."""
    findings = "heart size normal, lungs clear, bones intact, soft tissues unremarkable, "
    assert (
        rule(contrast, f"{findings} mild scoliosis", f"{findings} severe emphysema of the lungs")
        is None
    )
    assert rule(contrast, f"{findings} mild scoliosis", f"{findings} severe scoliosis") is not None


@given(st.text(max_size=200))
def test_no_text_excludes_itself(text: str) -> None:
    """Whatever a text is, it is no contrast to itself."""
    assert rule(contrast, text, text) is None


WORDS = sorted({*lexicon().words, "no", "without", "not", "stage", "II", "3rd"})


@given(*[st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)] * 2)
def test_a_contrast_is_one_both_ways(one: str, other: str) -> None:
    """Whether two texts exclude each other does not depend on which is the reference."""
    assert (rule(contrast, one, other) is None) == (rule(contrast, other, one) is None)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "no ",
            "not excluded ",
            "left right ",
            "stage II ",
            "3-",
            "L",
            "L ",
            "un",
            ", ",
            "absent ",
        ),
        *("A: x; ", "and, ", "all but ", "is not ", "左", "   ", "above x ", "no: ", "than "),
    ],
)
def test_long_texts_are_read(piece: str) -> None:
    """A text at the limit of 16 KiB is read like any other."""
    assert rule(contrast, (piece * 16_384)[:16_384], "effusion") in {None, "contrast.negation"}
