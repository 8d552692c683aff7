"""From examples to prompts: the template, the chat format, the tokens, the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from PIL import Image
from torch import Tensor

from medreward_trainer.config import Data
from medreward_trainer.errors import BadConfig, BadData
from medreward_trainer.examples import Example, ImageSource

TEMPLATES = resources.files("medreward_trainer") / "templates"


@dataclass(frozen=True, slots=True)
class Prompt:
    """An example as the policy reads it; an image's place is as many tokens as it takes."""

    example: Example
    text: str
    token_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        """In tokens."""
        return len(self.token_ids)


class Prompter:
    """Makes prompts for one model.

    `processor` is what transformers has for the model: a tokenizer, or a processor that reads
    images too.

    Raises:
        BadConfig: the template cannot be had.
    """

    def __init__(self, processor: Any, data: Data) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self._sees = processor is not self.tokenizer
        self._data = data
        self._template = SandboxedEnvironment(undefined=StrictUndefined).from_string(
            template_of(data.format_prompt)
        )

    def prompts_of(self, examples: Sequence[Example]) -> tuple[list[Prompt], int]:
        """Make a prompt of each example; also how many were left out as too long.

        Raises:
            BadData: one is too long and may not be left out, or an image cannot be read.
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
        return fitting, len(prompts) - len(fitting)

    def prompt(self, example: Example) -> Prompt:
        """Make a prompt of an example.

        Raises:
            BadData: it has images and the model sees none, or an image cannot be read.
        """
        if example.images and not self._sees:
            raise BadData(f"{example.uid} has images, and the model reads text alone")
        text = self._chat(example)
        if example.images:
            encoded = self.processor(text=[text], images=self.images_of(example))
            token_ids = encoded["input_ids"][0]
        else:
            token_ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Prompt(example, text, tuple(int(token) for token in token_ids))

    def images_of(self, example: Example) -> list[Image.Image]:
        """Open an example's images, in RGB and within the sizes that the data allows."""
        low, high = self._data.min_pixels, self._data.max_pixels
        return [open_image(one, example.uid, low=low, high=high) for one in example.images]

    def picture_tensors(self, prompt: Prompt) -> dict[str, Tensor]:
        """What the model takes of a prompt beside its tokens; nothing without images."""
        if not prompt.example.images:
            return {}
        encoded = self.processor(
            text=[prompt.text], images=self.images_of(prompt.example), return_tensors="pt"
        )
        return {k: v for k, v in encoded.items() if k not in {"input_ids", "attention_mask"}}

    def _chat(self, example: Example) -> str:
        """The template around the problem, and the chat's format around that."""
        try:
            content = self._template.render(content=example.problem)
        except TemplateError as exc:
            raise BadConfig(f"data.format_prompt={self._data.format_prompt}: {exc}") from exc
        parts: Any = content
        if example.images:
            parts = [
                *({"type": "image"} for _ in example.images),
                {"type": "text", "text": content},
            ]
        if getattr(self.processor, "chat_template", None) is None:
            return content
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        return text


def template_of(name: str) -> str:
    """Read a template: one of ours by its name, or a file.

    Raises:
        BadConfig: there is none.
    """
    ours = TEMPLATES / f"{name}.jinja"
    if ours.is_file():
        return ours.read_text(encoding="utf-8").removesuffix("\n")
    try:
        return Path(name).read_text(encoding="utf-8").removesuffix("\n")
    except OSError:
        names = sorted(one.name.removesuffix(".jinja") for one in TEMPLATES.iterdir())
        raise BadConfig(
            f"data.format_prompt={name}: no such file; or choose from {', '.join(names)}"
        ) from None


def open_image(source: ImageSource, uid: str, *, low: int | None, high: int | None) -> Image.Image:
    """Open an image in RGB, scaled so that its pixels are between the bounds.

    Raises:
        BadData: it is none.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image = opened.convert("RGB")
    except OSError as exc:
        raise BadData(f"an image of {uid} cannot be read: {type(exc).__name__}") from exc
    pixels = image.width * image.height
    if high is not None and pixels > high:
        return _scaled(image, sqrt(high / pixels), int)
    if low is not None and pixels < low:
        return _scaled(image, sqrt(low / pixels), ceil)
    return image


def _scaled(image: Image.Image, by: float, rounded: Any) -> Image.Image:
    size = max(1, rounded(image.width * by)), max(1, rounded(image.height * by))
    return image.resize(size)
