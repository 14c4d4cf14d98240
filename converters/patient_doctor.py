"""Patient-Doctor conversations (mahfoos/Patient-Doctor-Conversation): Description, Doctor, Patient, Status in any order.

The prompt is the short question and then the patient's account (once, when the account opens with the question); the target is the
doctor's reply. Rows rewritten into lists carry `_original_doctor`: `reply="original"` trains on that instead, and a row whose
rewriting failed is rejected, because its reply is not of the kind of the others.
"""

from __future__ import annotations

from typing import Any

from converters.conversation import ASSISTANT, USER, is_url
from converters.shape import Draft, Options, Reject, Shape, leftover, text

USED = frozenset(("description", "doctor", "patient", "status", "_original_doctor", "_conversion_success"))
SEVERITIES = frozenset(("low severity", "medium severity", "high severity"))


def status_of(value: object) -> str | None:
    """`"Medium severity:\\r"` → `"medium severity"`; another word as it is, lower case; None when there is none."""
    if not isinstance(value, str):
        return None
    return " ".join(value.lower().replace(":", " ").split()) or None


def _is_patient_doctor(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    return {"doctor", "patient"} <= {name.lower() for name in row if isinstance(name, str)}


def _convert(row: Any, options: Options) -> Draft:
    row = {name.lower() if isinstance(name, str) else name: value for name, value in row.items()}
    if "doctor" not in row:
        raise Reject("not-this-shape")
    if options.reply == "original":
        reply = text(row.get("_original_doctor"), "no-original-reply")
    elif row.get("_conversion_success") in (False, "False", "false"):
        raise Reject("conversion-failed")
    else:
        reply = text(row["doctor"], "empty-answer")
    if is_url(reply):
        raise Reject("answer-is-url")
    description, patient = (
        value.strip() if isinstance(value, str) else "" for value in (row.get("description"), row.get("patient"))
    )
    if not description and not patient:
        raise Reject("empty-question")
    question = patient if patient.startswith(description) else f"{description}\n\n{patient}".strip()
    meta = leftover(row, USED)
    status = status_of(row.get("status"))
    if status is not None:
        meta["status"] = status
        if status not in SEVERITIES:
            meta["repaired"] = "unknown-status-kept"
    messages = [{"role": USER, "content": question}, {"role": ASSISTANT, "content": reply}]
    return Draft({"messages": messages}, patient or description, meta)


SHAPES = (
    Shape(
        "patient-doctor",
        "patient-doctor",
        "patient_doctor",
        ("Description", "Doctor", "Patient", "Status"),
        _is_patient_doctor,
        _convert,
    ),
)
