"""Lays out a treemap: rectangles whose areas are in proportion to numbers.

The method is the squarified one (Bruls, Huizing, van Wijk: Squarified Treemaps, 2000).
"""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle: its left upper corner and its sides."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Divide `box` into a rectangle for each of `sizes`, in their order.

    All sizes are positive, the largest first; the rectangles are as square as this order allows.
    """
    if not sizes:
        return []
    scale = box.width * box.height / sum(sizes)
    areas = [size * scale for size in sizes]
    boxes: list[Box] = []
    while areas:
        side = min(box.width, box.height)
        count = 1
        while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(
            areas[:count], side
        ):
            count += 1
        row, areas = areas[:count], areas[count:]
        boxes += _row(row, box)
        box = _rest(sum(row), box)
    return boxes


def _worst(row: list[float], side: float) -> float:
    """Return the largest ratio of sides of a row that lies along `side`."""
    total = sum(row)
    return max(side**2 * max(row) / total**2, total**2 / (side**2 * min(row)))


def _row(row: list[float], box: Box) -> list[Box]:
    """Place a row along the shorter side of `box`."""
    total = sum(row)
    boxes, at = [], 0.0
    for area in row:
        if box.width >= box.height:
            thick = total / box.height
            boxes.append(Box(box.x, box.y + at, thick, area / thick))
            at += area / thick
        else:
            thick = total / box.width
            boxes.append(Box(box.x + at, box.y, area / thick, thick))
            at += area / thick
    return boxes


def _rest(total: float, box: Box) -> Box:
    """Return what is left of `box` when a row with the area `total` is placed."""
    if box.width >= box.height:
        thick = total / box.height
        return Box(box.x + thick, box.y, box.width - thick, box.height)
    thick = total / box.width
    return Box(box.x, box.y + thick, box.width, box.height - thick)
