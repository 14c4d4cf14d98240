"""What a conversion did, as lines for the terminal."""

from __future__ import annotations

from converters.run import Result


def lines(result: Result) -> list[str]:
    """The summary: rows in, kept, rejected by reason, duplicates, splits, outputs, and how to go on."""
    manifest = result.manifest
    shapes = manifest["shape"] if isinstance(manifest["shape"], list) else [manifest["shape"]]
    table = [("rows in", f"{manifest['rows_in']:,}"), ("kept", f"{manifest['kept']:,}")]
    table += [("rejected", f"{manifest['rejected_total']:,}")]
    table += [(f"  {reason}", f"{count:,}") for reason, count in manifest["rejected"].items()]
    table += [("duplicates", f"{manifest['duplicates']:,}")]
    table += [(f"repaired: {what}", f"{count:,}") for what, count in manifest["repaired"].items()]
    table += [(split, f"{count:,}") for split, count in manifest["splits"].items()]
    width = max(len(left) for left, _ in table)
    text = [f"{manifest['source']}: {', '.join(shapes)} → {result.name}"]
    if len(manifest["inputs"]) > 1:
        text += [
            f"  {entry['path']}: {entry['shape']}, {entry['format']}, {entry['rows']:,} rows, {entry['kept']:,} kept"
            + (f", published as {entry['split']}" if entry["split"] else "")
            for entry in manifest["inputs"]
        ]
    text += [f"  {left:<{width}}  {right:>12}" for left, right in table]
    text += _remarks(result)
    if not manifest["kept"]:
        return [*text, f"nothing was kept and nothing registered; see {result.out / 'rejects.jsonl'} and manifest.json"]
    text.append(f"written to {result.out}")
    if result.registered:
        recipe = "a dpo recipe" if manifest["kind"] == "preference" else "an sft or lora recipe"
        use = (
            f"to train on it: DATASET={result.name} with {recipe}"
            if manifest["splits"]["train"]
            else "it has no rows to train on"
        )
        text.append(f"registered as {', '.join(result.registered)}; {use}")
    else:
        text.append(f"not registered: LLaMA-Factory cannot read FORMAT={manifest['options']['format']}")
    return text


def _remarks(result: Result) -> list[str]:
    manifest = result.manifest
    text = []
    if replaced := manifest.get("replaces"):
        text.append(f"this replaces the set made from {', '.join(replaced)}; NAME=<another> keeps both")
    if empty := [split for split, count in manifest["splits"].items() if not count]:
        text.append(f"{', '.join(empty)}: 0 rows; other shares with SPLITS=train:0.8,val:0.1,test:0.1")
    if manifest["published_splits"]:
        own = [entry for entry in manifest["inputs"] if not entry["split"]]
        rest = f", except for {len(own)} of {len(manifest['inputs'])} inputs that have none" if own else ""
        text.append(f"published splits are kept; SPLITS is ignored{rest}")
        text.append(f"groups that the publisher put on two sides of a split: {manifest['groups_across_splits']:,}")
    for entry in manifest["skipped_files"]:
        text.append(f"skipped {entry['path']}: {entry['reason']}")
    return text
