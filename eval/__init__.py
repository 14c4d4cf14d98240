"""Generate on a held-out split, judge, count, report. Imports store, llm, ark, retrieval and serve; never a trainer."""
