"""The rules applied to one sample, in their order, each with its outcome."""

from collections.abc import Iterator
from typing import NamedTuple

from rich.text import Text

from medreward.cli.terminal import shown
from medreward.guards.normal import normal
from medreward.guards.pair import Pair
from medreward.guards.witness import has_witness
from medreward.parsing.completion import Completion, tighten
from medreward.parsing.sample import ParsedSample, is_well_formed, parse_sample
from medreward.recipes.recipe import Recipe, Tags
from medreward.samples import Limits, Sample


class Step(NamedTuple):
    """One rule and its outcome."""

    rule: str
    outcome: Text


def steps(
    sample: Sample, recipe: Recipe, limits: Limits, *, is_unreadable: bool = False
) -> Iterator[Step]:
    """Yield each rule that applies to the sample, *is_unreadable* if the service's judge says so."""
    parsed = parse_sample(sample, recipe, limits)
    completion = parsed.completion
    if completion is None:
        yield Step("length", _problem(parsed))
        return
    if recipe.tags.tighten:
        yield Step("white space", _tightened(sample.response))
    yield Step("answer", _answer(completion, recipe.tags))
    yield Step("reference", _references(sample, parsed))
    if recipe.signals.modality is not None:
        yield Step("modality", _modality(completion, parsed))
    if recipe.signals.format is not None:
        yield Step("form", _form(completion, recipe))
    if recipe.signals.accuracy_llm is None and recipe.signals.accuracy_embed is None:
        # Nothing is compared with the reference.
        if asked := _asked(parsed, recipe):
            yield Step("asked", shown(asked))
        return
    yield from _settling(completion, parsed, recipe, is_unreadable=is_unreadable)


def _settling(
    completion: Completion, parsed: ParsedSample, recipe: Recipe, *, is_unreadable: bool
) -> Iterator[Step]:
    """Yield the rules that decide the accuracy: rejected, equal, or asked."""
    if parsed.problem is not None:
        yield Step("accuracy", _problem(parsed))
        return
    reason = _rejection(completion, recipe)
    if reason is not None:
        yield Step("rejected?", shown(f"yes: {reason}; wrong, whatever the reference", "red"))
        return
    yield Step("rejected?", shown("no"))
    if parsed.accuracy is not None and parsed.accuracy.source == "exact":
        yield Step("equal?", shown("yes, to the letter: right, and no model is asked", "green"))
        return
    yield Step("equal?", shown("no, not to the letter"))
    if recipe.guards is not None:
        yield Step("guards", _guards(parsed, recipe))
    if parsed.accuracy is not None:
        return
    if is_unreadable:
        yield Step(
            "readable?", shown("no, not to this judge's tokenizer: no model is asked", "red")
        )
        return
    yield Step("asked", shown(_asked(parsed, recipe)))


def _guards(parsed: ParsedSample, recipe: Recipe) -> Text:
    """Describe the decision of the guards."""
    if parsed.accuracy is None:
        witness = _witness(parsed) if recipe.wants_witness else ""
        return shown(f"nothing speaks against it{witness}")
    veto = parsed.accuracy.veto
    if veto is None:
        return shown(f"plainly right, by the rule {parsed.accuracy.rule}", "green")
    told = shown(f"veto by {veto.rule}: ", "red")
    return told.append_text(vetoed_words(veto.span, veto.reference_span, parsed))


def vetoed_words(
    span: tuple[int, int], reference_span: tuple[int, int] | None, parsed: ParsedSample
) -> Text:
    """Quote the words of an answer that a guard objects to, and those that they contradict."""
    answer = parsed.answer if parsed.completion is None else parsed.completion.answer
    told = quoted(answer[slice(*span)])
    if reference_span is not None:
        # A veto is that of the first reference.
        reference = parsed.references[0][slice(*reference_span)]
        told.append_text(shown(" against ")).append_text(quoted(reference))
    return told


def _witness(parsed: ParsedSample) -> str:
    pairs = [Pair(normal(parsed.answer), normal(text)) for text in parsed.references]
    if all(map(has_witness, pairs)):
        return "; it shares words with the reference, so the judge's YES will do"
    return "; it shares no word with the reference, so a YES needs another witness"


def _tightened(response: str) -> Text:
    removed = len(response) - len(tighten(response))
    if not removed:
        return shown("none around < > / to remove")
    characters = "character" if removed == 1 else "characters"
    return shown(f"{removed} {characters} of it around < > / removed from the response")


def _answer(completion: Completion, tags: Tags) -> Text:
    if completion.has_answer_tag:
        where = "after the thinking" if tags.answer is None else _place(tags.answer)
        found = shown(f"{where}, without full stops around it: ")
    else:
        wanted = "" if tags.answer is None else f"no {_place(tags.answer, known=False)}: "
        found = shown(f"{wanted}the whole response is the answer: ", "yellow")
    return found.append_text(quoted(completion.answer))


def _place(tag: str, *, known: bool = True) -> str:
    if tag == "\\boxed":
        return "in the last \\boxed{…}" if known else "\\boxed{…}"
    return f"in the first <{tag}>…</{tag}>" if known else f"<{tag}>…</{tag}>"


def _references(sample: Sample, parsed: ParsedSample) -> Text:
    is_taken_apart = sample.modality is None and parsed.modality is not None
    how = "its modality tag taken off" if is_taken_apart else ""
    if tuple(text.strip() for text in sample.references) == parsed.references:
        how = "as given"
    elif not is_taken_apart:
        how = "without white space and full stops around it"
    accepted = Text(", or ").join(quoted(reference) for reference in parsed.references)
    return shown(f"{how}: ").append_text(accepted)


def _modality(completion: Completion, parsed: ParsedSample) -> Text:
    if parsed.modality is None:
        return shown("not known, so its weight goes to the other signals", "yellow")
    heading = shown("before the first tag stands ").append_text(quoted(completion.heading))
    if parsed.modality.value > 0:
        return heading.append_text(shown(", as it should", "green"))
    return heading.append_text(shown(", which is not the modality asked for", "red"))


def _form(completion: Completion, recipe: Recipe) -> Text:
    tags = recipe.tags
    parts = [f"<{tags.thinking}>…</{tags.thinking}>"] if tags.thinking else []
    if tags.answer is not None:
        parts.append(_place(tags.answer, known=False))
    shape = " ".join(parts)
    if is_well_formed(completion, recipe):
        return shown(f"{shape} and nothing else", "green")
    if completion.well_formed:
        return shown(f"not one {shape} alone, or nothing in it", "red")
    return shown(f"not {shape} and nothing else from its first tag on", "red")


def _rejection(completion: Completion, recipe: Recipe) -> str | None:
    answer = completion.answer
    if recipe.rules.needs_answer_tag and not completion.has_one_answer:
        return f"there is not exactly one {_place(recipe.tags.answer or '', known=False)}"
    if len(answer) < recipe.rules.min_answer_characters:
        least = recipe.rules.min_answer_characters
        return f"the answer has {len(answer)} characters, and {least} are the least"
    found = [repr(s) for s in recipe.rules.rejected_substrings if s in answer]
    return f"the answer holds {', '.join(found)}" if found else None


def _asked(parsed: ParsedSample, recipe: Recipe) -> str:
    asked = []
    if recipe.signals.accuracy_llm is not None:
        asked.append(f"the judge (template {recipe.template})")
    if recipe.signals.accuracy_embed is not None:
        asked.append("the embedder")
    several = len(parsed.references) > 1
    told = " and ".join(asked) + (", for each reference" if several else "")
    more = [] if recipe.signals.rubric is None else ["the judge about each criterion"]
    if recipe.signals.group_rank is not None:
        more.append("the judge about pairs of the sample's group")
    return "; ".join([told, *more] if told else more)


def _problem(parsed: ParsedSample) -> Text:
    return shown(parsed.problem.message if parsed.problem else "", "red")


def quoted(text: str) -> Text:
    """Return a whole text in quotation marks, safe to print."""
    return shown(f"“{text}”", "bold")
