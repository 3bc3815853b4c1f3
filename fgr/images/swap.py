"""Pasting regions of the restored image into the reference."""

import cv2
import numpy as np


def composite(sr: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """I_syn = (m·sr + (255 − m)·reference + 127) // 255 in integers: uint8 (H, W, 3), the mean rounded to nearest.

    `sr` and `reference` are uint8 (H, W, 3), `mask` is uint8 (H, W). Exactly the reference where m = 0, exactly `sr` where
    m = 255. ValueError if the shapes or types differ from that.
    """
    _check(sr, reference, mask)
    weight = cv2.merge([mask, mask, mask])
    # the sum stays below 2**16, where n // 255 = (n + 1 + (n >> 8)) >> 8
    total = np.multiply(weight, sr, dtype=np.uint16)
    total += np.multiply(cv2.bitwise_not(weight), reference, dtype=np.uint16)
    total += 127
    high = total >> 8
    total += 1
    total += high
    total >>= 8
    return total.astype(np.uint8)


def sham_source(reference: np.ndarray, shift: int) -> np.ndarray:
    """The reference, uint8 (H, W, 3), moved `shift` ≥ 0 pixels down and to the right; its first row and column fill the gap.

    Pasted onto the reference it makes a seam without a defect. Shift 0 gives the reference's own pixels.
    ValueError for another type or shape, or a shift below 0.
    """
    if shift < 0:
        raise ValueError(f"a sham's shift must be 0 or more, got {shift}")
    _check_image(reference, "reference")
    height, width = reference.shape[:2]
    return cv2.copyMakeBorder(reference, shift, 0, shift, 0, cv2.BORDER_REPLICATE)[:height, :width]


def _check(sr: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> None:
    _check_image(sr, "sr")
    _check_image(reference, "reference")
    if sr.shape != reference.shape:
        raise ValueError(f"sr is {sr.shape}, but reference is {reference.shape}")
    if mask.dtype != np.uint8 or mask.shape != reference.shape[:2]:
        raise ValueError(f"mask must be uint8 {reference.shape[:2]}, got {mask.dtype} {mask.shape}")


def _check_image(image: np.ndarray, name: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{name} must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
