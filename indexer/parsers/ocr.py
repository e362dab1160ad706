"""Reading text from pictures of pages with RapidOCR, whose models come inside its package. Its only user."""

import os
from functools import lru_cache
from typing import Any, NamedTuple

OCR_WIDTH = 1240  # pixels: an A4 page at 150 dpi


class OcrLine(NamedTuple):
    """A line of text found in a picture; the box is in shares (0..1) of its width and height."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


@lru_cache(maxsize=1)
def _engine() -> Any:
    """The models, on one thread: a worker parses beside others, and more threads mostly cost memory here."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.max_side_len": 4000,
            "Det.limit_type": "max",
            "Det.limit_side_len": 1280,
            "Rec.rec_batch_num": 1,  # lines of unlike length are not padded to each other: faster and smaller
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def read_lines(picture: Any) -> list[OcrLine]:
    """The lines of text in an RGB PIL image, from top to bottom.

    None for an empty picture, nor where all there is is one sign: that is a speck or a shape taken for a letter.
    """
    import numpy

    if all(low == high for low, high in picture.getextrema()):
        return []
    pixels = numpy.asarray(picture)[:, :, ::-1]
    result = _engine()(pixels, use_cls=False)
    if sum(char.isalnum() for text in result.txts or () for char in text) < 2:
        return []
    height, width = pixels.shape[:2]
    lines = []
    for text, corners in zip(result.txts, result.boxes, strict=True):
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0)
        if text.strip():
            lines.append(
                OcrLine(text, float(left) / width, float(top) / height, float(right) / width, float(bottom) / height)
            )
    return lines
