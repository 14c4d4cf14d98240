"""The three Ark actions and their tool schemas: the one definition for synthesis, training text, inference and UI.

A doctor model answers by a short loop: RetrievalAction (search the knowledge base), then exactly one of AskAction
(request missing information) or TellAction (answer).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

# The seven lists of an AskAction, as the reference system stores them.
LISTS = (
    "disease",
    "symptom",
    "medcine",
    "surgery",
    "body_part",
    "medical_check",
    "concept",
)
Language = Literal["zh", "en"]
Layout = Literal["medtune", "reference"]


class RetrievalAction(BaseModel):
    """Search the knowledge base with one or more queries."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reasoning: str
    queries: list[str] = Field(min_length=1)


class AskAction(BaseModel):
    """Ask the patient for what is missing; seven lists name it. `medcine` (as stored) is read as `medicine`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reasoning: str
    disease: list[str] = []
    symptom: list[str] = []
    medicine: list[str] = Field(default=[], validation_alias=AliasChoices("medicine", "medcine"))
    surgery: list[str] = []
    body_part: list[str] = []
    medical_check: list[str] = []
    concept: list[str] = []
    text: str = Field(min_length=1)


class TellAction(BaseModel):
    """Answer the patient."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reasoning: str
    text: str = Field(min_length=1)


Action = RetrievalAction | AskAction | TellAction
ACTIONS: dict[str, type[BaseModel]] = {cls.__name__: cls for cls in (RetrievalAction, AskAction, TellAction)}


def parse(name: str, arguments: dict[str, Any]) -> Action:
    """A tool call's name and arguments → action. Raises KeyError (unknown name) or pydantic.ValidationError."""
    return ACTIONS[name].model_validate(arguments)  # type: ignore[return-value]


def arguments(action: Action, layout: Layout = "medtune") -> dict[str, Any]:
    """The arguments in written order; layout "reference" writes `medcine`, which the released models know."""
    fields = action.model_dump()
    if layout == "reference" and "medicine" in fields:
        return {("medcine" if name == "medicine" else name): value for name, value in fields.items()}
    return fields


_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "RetrievalAction": "Search the medical knowledge base for what is needed to answer.",
        "AskAction": "Ask the patient for information that is missing.",
        "TellAction": "Answer the patient when the information is sufficient.",
        "reasoning": "Why this action is chosen.",
        "queries": "Short, precise search queries, at most two, none repeated.",
        "text": "What is said to the patient.",
        "disease": "Diseases asked about.",
        "symptom": "Symptoms asked about.",
        "medicine": "Medicines asked about.",
        "surgery": "Operations and procedures asked about.",
        "body_part": "Body parts asked about.",
        "medical_check": "Examinations and tests asked about.",
        "concept": "Other history asked about: sex, age, job, onset, course, severity, diet, allergies.",
    },
    "zh": {
        "RetrievalAction": "在医学知识库中检索回答所需的资料。",
        "AskAction": "信息不足时向患者追问。",
        "TellAction": "信息充分时答复患者。",
        "reasoning": "选择该行动的理由。",
        "queries": "简短而准确的检索语句，最多两条，不重复。",
        "text": "对患者说的话。",
        "disease": "问到的疾病。",
        "symptom": "问到的症状。",
        "medicine": "问到的药物。",
        "surgery": "问到的手术和操作。",
        "body_part": "问到的身体部位。",
        "medical_check": "问到的检查和化验。",
        "concept": "问到的其他病史：性别、年龄、职业、起病时间、病程、程度、饮食、过敏史等。",
    },
}


def tools(language: Language = "zh", layout: Layout = "medtune") -> list[dict[str, Any]]:
    """The three tools as OpenAI function definitions: retrieve, ask, tell. Only AskAction's lists are optional."""
    words = _WORDS[language]
    definitions = []
    for name, cls in ACTIONS.items():
        properties: dict[str, Any] = {}
        for field in cls.model_fields:
            shown = "medcine" if field == "medicine" and layout == "reference" else field
            listed = field == "queries" or field in LISTS or field == "medicine"
            kind: dict[str, Any] = {"type": "array", "items": {"type": "string"}} if listed else {"type": "string"}
            properties[shown] = {**kind, "description": words[field]}
        required = [field for field, info in cls.model_fields.items() if info.is_required()]
        parameters = {"type": "object", "properties": properties, "required": required}
        definitions.append(
            {"type": "function", "function": {"name": name, "description": words[name], "parameters": parameters}}
        )
    return definitions
