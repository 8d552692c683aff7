"""Images for a model's server: formats that it reads pass unchanged, others become PNG."""

import base64
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import Image, ImageOps

from medreward_eval.errors import BadData

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
}
"""Media types of the formats that every server reads."""
READ: Final = (*MEDIA_TYPES, "BMP", "TIFF", "GIF", "JPEG2000", "PPM")
"""All formats that are read; the library's others may run external programs."""
PLAIN_MODES: Final = {"1", "L", "LA", "P", "RGB", "RGBA"}
"""Pillow's modes of 8 bits or fewer, without print colours (CMYK)."""
DEEP_MODES: Final = ("I", "F")
"""First letters of Pillow's modes of more than 8 bits."""
MOST_SENT_BYTES: Final = 20 << 20
"""Bytes of an image file that is sent; base64 adds a third."""
MOST_READ_BYTES: Final = 256 << 20
MOST_PIXELS: Final = 1 << 26
"""8192 x 8192 pixels: without a bound, a small file could decode to more than the memory."""


@dataclass(slots=True)
class ImageFiles:
    """Image files named by a data set's rows: in *images_dir* if it is given, or beside the data."""

    beside: Callable[[str], Path]
    """Returns the local path of a file or folder of the data set."""
    zip_name: str | None = None
    folder: str = ""
    images_dir: Path | None = None
    _zip: ZipFile | None = field(default=None, init=False, repr=False)

    def close(self) -> None:
        """Close the zip archive, if it was opened."""
        if self._zip is not None:
            self._zip.close()

    def read(self, name: str) -> bytes:
        """Return the content of a file named by its path, or by a URL whose last part is its name.

        Raises:
            BadData: no image of the data set can be found with these options.
            ValueError: this one is missing or damaged; the message continues `has in a column`.
        """
        if "://" in name:
            if self.images_dir is None:
                raise BadData(
                    "the images are named by URLs; fetch the files that you may have into one "
                    "folder, and give it as --images-dir"
                )
            return _content_of(self.images_dir, unquote(name.partition("?")[0].rpartition("/")[2]))
        if self.images_dir is not None:
            return _content_of(self.images_dir, name)
        if self.zip_name is None:
            return _content_of(self.beside(self.folder or "."), name)
        return self._member(self.zip_name, name)

    def _member(self, zip_name: str, name: str) -> bytes:
        if self._zip is None:
            path = self.beside(zip_name)
            if not path.exists() and (path.parent / self.folder).is_dir():
                # The archive was unpacked.
                return _content_of(path.parent / self.folder, name)
            try:
                self._zip = ZipFile(path)
            except (OSError, BadZipFile) as exc:
                raise BadData(
                    f"{path}, which holds the images, cannot be read: {type(exc).__name__}"
                ) from exc
        try:
            info = self._zip.getinfo(f"{self.folder}/{name}" if self.folder else name)
        except KeyError:
            raise ValueError(f"a path to no file in {zip_name}") from None
        _check_size(info.file_size)
        try:
            return self._zip.read(info)
        except (OSError, BadZipFile, EOFError, RuntimeError, NotImplementedError) as exc:
            raise ValueError(f"a file of {zip_name} that is damaged: {type(exc).__name__}") from exc


def read_image(value: object, files: ImageFiles) -> bytes:
    """Read a row's image from bytes, the hub's struct, a path or a URL, ready to be sent.

    Raises:
        BadData: no image of the data set can be found with these options.
        ValueError: this one cannot be read; the message continues `has in a column`.
    """
    match value:
        case bytes():
            return sendable(value)
        case {"bytes": bytes(content)}:
            return sendable(content)
        case {"path": str(name)} | str(name) if name:
            return sendable(files.read(name))
        case None | "" | {"path": None}:
            raise ValueError("no image")
        case _:
            raise ValueError(f"{type(value).__name__}; it takes bytes, a path, or the hub's images")


def sendable(content: bytes) -> bytes:
    """Return an image that any server reads: JPEG, PNG or WebP of 8 bits unchanged, others as PNG.

    Unchanged images are not decoded, so a truncated file passes. A converted one is the first frame,
    upright; if it has more than 8 bits, its darkest value becomes black and its brightest white.

    Raises:
        ValueError: the content is no image, of a format that is not read, or too large.
    """
    _check_size(len(content))
    try:
        # Pillow warns of images above its bound, and raises only above twice the bound.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=READ) as image:
                sent = content if _passes(image) else _as_png(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(
            f"an image of more than {MOST_PIXELS >> 20} million pixels; shrink it"
        ) from None
    # Decoders of damaged files raise exceptions of any type, and their text may quote the file.
    except Exception as exc:
        raise ValueError(f"an image that cannot be read ({type(exc).__name__})") from exc
    if len(sent) > MOST_SENT_BYTES:
        raise ValueError(
            f"an image of {len(sent) >> 20} MiB, and {MOST_SENT_BYTES >> 20} may be sent; shrink it"
        )
    return sent


def data_url(content: bytes) -> str:
    """Encode a JPEG, PNG or WebP, which its first bytes tell, as a `data:` URL.

    Raises:
        ValueError: the content is of another format.
    """
    if content.startswith(b"\xff\xd8\xff"):
        kind = "JPEG"
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "PNG"
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        kind = "WEBP"
    else:
        raise ValueError("neither JPEG nor PNG nor WebP")
    return f"data:{MEDIA_TYPES[kind]};base64,{base64.b64encode(content).decode('ascii')}"


def _passes(image: Image.Image) -> bool:
    if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError
    return image.format in MEDIA_TYPES and image.mode in PLAIN_MODES


def _as_png(image: Image.Image) -> bytes:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(DEEP_MODES):
        upright = _stretched(upright)
    written = io.BytesIO()
    upright.convert("RGB").save(written, "PNG")
    return written.getvalue()


def _stretched(image: Image.Image) -> Image.Image:
    """Scale greys of more than 8 bits to 8; the library would clip all above 255 to white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = values.min(), values.max()
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _content_of(folder: Path, name: str) -> bytes:
    if not folder.is_dir():
        raise BadData(f"{folder}, which should hold the images, is no folder")
    inside = PurePosixPath(name)
    # A data set must not name other files of this disk, which would go to the model's server.
    if inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"a path that leads out of {folder}")
    try:
        with (folder / inside).open("rb") as file:
            content = file.read(MOST_READ_BYTES + 1)
    except (OSError, ValueError):
        # The message leaves out the path: if the column is wrong, it may be a patient's text.
        raise ValueError(f"a path to no file in {folder}") from None
    _check_size(len(content))
    return content


def _check_size(size: int) -> None:
    if size > MOST_READ_BYTES:
        raise ValueError(f"a file of more than {MOST_READ_BYTES >> 20} MiB")
