"""Quantities: the same in other units, and what is another value."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medreward.guards.measures import measured, number
from medreward.guards.normal import normal
from medreward.guards.quantities import quantities, same_quantity
from tests.service.guards.pairs import pair, rule


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("0.5 g", "500 mg"),
        ("1 L", "1000 mL"),
        ("500 mcg", "500 µg"),
        ("500 ug", "0.5 mg"),
        ("1,000 mg", "1 g"),
        ("0,5 mg", "0.5 mg"),
        ("98.6 °F", "37 °C"),
        ("5 x 10^9/L", "5 × 10⁹/L"),
        ("5 x 10^9/L", "5000 cells/µL"),
        ("5 mg/dL", "50 mg/L"),
        ("100 mg/kg/day", "100 mg/kg per day"),
        ("72 bpm", "72 beats/min"),
        ("aspirin 5 mg twice daily", "aspirin 5 mg bid"),
        ("every 8 hours", "t.i.d."),
        ("q12h", "2 times a day"),
        ("3-5 cm", "3 to 5 cm"),
        ("4 cm", "3–5 cm"),
        ("about 5.2 cm", "5 cm"),
        ("< 5 cm", "3 cm"),
        ("5 mg", "aspirin"),
        ("5 mg", "5 mL"),
        ("IL-2", "IL-6"),
        ("CD25", "CD20"),
        ("12 %", "12 percent"),
        ("a 20 % decrease", "-20%"),
        ("14G", "12 g"),
        ("5 mM", "6 mm"),
        ("4 g", "4 g per day"),
        ("1 g/dL", "1 %"),
        ("4.1 mEq/L", "4.1 mmol/L"),
        ("37°", "37 °C"),
        ("5 mg and 5 mL", "5 mg"),
        ("400 micrograms per day (4 mg if at risk)", "0.4 mg daily"),
    ],
)
def test_what_may_be_the_same_is_not_vetoed(answer: str, reference: str) -> None:
    """Units, ranges, bounds and names make no difference by themselves."""
    assert rule(quantities, answer, reference) is None
    assert rule(quantities, reference, answer) is None


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("50 mg", "5 mg", "quantity.value"),
        ("5 mcg", "5 mg", "quantity.unit"),
        ("2 weeks", "2 days", "quantity.unit"),
        ("5 x 10^8/L", "5 x 10⁹/L", "quantity.value"),
        ("8-9 cm", "3–5 cm", "quantity.value"),
        ("> 5 cm", "< 5 cm", "quantity.value"),
        ("5 mg qid", "5 mg bid", "quantity.value"),
        ("5 mg once daily", "5 mg twice daily", "quantity.value"),
        ("15 %", "1.5 %", "quantity.value"),
        ("15 mg every 6 hours", "15 mg/kg every 6 hours", "quantity.unit"),
        ("7.0 mg/dL", "7.0 mmol/L", "quantity.unit"),
        ("6.5 mmol/mol", "6.5 %", "quantity.unit"),
        ("5.6 cm²", "5.6 cm", "quantity.unit"),
        ("a 54-year-old man", "a 45-year-old man", "quantity.value"),
    ],
)
def test_another_value_or_unit_is_vetoed(answer: str, reference: str, expected: str) -> None:
    """The same dimension with a value that neither text shares is a contrast."""
    assert rule(quantities, answer, reference) == expected


def test_the_spans_are_of_the_texts_as_they_came() -> None:
    """A veto shows both quantities, whatever folding did to the texts."""
    answer, reference = "ﬁnding: 5 × 10⁸/L", "5 × 10⁹/L, ﬁnding"
    veto = quantities(pair(answer, reference))
    assert veto is not None
    assert answer[slice(*veto.span)] == "5 × 10⁸/L"
    assert veto.reference_span is not None
    assert reference[slice(*veto.reference_span)] == "5 × 10⁹/L"


def test_the_spans_of_spelled_numbers_are_of_the_texts_as_they_came() -> None:
    """A number in words keeps its place, and so does what follows it."""
    answer, reference = "Take a half, for twenty-one days.", "Take one, for two and a half weeks."
    veto = quantities(pair(answer, reference))
    assert veto is not None
    assert answer[slice(*veto.span)] == "twenty-one days"
    assert veto.reference_span is not None
    assert reference[slice(*veto.reference_span)] == "two and a half weeks"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("On arrival the BP was 220/140 and falling", "quantity.value"),
        ("On arrival the BP was 110/70 and falling", None),
        ("The murmur was 3/6, the pressure normal", None),
    ],
)
def test_blood_pressures_need_no_unit(answer: str, expected: str | None) -> None:
    """Two numbers with a stroke are a blood pressure where a text speaks of one."""
    assert rule(quantities, answer, "BP was 110/70 mmHg.") == expected


def test_long_lists_of_numbers_are_left_to_the_judge() -> None:
    """More numbers than a guard reads are none."""
    listed = ", ".join(f"{number} mg" for number in range(1, 200))
    assert measured(normal(listed)) == ()


@pytest.mark.parametrize(
    ("digits", "value"),
    [
        ("1000", 1000),
        ("1,000", 1000),
        ("1,000,000", 1_000_000),
        ("1.000.000", 1_000_000),
        ("0,5", 0.5),
        ("0,500", 0.5),
        ("1,5", 1.5),
        ("1.500", 1.5),
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
    ],
)
def test_commas_are_read_as_people_write_them(digits: str, value: float) -> None:
    """A comma is decimal where it cannot part thousands."""
    assert number(digits) == value


R, W, OPEN = True, False, None

SETTLED: dict[str, list[tuple[str | None, str, str, bool | None]]] = {
    "pairs and fractions": [
        (None, "120/80 mmHg", "180/120 mmHg", W),
        (None, "120/80 mmHg", "80/120 mmHg", W),
        (None, "120/80 mmHg", "120/80 mm Hg", R),
        (None, "120/80 mmHg", "120 over 80", R),
        (None, "120/80 mmHg", "BP 120/80", R),
        (None, "120/80 mmHg", "120 mmHg", OPEN),
        ("What blood pressure was recorded?", "120/80 mmHg", "It was 185 over 115.", W),
        (None, "25/100 mg", "25 mg/100 mg", R),
        (None, "25/100 mg", "50/200 mg", W),
        (None, "800/160 mg", "160/800 mg", OPEN),
        (None, "½ tablet", "half a tablet", R),
        (None, "½ tablet", "0.5 tablet", R),
        (None, "½ tablet", "¼ tablet", W),
        ("How much of a tablet?", "½ tablet", "half a dose", OPEN),
        (None, "3/17 nodes", "3/5 nodes", W),
        (None, "2/15 nodes", "2/3 nodes", W),
        (None, "4/5", "3/5", W),
        (None, "20/20", "6/6", OPEN),
        (None, "3+", "2+", W),
        (None, "10/hpf", "10 per hpf", R),
        (None, "10/hpf", "10/lpf", W),
        (None, "5 mg/5 mL", "1 mg/mL", R),
        ("What was the pain score?", "8 out of 10", "It was 8/10.", R),
        ("What was the pain score?", "8 out of 10", "It was 8/100.", W),
        (None, "7 and 9", "7/9", R),
        (None, "7 and 9", "9 and 7", OPEN),
        ("What was the pressure?", "135/85 mmHg", "Systolic 135, diastolic 85 mmHg.", R),
        ("What was the pressure?", "135/85 mmHg", "Systolic 85, diastolic 135 mmHg.", W),
        ("What was the pressure?", "135/85 mmHg", "A systolic pressure of 135.", OPEN),
    ],
    "ratios": [
        (None, "2:1", "two to one", R),
        (None, "1:4", "4:1", W),
        (None, "1:4", "2:8", OPEN),
        (None, "1:4", "1 in 4", OPEN),
        (None, "1:1000", "1 in 1000", R),
        (None, "1:1000", "1:10,000", W),
        (None, "1:4", "1 to 4", R),
    ],
    "numbers in words": [
        (None, "5", "five", R),
        ("How many lesions are there?", "2", "There are two lesions.", R),
        ("How many lesions are there?", "2", "There are three lesions.", W),
        ("How many lesions are there?", "2", "Two or three", OPEN),
        ("How many lesions are there?", "2", "one on each side", OPEN),
        ("How many lesions are there?", "1", "More than one", W),
        ("How many lesions are there?", "3", "at least 3", OPEN),
        (None, "12", "a dozen", R),
        (None, "48 hours", "two days", R),
        (None, "120", "one hundred and twenty", R),
        (None, "28%", "thirty-eight percent", W),
        ("How many lobes has the right lung?", "3", "The left lung has three lobes.", OPEN),
    ],
    "per cent": [
        ("What percentage recurs?", "28%", "28", R),
        ("What percentage recurs?", "28%", "28 patients", OPEN),
        ("What percentage recurs?", "28%", "82", W),
        (None, "28%", "0.28", R),
        (None, "28%", "28", OPEN),
        (None, "28%", "twenty-eight percent", R),
        (None, "28%", "$28\\%$", R),
        (None, "28%", "About 28% of patients", R),
        (None, "25%", "one in four", R),
        (None, "25%", "a quarter", R),
        (None, "25%", "one in three", W),
        (None, "33%", "a third", R),
        (None, "66%", "two thirds", OPEN),
        (None, "67%", "two thirds", R),
        (None, "1/4", "25%", R),
        ("How many percent responded?", "36", "36 %", R),
        ("How many percent responded?", "36", "36% did not respond, so it is 64%.", OPEN),
        ("What share did not respond?", "36%", "36% responded", OPEN),
        ("Report the LVEF.", "LVEF 35%", "0.35", R),
        ("Report the LVEF.", "LVEF 35%", "0.53", W),
        ("By how much did it fall?", "20%", "It fell to 20%.", OPEN),
        (None, "20% lower", "20% higher", OPEN),
        ("What percentage recurs?", "25", "one in four", R),
        ("What percentage recurs?", "25", "one in three", W),
        ("What share relapses?", "25%", "One in three patients relapses early.", W),
        ("What share relapses?", "25%", "A little over a quarter of them.", OPEN),
        ("By how much did it fall?", "20%", "by 20%", R),
        (None, "50%", "one in three", W),
        (None, "more than half", "< 50%", OPEN),
    ],
    "ranges and bounds": [
        (None, "30-40%", "35%", OPEN),
        (None, "30-40%", "40%", OPEN),
        (None, "30-40%", "45%", W),
        ("What is the confidence interval?", "30-40%", "35%", OPEN),
        (None, "35%", "30-40%", OPEN),
        (None, "10-15 mg", "between 10 and 15 mg", R),
        (None, "7-10 days", "10 days", OPEN),
        (None, "7-10 days", "14 days", W),
        (None, "at least 2 weeks", "2 weeks or more", R),
        (None, "at least 2 weeks", "at most 2 weeks", W),
        (None, "< 5 mm", "less than 5 mm", R),
        (None, "< 5 mm", "> 5 mm", W),
        (None, "p < 0.05", "p<0.05", R),
        ("What was p?", "p < 0.05", "It was less than 0.05.", R),
        ("What was p?", "p < 0.05", "It was not below 0.05.", OPEN),
        (None, "p < 0.05", "p < 0.01", W),
        (None, "p < 0.05", "p = 0.03", OPEN),
        (None, "about 5 mg", "5 mg", R),
        (None, "5 mg", "about 5 mg", OPEN),
        (None, "> 50%", "more than half", R),
        (None, "p < 0.05", "p<.05", R),
        (None, "10 mm or less", "no more than 10 mm", R),
        (None, "5 mg, 10 mg", "10 mg, 20 mg", W),
        (None, "5 mg, 10 mg", "10 mg, 5 mg", OPEN),
    ],
    "temperatures": [
        (None, "38.5 °C", "38.5 degrees Celsius", R),
        (None, "38.5 °C", "101.3 F", R),
        (None, "38.5 °C", "38.5 °F", W),
        (None, "38.2 °C", "38.2 C", R),
        ("What is the temperature?", "38.2 °C", "38.2", R),
        (None, "98.6 °F", "98.6 degrees", OPEN),
        (None, "38 °C", "101.3 °F", OPEN),
    ],
    "units": [
        (None, "1 g", "1000 mg", R),
        (None, "3 cm", "1.2 inches", R),
        (None, "3 cm", "3 inches", W),
        (None, "65 kg", "143 lb", R),
        (None, "5 × 10⁹/L", "5,000/µL", R),
        (None, "10^5 CFU/mL", "10^3 CFU/mL", W),
        (None, "2 mg/kg", "2 mg/m²", W),
        (None, "100/min", "100 beats per minute", OPEN),
        (None, "100 bpm", "100 beats per minute", R),
        (None, "20 breaths per minute", "20 beats per minute", OPEN),
        (None, "20 pack-years", "20 packs a year", OPEN),
        (None, "BMI 32", "BMI of 32 kg/m2", R),
        ("What is the potassium?", "5.9 mEq/L", "5.9 mmol/L", R),
        ("What is the calcium?", "5.9 mEq/L", "5.9 mmol/L", OPEN),
        ("What was the glucose?", "126 mg/dL", "7.0 mmol/L", R),
        ("What was the glucose?", "126 mg/dL", "5.0 mmol/L", W),
        (None, "126 mg/dL", "7.0 mmol/L", OPEN),
        ("How many weeks?", "6 weeks", "6", R),
        ("How many weeks?", "6 weeks", "7", W),
        ("How long?", "6 weeks", "6", OPEN),
        (None, "72 bpm", "72 breaths per minute", OPEN),
    ],
    "times": [
        (None, "2 weeks", "14 days", R),
        (None, "a week", "7 days", R),
        (None, "3 months", "12 weeks", R),
        (None, "1 year", "12 months", R),
        ("When should it be repeated?", "in 6 months", "Repeat it after half a year.", R),
        ("When should it be repeated?", "in 6 months", "Repeat it in 6 weeks.", W),
        ("How long should it be given?", "5 days", "after 5 days", OPEN),
        (None, "32 weeks and 4 days", "32 4/7 weeks", R),
        (None, "32 weeks and 4 days", "32+4 weeks", R),
        ("What is the gestational age?", "32 weeks and 4 days", "32+5", W),
        (None, "10 days", "1.5 weeks", OPEN),
        (None, "6 months", "26 weeks", R),
        (None, "6 months", "20 weeks", W),
        ("How old is he?", "45-year-old man", "a man aged 45", R),
        ("How deep is the ulcer?", "8 mm", "It is eight millimetres deep.", R),
        ("How deep is the ulcer?", "8 mm", "The margin is 8 mm wide.", OPEN),
        ("How much blood was lost?", "1.2 L", "1,200 ml of blood", R),
        (None, "90 minutes", "an hour and a half", R),
        (None, "24 weeks", "23 weeks and 4 days", OPEN),
        (None, "10-12 weeks", "a quarter of a year", OPEN),
    ],
    "dimensions": [
        (None, "3 x 4 cm", "30 × 40 mm", R),
        (None, "3 x 4 cm", "4 cm by 3 cm", R),
        (None, "3 x 4 cm", "3 x 6 cm", W),
        (None, "3 x 4 x 5 cm", "3 x 4 cm", OPEN),
        (None, "2 x 5 cm", "2 in x 5 in", W),
        (None, "5 mg over 10 minutes", "10 mg over 5 minutes", W),
        (None, "2 x 5 mg", "2 x 5 mg", R),
    ],
    "dates": [
        (None, "March 5, 2021", "5 March 2021", R),
        (None, "March 5, 2021", "2021-03-05", R),
        (None, "March 5, 2021", "the 6th of March, 2021", W),
        (None, "March 5, 2021", "3/5/2021", OPEN),
        (None, "March 15, 2021", "3/15/2021", R),
        (None, "March 5, 2021", "5 March", OPEN),
        (None, "3/5/2021", "5/3/2021", OPEN),
    ],
    "stages, ordinals and levels": [
        (None, "stage IIB", "Stage 2B", R),
        (None, "stage IIB", "stage IIIB", W),
        (None, "stage III", "stage IIIA", OPEN),
        ("What is the stage?", "IIIA", "Stage: 3a", R),
        ("What grade?", "IV", "4", R),
        (None, "grade III", "Grade 3", R),
        (None, "fourth metacarpal", "4th metacarpal", R),
        (None, "fourth metacarpal", "5th metacarpal", W),
        (None, "seventh cranial nerve", "cranial nerve VII", R),
        (None, "4th and 5th ribs", "fourth and fifth ribs", R),
        (None, "4th and 5th ribs", "4th and 6th ribs", W),
        (None, "L4-L5", "L4/5", R),
        (None, "L4-L5", "L5-S1", W),
        ("Which stage is it?", "IIIA", "By size it falls into stage IIIC.", W),
        ("Which stage is it?", "IIIA", "By size it falls into the third stage.", OPEN),
        ("What grade?", "IV", "5", W),
        ("How many?", "grade IV", "4", OPEN),
    ],
    "doses": [
        (None, "twice daily", "BID", R),
        (None, "twice daily", "every 12 hours", R),
        (None, "three times daily", "q6h", W),
        (None, "daily", "nightly", OPEN),
        (None, "every 4-6 hours", "every 4 to 6 hours", R),
        (None, "150 mg BID", "150 mg every 12 hours", R),
        (None, "150 mg BID", "300 mg daily", W),
        (None, "1 g ceftriaxone", "Ceftriaxone 1000 mg", R),
        (None, "1 g ceftriaxone", "1000 mg", OPEN),
        ("What dose of ceftriaxone?", "1 g ceftriaxone", "1000 mg", R),
        (None, "1 g ceftriaxone", "1 g cefazolin", OPEN),
        (None, "0.5 mg/kg IV", "500 mcg/kg intravenously", R),
        (None, "1 g IV", "1 g orally", OPEN),
        (None, "2 g/day", "2 g daily", R),
        (None, "2 g/day", "1 g BID", OPEN),
        (None, "2 g/day", "3 g daily", W),
        (None, "every other day", "every 2 days", R),
        (None, "BID", "12 hourly", R),
        (None, "5 mg BID", "5 mg for 3 days", OPEN),
    ],
    "several": [
        (None, "Sensitivity 90%, specificity 75%", "75% specificity, 90% sensitivity", R),
        (None, "Sensitivity 90%, specificity 75%", "specificity 90%, sensitivity 75%", W),
        (None, "aspirin 100 mg, saline 5 ml", "aspirin 0.1 g, saline 5 mL", R),
        (None, "aspirin 100 mg, saline 5 ml", "aspirin 5 ml, saline 100 mg", OPEN),
        (None, "fever 3 days, weight loss 5 kg", "fever 5 kg, weight loss 3 days", OPEN),
        (None, "amoxicillin 500 mg for 7 days", "Amoxicillin 0.5 g for 1 week", R),
        (None, "amoxicillin 500 mg for 7 days", "amoxicillin 7 days for 500 mg", OPEN),
        (None, "HR 80, SpO2 95%", "HR 95%, SpO2 80", OPEN),
    ],
    "words of the question": [
        ("By how much did the weight fall?", "5 kg", "by 5 kg", R),
        ("By how much did the weight fall?", "5 kg", "the weight is 5 kg", OPEN),
        ("By how much was the dose reduced?", "5 mg", "the dose is 5 mg", OPEN),
        ("How far is the tumor from the anal verge?", "3 cm", "The tumor is 3 cm", OPEN),
        ("How far is the tumor from the verge?", "3 cm", "The tumor is 3 cm from the verge.", R),
        ("What is the distance of the tumor to the verge?", "3 cm", "The tumor is 3 cm", OPEN),
        ("What is the distance of the tumor to the verge?", "3 cm", "The distance is 3 cm", R),
        ("How many patients had a false positive result?", "5", "5 positive", OPEN),
        ("How many patients had a false positive result?", "5", "5 patients", R),
        ("How many operated patients had pain?", "5", "5 operated", OPEN),
        ("What percentage of smokers get cancer?", "30%", "30% of cancer", OPEN),
        ("What percentage of smokers get cancer?", "30%", "30% of smokers get cancer", R),
        ("What is the sensitivity if the specificity is 90%?", "80%", "specificity 80%", OPEN),
        ("What was the survival in the placebo arm?", "20%", "placebo 20%", OPEN),
        ("By how many percent was mortality reduced?", "30%", "mortality is 30%", OPEN),
        ("What is the lower limit?", "5 mg", "limit 5 mg", OPEN),
        ("What is the initial dose?", "5 mg", "repeat dose 5 mg", OPEN),
    ],
    "counts and names": [
        ("How many stages are there?", "4", "four stages", R),
        ("How many stages are there?", "4", "stage IV", OPEN),
        ("What is the stage?", "stage 2", "2 stages", OPEN),
        ("How many nerves are affected?", "3", "third", OPEN),
        ("How many nerves are affected?", "3", "nerve III", OPEN),
        ("On which day did it occur?", "day 3", "3 days", OPEN),
        ("How many days?", "3 days", "3", R),
        ("How many fractures?", "3", "3 breaths", OPEN),
        ("How many fractures?", "3", "3 times", OPEN),
        ("How many fractures?", "3", "3 fractures", R),
        ("What is the heart rate?", "70", "70 breaths", OPEN),
        ("What is the respiratory rate?", "20/min", "20 bpm", OPEN),
    ],
    "prepositions": [
        ("What happened to the EF?", "decreased to 20%", "decreased to 20 percent", R),
        ("What happened to the EF?", "decreased to 20%", "decreased 20%", OPEN),
        ("What happened to the EF?", "fell by 20%", "fell 20%", OPEN),
        ("When?", "after 5 days", "5 days", OPEN),
        ("When?", "after 5 days", "in 5 days", R),
        ("When?", "for 5 days", "at 5 days", OPEN),
        ("How long?", "5 days", "for 5 days", R),
        ("How long?", "5 days", "every 5 days", OPEN),
        ("How long?", "5 days", "within 5 days", OPEN),
        ("What is the dose?", "5 mg", "up to 5 mg", OPEN),
    ],
    "case of units": [
        (None, "5 mM", "5mM", R),
        (None, "5 mM", "5 mm", OPEN),
        (None, "5 mM", "5 millimeters", OPEN),
        (None, "5 nM", "5 nm", OPEN),
        (None, "5 MV", "5 mV", OPEN),
        (None, "5 MU/L", "5 mU/L", OPEN),
        (None, "18G", "18 g", OPEN),
        ("What is the needle size?", "18 g", "18 grams", OPEN),
        (None, "2 D", "2 days", OPEN),
        (None, "60 S", "1 minute", OPEN),
        (None, "5 MG", "5 mg", R),
        (None, "1 L", "1000 ML", R),
    ],
    "signs": [
        ("What is the T-score?", "-2.5", "T-score of -2.5", R),
        ("What is the T-score?", "-2.5", "2.5", W),
        ("What is the T-score?", "2.5", "-(2.5)", OPEN),
        ("What is the T-score?", "2.5", "- [2.5]", OPEN),
        ("What is the T-score?", "2.5", "T-score - 2.5", OPEN),
        ("How many?", "5", "!= 5", OPEN),
        ("What was the change?", "-20%", "a 20 % decrease", OPEN),
        ("By how much did it fall?", "20%", "-20%", OPEN),
    ],
    "shares in per cent": [
        ("What percentage is it?", "0.2", "0.2%", OPEN),
        ("What percentage is it?", "0.2", "20%", OPEN),
        ("What percentage is it?", "0.2%", "0.2", OPEN),
        ("What is the minimum saturation?", "90-95%", "91%", OPEN),
        ("What are the odds?", "1:1000", "1 in 1000", OPEN),
    ],
    "words around": [
        (None, "5 mg", "The dose is 5 mg.", R),
        (None, "5 mg", "The dose is not 5 mg.", OPEN),
        (None, "5 mg", "5 mg?", OPEN),
        (None, "4 cm above the carina", "40 mm above the carina", R),
        (None, "4 cm above the carina", "4 cm", OPEN),
        ("How far is the tip above the carina?", "2 cm", "The tip is 2 cm above the carina.", R),
        ("How far is the tip above the carina?", "2 cm", "The carina is 2 cm above the tip.", OPEN),
        ("Give the dose.\nBe brief.", "2 cm", "The tip is at 2 cm.", OPEN),
    ],
}
"""By kind: question, reference, answer, and whether the answer is right, wrong or left to a model."""


@pytest.mark.parametrize(
    ("question", "reference", "answer", "expected"),
    [
        pytest.param(*row, id=f"{kind}: {row[1]} <- {row[2]}")
        for kind, rows in SETTLED.items()
        for row in rows
    ],
)
def test_the_same_value_is_right_and_another_wrong(
    question: str | None, reference: str, answer: str, expected: bool | None
) -> None:
    """Notation makes no difference; what another reader could doubt is left to a model."""
    settled = same_quantity(pair(answer, reference, question))
    assert (None if settled is None else settled[0]) is expected


@given(st.integers(1, 999), st.integers(1, 999), st.sampled_from(["mg", "%", "days", "mmHg", ""]))
def test_only_the_same_number_is_right(said: int, meant: int, unit: str) -> None:
    """Two numbers with one unit are right if they are equal."""
    settled = same_quantity(pair(f"It is {said} {unit}.", f"{meant} {unit}"))
    assert settled is not None
    assert settled[0] is (said == meant)


@given(st.permutations(["5 mg", "3 days", "20%", "7 ml"]))
def test_quantities_of_several_kinds_keep_their_words(order: list[str]) -> None:
    """Words that change their quantities are not settled as right."""
    names, meant = ("aspirin", "fever", "growth", "saline"), ("5 mg", "3 days", "20%", "7 ml")
    reference, answer = (
        ", ".join(f"{name} {one}" for name, one in zip(names, some, strict=True))
        for some in (meant, order)
    )
    settled = same_quantity(pair(answer, reference))
    assert (settled is not None and settled[0]) is (tuple(order) == meant)


@given(
    st.decimals("0.001", 999, places=3),
    st.sampled_from([("g", "mg", 1000), ("L", "mL", 1000), ("cm", "mm", 10), ("weeks", "days", 7)]),
)
def test_every_conversion_agrees(value: object, units: tuple[str, str, int]) -> None:
    """A quantity and itself in a smaller unit agree, and another value does not."""
    large, small, ratio = units
    shown = float(str(value)) * ratio
    assert rule(quantities, f"{value} {large}", f"{shown:.6f} {small}") is None
    assert rule(quantities, f"{value} {large}", f"{shown * 1.5:.6f} {small}") is not None


@example("5 mg/0 ml")
@given(st.text(alphabet="0123456789.,-/^x% mgldq<>~about to", max_size=120))
def test_anything_can_be_read(text: str) -> None:
    """Whatever stands in a text, its quantities are finite or bounds, in order."""
    for quantity in measured(normal(text)):
        assert not math.isnan(quantity.low)
        assert quantity.low <= quantity.high


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "1",
            "1.",
            "1 ",
            "1-",
            "< ",
            "5 mg/",
            "about ",
            "q",
            "5 x 10^9 ",
            "one ",
            "twenty-one ",
            "1/2 ",
        ),
        *("1 x ", "march 5 ", "3+4 ", "1 in ", "half a ", "5 days and ", "7 and ", "1:", "l4/"),
    ],
)
def test_long_texts_are_read(piece: str) -> None:
    """A text at the limit of 16 KiB is read like any other."""
    text = (piece * 16_384)[:16_384]
    assert rule(quantities, text, "aspirin") is None
    assert same_quantity(pair(text, "5 mg", text)) is None
