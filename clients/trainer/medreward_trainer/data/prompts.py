"""Prompts made from examples: the template, the chat format, the tokens and the images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import Any, cast

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import SandboxedEnvironment
from PIL import Image
from torch import Tensor

from medreward_trainer.config.config import Data
from medreward_trainer.data.examples import IMAGE_MARK, Example, ImageSource
from medreward_trainer.errors import BadConfig, BadData

TEMPLATES = resources.files("medreward_trainer") / "templates"
NOT_PICTURES = frozenset({"input_ids", "attention_mask"})
Part = dict[str, str]
"""One part of a chat's message, an image or a text, in the form of chat templates."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """An example as the policy's input; an image occupies as many tokens as it needs."""

    example: Example
    text: str
    token_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        """Length in tokens."""
        return len(self.token_ids)


class Prompter:
    """Makes prompts for one model.

    `processor` is transformers' for the model: a tokenizer, or a processor that reads images too.

    Raises:
        BadConfig: the template cannot be read, or has no place for the problem.
    """

    def __init__(self, processor: Any, data: Data) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self._sees = processor is not self.tokenizer
        self._data = data
        self._template = read_template(data.format_prompt)
        self._chat_format = next(
            (one for one in (processor, self.tokenizer) if getattr(one, "chat_template", None)),
            None,
        )

    def prompts_of(self, examples: Sequence[Example]) -> tuple[list[Prompt], int]:
        """Make a prompt of each example; return them, and the number left out as too long.

        Raises:
            BadData: one is too long and may not be left out, or all are; or an image cannot be
                read.
        """
        longest = self._data.max_prompt_length
        prompts = [self.prompt(example) for example in examples]
        fitting = [prompt for prompt in prompts if prompt.length <= longest]
        if len(fitting) < len(prompts) and not self._data.filter_overlong_prompts:
            over = next(prompt for prompt in prompts if prompt.length > longest)
            raise BadData(
                f"{over.example.uid} has {over.length} tokens; raise data.max_prompt_length "
                f"({longest}), or leave such prompts out with data.filter_overlong_prompts"
            )
        if prompts and not fitting:
            shortest = min(prompt.length for prompt in prompts)
            raise BadData(
                f"all {len(prompts)} prompts are over {longest} tokens (data.max_prompt_length); the "
                f"shortest has {shortest}"
            )
        return fitting, len(prompts) - len(fitting)

    def prompt(self, example: Example) -> Prompt:
        """Make the prompt of an example.

        Raises:
            BadData: it has images but the model reads none, or an image cannot be read.
            BadConfig: the template cannot be filled in, or the chat format has no images.
        """
        if example.images and not self._sees:
            raise BadData(f"{example.uid} has images, and the model reads text alone")
        text = self._chat(example)
        return Prompt(example, text, tokens_of(self._encoded(text, example)))

    def images_of(self, example: Example) -> list[Image.Image]:
        """Open an example's images, in RGB and scaled to the pixels that the data allows."""
        low, high = self._data.min_pixels, self._data.max_pixels
        return [open_image(one, example.uid, low=low, high=high) for one in example.images]

    def picture_tensors(self, prompt: Prompt) -> dict[str, Tensor]:
        """Return a prompt's inputs besides its tokens; empty without images.

        Raises:
            BadData: an image cannot be read, or needs another number of tokens than before.
        """
        example = prompt.example
        if not example.images:
            return {}
        encoded = self._encoded(prompt.text, example)
        if tokens_of(encoded) != prompt.token_ids:
            raise BadData(f"an image of {example.uid} is another than when the run began")
        return {name: tensor for name, tensor in encoded.items() if name not in NOT_PICTURES}

    def _encoded(self, text: str, example: Example) -> Any:
        """Encode one row with the processor: its tokens and its images."""
        # A chat's format contains the token that begins a sequence; a bare text does not.
        told = {"add_special_tokens": self._chat_format is None, "return_tensors": "pt"}
        if not example.images:
            return self.tokenizer([text], **told)
        images = self.images_of(example)
        try:
            return self.processor(text=[text], images=images, **told)
        except (ValueError, IndexError) as exc:
            raise BadData(
                f"{example.uid} with its {len(images)} images is refused by the model's processor: "
                f"{type(exc).__name__}"
            ) from exc

    def _chat(self, example: Example) -> str:
        """Render the problem in its template, and that in the chat's format."""
        try:
            content = self._template.render(content=example.content or example.problem)
        except TemplateError as exc:
            raise BadConfig(f"data.format_prompt={self._data.format_prompt}: {exc}") from exc
        parts = parts_of(content, images=len(example.images), uid=example.uid)
        words = "".join(part.get("text", "") for part in parts)
        if self._chat_format is None:
            if example.images:
                raise BadConfig("the model has no chat template, which says where images stand")
            return words
        try:
            text: str = self._chat_format.apply_chat_template(
                # Tokenizers accept only texts as content, and some processors only lists of parts.
                [{"role": "user", "content": parts if self._sees else words}],
                tokenize=False,
                add_generation_prompt=True,
            )
        except TemplateError as exc:
            # Without its message, which may quote the prompt.
            raise BadConfig(
                f"the model's chat template refuses {example.uid}: {type(exc).__name__}"
            ) from exc
        return text


def tokens_of(encoded: Any) -> tuple[int, ...]:
    """Return the tokens of a single encoded row."""
    return tuple(encoded["input_ids"][0].tolist())


def parts_of(content: str, *, images: int, uid: str) -> list[Part]:
    """Split a text at its `<image>` marks, as EasyR1 does; images without a mark come first.

    Without images the marks are removed: a template may have one for the examples with an image.

    Raises:
        BadData: there are more marks than images.
    """
    marks = content.count(IMAGE_MARK)
    if images == 0:
        return [{"type": "text", "text": content.replace(IMAGE_MARK, "")}]
    if marks > images:
        raise BadData(
            f"{uid} has {images} images and {marks} {IMAGE_MARK}, those of the template included"
        )
    parts: list[Part] = [{"type": "image"} for _ in range(images - marks)]
    for number, piece in enumerate(content.split(IMAGE_MARK)):
        if number > 0:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def read_template(name: str) -> Template:
    """Read a template: a packaged one by its name, or a file.

    Raises:
        BadConfig: it is missing or malformed, or has other variables than `content`.
    """
    jinja = SandboxedEnvironment(undefined=StrictUndefined)
    source = template_of(name)
    try:
        variables = find_undeclared_variables(jinja.parse(source)) - set(jinja.globals)
        template = jinja.from_string(source)
    except TemplateError as exc:
        raise BadConfig(f"data.format_prompt={name}: {exc}") from exc
    if variables != {"content"}:
        raise BadConfig(
            f"data.format_prompt={name}: a template has `{{{{ content }}}}` where the problem stands "
            f"and no other variable; this has {', '.join(sorted(variables)) or 'none'}"
        )
    return template


def template_of(name: str) -> str:
    """Return the text of a template: a packaged one by its name, or a file.

    Raises:
        BadConfig: it is missing.
    """
    ours = {one.name.removesuffix(".jinja"): one for one in TEMPLATES.iterdir()}
    try:
        found = ours[name] if name in ours else Path(name)
        return found.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadConfig(
            f"data.format_prompt={name}: no such file ({type(exc).__name__}); or choose from "
            f"{', '.join(sorted(ours))}"
        ) from None


def open_image(source: ImageSource, uid: str, *, low: int | None, high: int | None) -> Image.Image:
    """Open an image in RGB, scaled so that its pixels are between the bounds.

    Raises:
        BadData: the content is not an image.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image = in_rgb(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise BadData(f"an image of {uid} cannot be read: {type(exc).__name__}") from exc
    pixels = image.width * image.height
    if high is not None and pixels > high:
        return _scaled(image, sqrt(high / pixels), int)
    if low is not None and pixels < low:
        return _scaled(image, sqrt(low / pixels), ceil)
    return image


def in_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB.

    An image with more than eight bits for a pixel, such as a radiograph, is stretched from its own
    darkest to its own brightest pixel; PIL would turn all values above 255 white.
    """
    if not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    deep = image.convert("F")
    darkest, brightest = cast("tuple[float, float]", deep.getextrema())
    by = 255 / (brightest - darkest) if brightest > darkest else 0.0
    return deep.point(lambda value: value * by - darkest * by).convert("RGB")


def _scaled(image: Image.Image, by: float, rounded: Callable[[float], int]) -> Image.Image:
    size = max(1, rounded(image.width * by)), max(1, rounded(image.height * by))
    return image.resize(size)
