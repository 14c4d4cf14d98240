"""The lexical stand-in for a judge: deterministic, offline, not a clinical judgement.

Content words: lower-cased runs of Latin letters that are not stop words (negations are content), and single CJK characters.
Numbers are compared by value (``5`` = ``5.0``, ``1,000`` = ``1000``). Of one section:

    omitted     = share of the reference's distinct content words that the prediction lacks
    unsupported = share of the predicted distinct content words found neither in the dialogue nor in the reference
    pass  iff  omitted ≤ lexical_max_omitted, unsupported ≤ lexical_max_unsupported, every number of the reference is in
    the prediction, and every number of the prediction is in the dialogue or the reference

It cannot see a swapped side, a negation moved to another word, or a paraphrase: good text in other words fails.
"""

from __future__ import annotations

import re
from decimal import Decimal

from eval.recipe import EvalRecipe
from store.hashing import content_id

NAME = "lexical"
LABEL = "lexical stand-in, not a clinical judgement"
RULE_VERSION = 1

WORD = re.compile(r"[^\W\d_]+")
CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
STOP_WORDS = (
    "a an the and or but of to in on at for from with by as is are was were be been being it its this that these those he she "
    "they his her their him them i you we my your our has have had do does did will would can could may might should about "
    "into over after before during since than then there also which who whom what when where how patient patients"
)
STOP = frozenset(STOP_WORDS.split())


def content_words(text: str) -> set[str]:
    """Distinct content words; a CJK character is a word."""
    words: set[str] = set()
    for run in WORD.findall(text.lower()):
        words.update(CJK.findall(run))
        words.update(part for part in CJK.sub(" ", run).split() if part not in STOP and len(part) > 1)
    return words


def numbers(text: str) -> set[Decimal]:
    """Distinct numbers by value."""
    return {Decimal(found.replace(",", "")).normalize() for found in NUMBER.findall(text)}


def judge_section(dialogue: str, reference: str, predicted: str, recipe: EvalRecipe) -> tuple[bool, str]:
    """Whether a section passes the rule, and why, with the words that decided (first five of each kind)."""
    said, gold, heard = content_words(predicted), content_words(reference), content_words(dialogue)
    missing, unsupported = gold - said, said - gold - heard
    omitted_share = len(missing) / len(gold) if gold else 0.0
    unsupported_share = len(unsupported) / len(said) if said else 0.0
    lost = numbers(reference) - numbers(predicted)
    invented = numbers(predicted) - numbers(reference) - numbers(dialogue)
    faults = []
    if omitted_share > recipe.lexical_max_omitted:
        faults.append(f"omits {len(missing)} of {len(gold)} content words ({_some(missing)})")
    if unsupported_share > recipe.lexical_max_unsupported:
        faults.append(f"{len(unsupported)} of {len(said)} content words are unsupported ({_some(unsupported)})")
    if lost:
        faults.append(f"numbers of the reference are missing ({_some(map(str, lost))})")
    if invented:
        faults.append(f"numbers without source ({_some(map(str, invented))})")
    shares = f"omitted {omitted_share:.2f}, unsupported {unsupported_share:.2f}"
    return not faults, "; ".join([*faults, shares])


def _some(words: object) -> str:
    listed = sorted(words)  # type: ignore[call-overload]
    return ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")


def rule_hash(recipe: EvalRecipe) -> str:
    """Hash of the rule and its thresholds; stands where a prompt hash stands for an LLM judge."""
    return content_id([NAME, RULE_VERSION, recipe.lexical_max_omitted, recipe.lexical_max_unsupported])
