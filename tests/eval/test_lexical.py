"""The lexical rule, worked by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from eval.judge_lexical import content_words, judge_section, numbers, rule_hash
from eval.recipe import read_recipe

DIALOGUE = "Patient: severe headache since 3 days, no fever. Doctor: take ibuprofen 400 mg twice daily."
REFERENCE = "Severe headache for 3 days; no fever."  # content: severe headache days no fever


@pytest.fixture
def recipe(repo):
    return read_recipe("soap", repo / "recipes" / "eval").model_copy(
        update={"lexical_max_omitted": 0.4, "lexical_max_unsupported": 0.25}
    )


def test_words_and_numbers() -> None:
    assert content_words("The patient's BP was 120/80, not high") == {"bp", "not", "high"}
    assert content_words("头痛3天，无发热CT") == {"头", "痛", "天", "无", "发", "热", "ct"}
    assert numbers("1,000 mg or 5.0 and 5, 2.50") == {Decimal(1000), Decimal(5), Decimal("2.5")}


@pytest.mark.parametrize(
    ("predicted", "passes", "because"),
    [
        (REFERENCE, True, "omitted 0.00, unsupported 0.00"),
        ("No fever. Headache, severe, 3 days.", True, "omitted 0.00"),  # order is free
        ("Headache for 3 days, no fever.", True, "omitted 0.20"),  # 1 of 5 missing
        ("Headache, 3.", False, "omits 4 of 5 content words (days, fever, no, severe)"),
        ("Severe headache, no fever, days.", False, "numbers of the reference are missing (3)"),
        ("Severe headache 3 days, no fever, 39 degrees.", False, "numbers without source (39)"),
        ("Severe headache 3 days, no fever; ibuprofen 400 mg.", True, "unsupported 0.00"),  # said in the dialogue
        (
            "Severe headache 3 days no fever nausea vomiting",
            False,
            "2 of 7 content words are unsupported (nausea, vomiting)",
        ),
    ],
)
def test_rule(recipe, predicted: str, passes: bool, because: str) -> None:
    passed, reason = judge_section(DIALOGUE, REFERENCE, predicted, recipe)
    assert passed is passes
    assert because in reason


def test_thresholds_are_part_of_the_hash(recipe) -> None:
    assert rule_hash(recipe) != rule_hash(recipe.model_copy(update={"lexical_max_omitted": 0.5}))
