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
_MARKS = bytes(code for code in range(128) if not chr(code).isalnum())
# digits, a-z and the UTF-8 bytes of U+4000–U+9FFF: Chinese characters, which NFKC and case folding leave alone
_STABLE = b"0123456789abcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0xC0)) + bytes(range(0xE4, 0xEA))
_WIDE_MARKS = re.compile("[，。？、！：；（）《》【】“”‘’…～—·]").split
_HEXAGRAMS = b"\xe4\xb7"  # U+4DC0–U+4DFF, the signs in that range


def normalise(text: str) -> bytes:
    """NFKC, case folded, alphanumeric characters only, as UTF-8; the stripped text itself when nothing is left of it.

    `normalise_plainly` says it in one line, but NFKC costs 20 µs for a Chinese question with its wide marks. Here the
    common marks go first (NFKC turns them into marks, nothing else), and when only digits, Latin letters and Chinese
    characters remain, the rest of the work is nothing but lower case. A test holds both equal on any text.
    """
    found = (
        text.replace("，", "")
        .replace("。", "")
        .replace("？", "")
        .replace("、", "")
        .replace("：", "")
        .replace("！", "")
        .encode()
        .translate(_LOWER, _MARKS)
    )
    if found.translate(None, _STABLE):
        found = "".join(_WIDE_MARKS(text)).encode().translate(_LOWER, _MARKS)
        if found.translate(None, _STABLE):
            return normalise_plainly(text)
    if not found or _HEXAGRAMS in found:
        return normalise_plainly(text)
    return found


def normalise_plainly(text: str) -> bytes:
    """What `normalise` returns, without its short cut."""
    return (_NOT_WORD.sub("", unicodedata.normalize("NFKC", text).casefold()) or text.strip()).encode()


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
            raise UserError(f"SPLITS: {part.strip()!r} is not name:share with a name of train, val, test and a share of 0 to 1")
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
