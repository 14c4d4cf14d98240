"""`make help`: the targets with their `##` comments, by `##@` section, and the recipes on disk. Standard library only."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def targets(makefile: str) -> list[tuple[str, str, str]]:
    """(section, target, comment) of every line with `##`; a pattern rule is shown as <prefix>-<what>."""
    found, section = [], ""
    for line in makefile.splitlines():
        if line.startswith("##@"):
            section = line[3:].strip()
            continue
        match = re.match(r"^(\S.*?):.*?## (.*)$", line)
        if match:
            found.append((section, shown(match[1]), match[2]))
    return found


def shown(target: str) -> str:
    """``$(addprefix smoke-,$(RECIPES))`` → ``smoke-<recipe>``."""
    names = {"RECIPES": "<recipe>", "SOURCES": "<source>", "ENVIRONMENTS": "<name>"}
    match = re.match(r"\$\(addprefix (\S+?),\$\((\w+)\)\)", target)
    if match:
        return match[1] + names[match[2]]
    match = re.match(r"\$\((\w+)\)", target)
    return names[match[1]] if match else target


def main(path: str, recipes: list[str]) -> None:
    """Print the help."""
    print("usage: make <target> [VARIABLE=value …]")
    section = None
    for group, target, comment in targets(Path(path).read_text()):
        if group != section:
            print(f"\n{group}")
            section = group
        print(f"  {target:<20} {comment}")
    print("\nvariables")
    for line in Path(path).read_text().splitlines():
        if line.startswith("#: "):
            print(f"  {line[3:]}")
    print("\nrecipes")
    for recipe in recipes:
        print(f"  {recipe:<20} {Path('recipes', recipe + '.yaml').read_text().splitlines()[0].removeprefix('# ')}")


if __name__ == "__main__":
    main(sys.argv[1], sorted(sys.argv[2:]))
