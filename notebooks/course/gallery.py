"""Small images in a notebook: one sprite sheet of all of them, and tiles that each show a part of it.

The sheet is sent to the page once; a tile is a few hundred bytes of HTML.

Legend: N images, H and W height and width.
"""

import base64
import hashlib
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from IPython.display import HTML
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor

from cltools.errors import CltoolsError

COLUMNS = 40
"""Images per row of a sheet."""


@dataclass(frozen=True)
class Sheet:
    """Images as one PNG in a style element.

    Attributes:
        name: the CSS class, derived from the pixels: equal sheets share it.
        style: the HTML element with the pixels; put it on the page once.
        count: the number of images.
        side: the side of a tile on the page, in pixels.
    """

    name: str
    style: str
    count: int
    side: int

    def tile(self, index: int, label: str) -> str:
        """Return the HTML of the image at this index; the label is its tooltip and its text for screen readers."""
        row, column = divmod(index, COLUMNS)
        position = f"background-position:-{column * self.side}px -{row * self.side}px"
        text = html.escape(label, quote=True)
        return f'<i class="{self.name}" style="{position}" role="img" title="{text}" aria-label="{text}"></i>'


def sheet(images: Shaped[Tensor, "N 3 H W"], side: int = 34) -> Sheet:
    """Make a sheet of images.

    Args:
        images: uint8, or float in [0, 1].
        side: the side of a tile on the page, in pixels.

    Raises:
        ValueError: there are no images.
    """
    if not len(images):
        raise CltoolsError("There are no images to show; give at least one.")
    pixels = to_bytes(images)
    rows = -(-len(pixels) // COLUMNS)
    full = pixels.new_zeros(rows * COLUMNS, *pixels.shape[1:])
    full[: len(pixels)] = pixels
    height, width = pixels.shape[2:]
    tiled = full.view(rows, COLUMNS, 3, height, width).permute(0, 3, 1, 4, 2).reshape(rows * height, COLUMNS * width, 3)
    buffer = io.BytesIO()
    Image.fromarray(tiled.cpu().numpy()).save(buffer, "PNG")
    name = "cltools-" + hashlib.sha1(buffer.getvalue(), usedforsecurity=False).hexdigest()[:10] + f"-{side}"
    source = base64.b64encode(buffer.getvalue()).decode()
    style = (
        f"<style>.{name}{{display:inline-block;width:{side}px;height:{side}px;margin:1px;image-rendering:pixelated;"
        f"background-image:url(data:image/png;base64,{source});background-size:{COLUMNS * side}px {rows * side}px}}"
        "</style>"
    )
    return Sheet(name, style, len(pixels), side)


def to_bytes(images: Shaped[Tensor, "N 3 H W"]) -> UInt8[Tensor, "N 3 H W"]:
    """Return pixels as uint8; float values are expected in [0, 1]."""
    return images if images.dtype == torch.uint8 else (images.clamp(0, 1) * 255).round().to(torch.uint8)


def gallery(rows: Mapping[str, Shaped[Tensor, "N 3 H W"]], side: int = 48) -> HTML:
    """Show rows of images, each with its name: `gallery({"images": a, "their views": b})`.

    Args:
        rows: uint8, or float in [0, 1]; all images have the same size.
        side: the side of an image on the page, in pixels.
    """
    all_images = sheet(torch.cat([to_bytes(images) for images in rows.values()]), side)
    lines, start = [], 0
    for name, images in rows.items():
        tiles = (all_images.tile(start + i, f"{name} {i + 1}") for i in range(len(images)))
        lines.append(
            f'<div style="display:flex;align-items:center"><span style="width:9em">{html.escape(name)}</span>'
            f"<span>{''.join(tiles)}</span></div>"
        )
        start += len(images)
    return HTML(all_images.style + "".join(lines))  # type: ignore[no-untyped-call]
