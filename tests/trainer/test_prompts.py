"""Prompts: the template, the chat's format, the tokens, the images."""

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers.processors import TemplateProcessing

from medreward_trainer.config.config import Data, Model
from medreward_trainer.data.examples import IMAGE_MARK, MODALITIES, Example
from medreward_trainer.data.prompts import Prompter, open_image, parts_of, template_of
from medreward_trainer.errors import BadConfig, BadData
from medreward_trainer.tiny_models import load_model, tiny_tokenizer

PLAIN = Data(format_prompt="plain", min_pixels=None)
BEGIN = "^"
TURN = "{% for message in messages %}^{{ message['content'] }}{% endfor %}"
"""A chat's format that begins a text itself."""


def png(mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    """Draw a black image."""
    written = BytesIO()
    Image.new(mode, size).save(written, "PNG")
    return written.getvalue()


def example(problem: str = "ab", *images: bytes | Path, content: str = "") -> Example:
    """Make an example."""
    return Example("a:1", problem, "b", None, images=images, content=content)


def text_prompter(data: Data = PLAIN) -> Prompter:
    """Make a prompter for a model that reads only text."""
    return Prompter(tiny_tokenizer(), data)


def image_prompter(data: Data = PLAIN) -> Prompter:
    """Make a prompter for a model that reads images."""
    return Prompter(load_model(Model(path="tiny-random-vl", dtype="float32"), seed=1)[1], data)


def test_the_published_format_names_all_tags() -> None:
    """A policy can write only the tags that its prompt lists."""
    text = template_of("medix")

    assert {tag for tag in MODALITIES if f"<{tag}>" in text} == set(MODALITIES)
    assert all(tag in text for tag in ("<thinking>", "</thinking>", "<answer>", "</answer>"))


@given(st.text(min_size=1))
def test_the_plain_template_is_the_problem_alone(problem: str) -> None:
    """No part of it is escaped or parsed as a template."""
    prompt = text_prompter().prompt(example(problem))

    assert prompt.text == problem.replace(IMAGE_MARK, "")


def test_a_template_may_be_a_file(tmp_path: Path) -> None:
    """Templates of EasyR1 are such files."""
    (tmp_path / "mine.jinja").write_text("Q: {{ content | trim }}\nA:\n", encoding="utf-8")
    data = PLAIN.model_copy(update={"format_prompt": str(tmp_path / "mine.jinja")})

    assert text_prompter(data).prompt(example(" ab ")).text == "Q: ab\nA:"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"no problem in it", "where the problem stands"),
        (b"{{ content }} {{ answer }}", "answer, content"),
        (b"{{ content", "unexpected end of template"),
        (b"{{ content }}\xff", "UnicodeDecodeError"),
        (None, "choose from brief, medix, plain"),
    ],
)
def test_a_template_that_cannot_be_filled_in_stops_the_run_before_it_begins(
    tmp_path: Path, source: bytes | None, reason: str
) -> None:
    """Otherwise a run could train for hours on prompts without questions."""
    file = tmp_path / "mine.jinja"
    if source is not None:
        file.write_bytes(source)

    with pytest.raises(BadConfig, match=reason) as caught:
        text_prompter(Data(format_prompt=str(file)))

    assert str(caught.value).startswith(f"data.format_prompt={file}: ")


def test_a_template_does_not_reach_what_lies_behind_its_variable(tmp_path: Path) -> None:
    """Templates come from other people, like weights, and run in a sandbox."""
    file = tmp_path / "mine.jinja"
    file.write_text("{{ content.__class__.__mro__ }}", encoding="utf-8")
    prompter = text_prompter(Data(format_prompt=str(file)))

    with pytest.raises(BadConfig, match="unsafe"):
        prompter.prompt(example())


@pytest.mark.parametrize("chat_template", [None, TURN])
def test_a_prompt_begins_once_with_the_sign_that_begins_texts(chat_template: str | None) -> None:
    """A tokenizer adds it to a bare text, and would add it again to a chat's format."""
    tokenizer = tiny_tokenizer()
    special = [(BEGIN, tokenizer.convert_tokens_to_ids(BEGIN))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=special
    )
    tokenizer.chat_template = chat_template
    prompter = Prompter(tokenizer, PLAIN)

    assert prompter.tokenizer.decode(prompter.prompt(example("ab")).token_ids) == "^ab"


def test_what_is_too_long_is_left_out_and_counted_or_refused() -> None:
    """The length is in tokens, and includes the template; the message names the example."""
    short = PLAIN.model_copy(update={"max_prompt_length": 3})
    examples = [example(text) for text in ("abc", "abcd", "a")]

    prompts, left_out = text_prompter(short).prompts_of(examples)

    assert ([prompt.length for prompt in prompts], left_out) == ([3, 1], 1)
    strict = short.model_copy(update={"filter_overlong_prompts": False})
    with pytest.raises(BadData, match="a:1 has 4 tokens; raise"):
        text_prompter(strict).prompts_of(examples)


def test_images_need_a_model_that_sees() -> None:
    """A question about an invisible image would teach the policy to guess."""
    with pytest.raises(BadData, match="reads text alone"):
        text_prompter().prompt(example("ab", png()))


def test_images_need_a_chat_format_to_stand_in() -> None:
    """A bare text has no place for an image."""
    prompter = image_prompter()
    prompter.processor.chat_template = prompter.tokenizer.chat_template = None

    with pytest.raises(BadConfig, match="no chat template"):
        Prompter(prompter.processor, PLAIN).prompt(example("ab", png()))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "<image><image>ab"),
        ("a<image>b<image>", "a<image>b<image>"),
        ("a<image>b", "<image>a<image>b"),
    ],
)
def test_images_stand_where_the_problem_has_them(content: str, text: str) -> None:
    """Images without a mark come first."""
    prompter = image_prompter()

    prompt = prompter.prompt(example("ab", png(), png(), content=content))

    assert prompt.text == text
    image_id = prompter.tokenizer.convert_tokens_to_ids(IMAGE_MARK)
    assert prompt.token_ids.count(image_id) == 2 * (16 // 8) ** 2


def test_a_template_may_say_where_the_image_stands(tmp_path: Path) -> None:
    """MediX-R1's does; for examples without an image the mark is removed."""
    file = tmp_path / "mine.jinja"
    file.write_text("Q: <image>{{ content }}", encoding="utf-8")
    prompter = image_prompter(PLAIN.model_copy(update={"format_prompt": str(file)}))

    assert prompter.prompt(example("ab", png())).text == "Q: <image>ab"
    assert prompter.prompt(example("ab")).text == "Q: ab"
    with pytest.raises(BadData, match="1 images and 2 <image>"):
        prompter.prompt(example("ab", png(), content="<image>ab"))


@given(st.lists(st.text(alphabet="ab<>\n"), min_size=1), st.integers(1, 3))
def test_no_image_and_no_text_is_lost_between_the_parts(pieces: list[str], more: int) -> None:
    """The parts contain all images, and the whole text in its order."""
    images = len(pieces) - 1 + more

    parts = parts_of(IMAGE_MARK.join(pieces), images=images, uid="a:1")

    assert sum(part["type"] == "image" for part in parts) == images
    assert "".join(part.get("text", "") for part in parts) == "".join(pieces)


def test_an_image_that_has_gone_since_its_prompt_was_made_is_told(tmp_path: Path) -> None:
    """Images are opened again for each batch, since all of them would fill the memory."""
    path = tmp_path / "a.png"
    path.write_bytes(png())
    prompter = image_prompter()
    prompt = prompter.prompt(example("ab", path))

    assert prompter.picture_tensors(prompt)["pixel_values"].shape == (1, 3, 16, 16)
    path.write_bytes(b"")
    with pytest.raises(BadData, match="an image of a:1 cannot be read"):
        prompter.picture_tensors(prompt)


@given(
    width=st.integers(1, 64),
    height=st.integers(1, 64),
    low=st.integers(1, 2000),
    span=st.integers(0, 2000),
)
def test_images_are_scaled_into_the_bounds(width: int, height: int, low: int, span: int) -> None:
    """Images within the bounds stay; others keep their aspect ratio up to rounding."""
    high = low + span

    image = open_image(png(size=(width, height)), "a:1", low=low, high=high)

    pixels = width * height
    by = (max(low, min(pixels, high)) / pixels) ** 0.5
    assert image.size == pytest.approx((width * by, height * by), abs=1)
    if low <= pixels <= high:
        assert image.size == (width, height)
    elif pixels < low:
        assert low <= image.width * image.height


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_images_of_any_kind_are_opened_in_rgb(mode: str) -> None:
    """The processors of models accept only RGB."""
    assert open_image(png(mode), "a:1", low=None, high=None).mode == "RGB"


def test_an_image_of_sixteen_bits_keeps_its_shades() -> None:
    """Radiographs have thousands of shades; clipped at 255 they would be white."""
    radiograph, written = Image.new("I;16", (3, 1)), BytesIO()
    for column, value in enumerate((1000, 2000, 3000)):
        radiograph.putpixel((column, 0), value)
    radiograph.save(written, "PNG")

    opened = open_image(written.getvalue(), "a:1", low=None, high=None)

    shades = [opened.getpixel((column, 0)) for column in range(3)]
    assert shades == [(0, 0, 0), (127, 127, 127), (255, 255, 255)]


LARGE = png(size=(64, 64))


@pytest.mark.parametrize("content", [b"", b"no image", LARGE[:40], LARGE[:-20]], ids=len)
def test_what_is_no_image_is_named_by_its_example(content: bytes) -> None:
    """A truncated image is also refused."""
    with pytest.raises(BadData, match="an image of a:1 cannot be read"):
        open_image(content, "a:1", low=None, high=None)


def test_a_chat_template_that_refuses_a_prompt_is_told() -> None:
    """The error names the row; the template's own message may quote it."""
    _, tokenizer = load_model(Model(path="tiny-random"), seed=0)
    tokenizer.chat_template = "{{ raise_exception('no ' + messages[0].content) }}"

    with pytest.raises(BadConfig, match=r"chat template refuses a:1") as caught:
        Prompter(tokenizer, Data(format_prompt="plain")).prompt(
            Example("a:1", "Mrs Roe", "left", None)
        )
    assert "Roe" not in str(caught.value)
