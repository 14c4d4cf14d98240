"""Which side of the train/val/test split a row falls on: decided by a hash of its group, never by chance or order.

A group (question, dialogue, patient) is normalised first (NFKC, case folded, letters and digits only), so that two
spellings of one question stay on one side. share = first 64 bits of SHA-256(seed + "\\n" + group) / 2^64.
"""

from __future__ import annotations

import re
import unicodedata

from store.errors import UserError

SPLITS = ("train", "val", "test")
DEFAULT = "train:0.94,val:0.01,test:0.05"

_NOT_WORD = re.compile(r"[\W_]+")
_LOWER = bytes(range(65)) + bytes(range(97, 123)) + bytes(range(91, 256))  # A-Z → a-z
_BETWEEN = "\x1f"  # stands between texts that are normalised together
_MARKS = bytes(code for code in range(128) if not chr(code).isalnum() and chr(code) != _BETWEEN)
_WIDE_MARKS = re.compile("[，。？、！：；（）《》【】“”‘’…～—·]")  # no "+": a bare class is searched twice as fast
# digits, a-z and the UTF-8 bytes of U+4000–U+9FFF: Chinese characters, which NFKC and case folding leave alone
_STABLE = b"0123456789abcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0xC0)) + bytes(range(0xE4, 0xEA))
_HEXAGRAMS = b"\xe4\xb7"  # U+4DC0–U+4DFF, the signs in that range


def normalise(text: str) -> bytes:
    """NFKC, case folded, alphanumeric characters only, as UTF-8; the stripped text itself when nothing is left of it."""
    return normalise_all([text])[0]


def normalise_all(texts: list[str]) -> list[bytes]:
    """`normalise_plainly` of each text, most of them by a short cut (NFKC alone costs 20 µs for a Chinese question).

    The usual marks go first, from all texts at once: NFKC turns them into marks, nothing else. Where only digits, Latin
    letters and Chinese characters remain, lower case is all that is left to do; the other texts take the plain way.
    """
    text = _BETWEEN.join(texts)
    for mark in "，。？、":  # the frequent ones first: then the class below finds little and takes half the time
        text = text.replace(mark, "")
    joined = _WIDE_MARKS.sub("", text).encode("utf-8", "surrogatepass").translate(_LOWER, _MARKS)
    found, others = joined.split(b"\x1f"), joined.translate(None, _STABLE).split(b"\x1f")
    if len(found) != len(texts) or _HEXAGRAMS in joined:
        return [normalise_plainly(text) for text in texts]
    return [
        short if short and not other else normalise_plainly(one)
        for short, other, one in zip(found, others, texts, strict=True)
    ]


def normalise_plainly(text: str) -> bytes:
    """The definition: NFKC, casefold, letters and digits only, UTF-8."""
    return (_NOT_WORD.sub("", unicodedata.normalize("NFKC", text).casefold()) or text.strip()).encode(
        "utf-8", "surrogatepass"
    )


def parse_splits(words: str) -> dict[str, float]:
    """`train:0.94,val:0.01,test:0.05` → shares by split name; a split left out gets 0. Raises UserError."""
    shares = dict.fromkeys(SPLITS, 0.0)
    for part in words.split(","):
        name, _, share = part.strip().partition(":")
        name = "val" if name in ("validation", "valid", "dev") else name
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if name not in shares or not 0 <= value <= 1:
            raise UserError(
                f"SPLITS: {part.strip()!r} is not name:share with a name of train, val, test and a share of 0 to 1"
            )
        shares[name] = value
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"SPLITS: the shares of {words!r} add up to {sum(shares.values()):g}, not 1")
    return shares


def thresholds(shares: dict[str, float]) -> tuple[bytes, bytes]:
    """Bounds for the first 8 bytes of the group's digest: below the first → train, below the second → val, else test."""

    def bound(share: float) -> bytes:
        # nine bytes when the share is 1: greater than every 8-byte digest
        return b"\xff" * 9 if share >= 1 - 1e-9 else int(share * 2**64).to_bytes(8, "big")

    return bound(shares["train"]), bound(shares["train"] + shares["val"])
