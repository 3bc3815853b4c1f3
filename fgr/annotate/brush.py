"""Label Studio's brush strokes: masks to its run-length code and back, vectorised and exact. Pure.

The code is thi.ng's rle-pack over RGBA values: 32 bits count of values, 5 bits word size − 1, four times 4 bits width − 1 of
a length field, then tokens (1 bit run or literal, 2 bits which length field, length − 1, one value or `length` values),
most significant bit first. The mask is the fourth channel.
"""

from collections.abc import Sequence

import numpy as np

HEADER_BITS = 53
LONGEST_RUN = 1 << 16
WIDTHS = np.array([3, 4, 8, 16])  # bits of the four length fields, as every known writer chooses them
LIMITS = np.array([8, 16, 256])  # longest run of the first three
FIELDS = 0x237F  # 4 × 4 bits: WIDTHS − 1
CROWDED = 32  # masks with more than one change in so many eights are compared pixel by pixel
BLOCK = 1 << 19  # bytes decoded at a time
SPARE = 64  # zero bits tolerated after the last token: writers pad differently


class BrushError(ValueError):
    """A run-length code that is not a mask of the expected size."""


def encode(mask: np.ndarray) -> list[int]:
    """The brush code of a uint8 (H, W) mask: byte for byte what `label_studio_sdk.converter.brush.mask2rle` gives."""
    if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size or mask.size * 4 >= 1 << 32:
        raise ValueError(f"expected a uint8 (H, W) mask of 1 to 2³⁰ − 1 pixels, got {mask.dtype} {mask.shape}")
    flat = np.ascontiguousarray(mask).ravel()
    ends = np.append(_changes(flat), flat.size)
    runs, values = np.diff(ends, prepend=0) * 4, flat[ends - 1].astype(np.int64)
    kind = np.searchsorted(LIMITS, runs)
    pieces = (runs - 1) // LONGEST_RUN + 1
    lengths = _split(runs, pieces)
    if len(lengths) > len(runs):  # every piece of a cut run has the widest length field, the last and short one too
        kind, values = np.repeat(kind, pieces), np.repeat(values, pieces)
    width = WIDTHS[kind]
    tokens = ((((4 | kind) << width) | (lengths - 1)) << 8) | values
    bits = width + 11
    header = (((mask.size * 4) << 5 | 7) << 16 | FIELDS) << 3
    return _pack(header.to_bytes(7, "big"), tokens, bits)


def decode(rle: Sequence[int] | bytes, height: int, width: int) -> np.ndarray:
    """The uint8 (height, width) mask, 0…255, in a brush code. BrushError for anything that is not exactly that mask.

    Time and memory are bounded by the length of `rle` and by height × width, whatever the code claims.
    """
    data = _bytes(rle)
    values = height * width * 4
    fields = _header(data, values)
    counts: list[np.ndarray] = []
    words: list[np.ndarray] = []
    position, done = HEADER_BITS, 0
    while done < values:
        tokens, position = _chain(data, position, fields)
        if not len(tokens):
            raise BrushError("the brush code ends before the mask does")
        lengths, contents, ends = _read(data, tokens, fields)
        reached = done + np.cumsum(lengths)
        last = int(np.searchsorted(reached, values))
        if last < len(reached):
            if reached[last] != values:
                raise BrushError("the brush code's last run goes past the end of the mask")
            _expect_padding(data, int(ends[last]))
            lengths, contents, reached = lengths[: last + 1], contents[: last + 1], reached[: last + 1]
        counts.append(reached // 4 - (reached - lengths) // 4)  # the fourth channel alone
        words.append(contents)
        done = int(reached[-1])
    return _fill(np.concatenate(counts), np.concatenate(words), height * width).reshape(height, width)


def _changes(flat: np.ndarray) -> np.ndarray:
    """Where values of a uint8 (n,) array differ from the one before, ascending.

    Eight are compared at once: in a mask of few regions nearly all eights are like the eight before them.
    """
    eights = flat[: flat.size // 8 * 8].view(np.uint64)
    new = np.append(0, np.flatnonzero(eights[1:] != eights[:-1]) + 1)
    if len(new) * CROWDED > len(eights):
        return np.flatnonzero(flat[1:] != flat[:-1]) + 1
    inside = eights[new].view(np.uint8).reshape(-1, 8)
    repeated = np.diff(new, append=len(eights)) > 1
    if (inside[repeated] != inside[repeated, :1]).any():  # a pattern: its repetitions hold changes, too
        return np.flatnonzero(flat[1:] != flat[:-1]) + 1
    before = np.column_stack((flat[np.maximum(new * 8 - 1, 0)], inside[:, :7]))
    row, column = np.nonzero(inside != before)
    rest = flat[len(eights) * 8 - 1 :]
    return np.concatenate((new[row] * 8 + column, np.flatnonzero(rest[1:] != rest[:-1]) + len(eights) * 8))


def _split(runs: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """The runs' lengths, each cut into so many pieces: LONGEST_RUN each, the last what is left."""
    cut = np.full(int(pieces.sum()), LONGEST_RUN, np.int64)
    cut[np.cumsum(pieces) - 1] = runs - (pieces - 1) * LONGEST_RUN
    return cut


def _pack(header: bytes, tokens: np.ndarray, bits: np.ndarray) -> list[int]:
    """Tokens of ≤ 27 bits behind the 53-bit header, zero-padded (a whole byte when already aligned, as the SDK pads)."""
    ends = HEADER_BITS + np.cumsum(bits)
    starts = ends - bits
    shifted = tokens << (40 - bits - (starts & 7))  # ≤ 34 bits: five bytes from the one where the token starts
    size = int(ends[-1]) // 8 + 1
    packed = np.zeros(size + 5)
    for place in range(5):
        part = (shifted >> (32 - 8 * place)) & 255
        packed += np.bincount((starts >> 3) + place, weights=part, minlength=size + 5)  # bits are disjoint: sum = or
    out = packed[:size].astype(np.uint8)
    out[:7] |= np.frombuffer(header, np.uint8)
    return out.tolist()


def _bytes(rle: Sequence[int] | bytes) -> bytes:
    try:
        return bytes(rle) + bytes(5) if not isinstance(rle, (int, str)) else b""
    except (TypeError, ValueError):
        raise BrushError("a brush code must be a list of integers from 0 to 255") from None


def _header(data: bytes, values: int) -> list[int]:
    """The widths in bits of the four length fields, after checking the claims about the mask."""
    if len(data) < 12:
        raise BrushError("the brush code is too short to have a header")
    head = int.from_bytes(data[:7], "big") >> 3
    claimed, word = head >> 21, (head >> 16 & 31) + 1
    if claimed != values:
        raise BrushError(f"the brush code holds {claimed} values where the image needs {values}")
    if word != 8:
        raise BrushError(f"the brush code has {word}-bit values, expected 8")
    return [(head >> shift & 15) + 1 for shift in (12, 8, 4, 0)]


def _chain(data: bytes, start: int, fields: list[int]) -> tuple[np.ndarray, int]:
    """Bit positions of the tokens from `start` through one block, literals as ~position, and where the next block starts.

    A run's length in bits follows from its first three bits, so one table lookup a token finds the next one.
    """
    first, total = start >> 3, (len(data) - 5) * 8
    stop = min(first + BLOCK, len(data) - 5)
    if start >= total:
        return np.empty(0, np.int64), start
    bits = np.unpackbits(np.frombuffer(data, np.uint8, stop + 1 - first, first))
    code = bits[:-2] << 2 | bits[1:-1] << 1 | bits[2:]
    steps = np.array([0, 0, 0, 0] + [11 + field for field in fields], np.uint8)[code].tobytes()
    found: list[int] = []
    keep, offset = found.append, first * 8
    position, end = start - offset, (stop - first) * 8
    while position < end:
        step = steps[position]
        if step:
            keep(position)
            position += step
        else:
            keep(~position)
            position += _literal_bits(data, offset + position, fields)
    if offset + position > total:  # the last token is cut off
        found.pop()
    tokens = np.array(found, np.int64)
    return np.where(tokens < 0, tokens - offset, tokens + offset), offset + position


def _window(data: bytes, position: int, bits: int) -> int:
    byte = position >> 3
    return int.from_bytes(data[byte : byte + 5], "big") >> (40 - (position & 7) - bits) & ((1 << bits) - 1)


def _literal_bits(data: bytes, position: int, fields: list[int]) -> int:
    width = fields[_window(data, position, 3) & 3]
    return 3 + width + 8 * (_window(data, position + 3, width) + 1)


def _read(data: bytes, tokens: np.ndarray, fields: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths, values and end positions (in bits) of tokens; a literal of n values becomes n runs of one."""
    literal = tokens < 0
    starts = np.where(literal, ~tokens, tokens)
    window = _windows(data, starts)
    offset = starts & 7
    width = np.array(fields)[window >> (37 - offset) & 3]
    lengths = (window >> (37 - offset - width) & ((1 << width) - 1)) + 1
    at = starts + 3 + width
    if literal.any():
        pieces = np.where(literal, lengths, 1)
        nth = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        at = np.repeat(at, pieces) + 8 * nth
        lengths = np.repeat(np.where(literal, 1, lengths), pieces)
    values = (_windows(data, at) >> (32 - (at & 7)) & 255).astype(np.uint8)
    return lengths, values, at + 8


def _windows(data: bytes, positions: np.ndarray) -> np.ndarray:
    """The 40 bits from the byte in which each position lies, as int64."""
    source = np.frombuffer(data, np.uint8)
    byte = positions >> 3
    window = source[byte].astype(np.int64)
    for place in range(1, 5):
        window = window << 8 | source[byte + place]
    return window


def _expect_padding(data: bytes, position: int) -> None:
    left = (len(data) - 5) * 8 - position
    tail = data[position >> 3 :] if left <= SPARE else b""
    rest = int.from_bytes(tail, "big") & ((1 << max(8 * len(tail) - (position & 7), 0)) - 1)
    if not 0 <= left <= SPARE or rest:
        raise BrushError("the brush code goes on after the end of the mask")


def _fill(counts: np.ndarray, values: np.ndarray, pixels: int) -> np.ndarray:
    """Runs written out as uint8 (pixels,)."""
    if len(counts) * 64 > pixels:
        return np.repeat(values, counts)
    out = np.zeros(pixels, np.uint8)
    ends = np.cumsum(counts)
    painted = np.flatnonzero(values)
    ranges = zip((ends - counts)[painted].tolist(), ends[painted].tolist(), values[painted].tolist(), strict=True)
    for start, end, value in ranges:
        out[start:end] = value
    return out
