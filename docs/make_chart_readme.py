"""Writes the chart's README: what stands here, and a table of what values.yaml says of itself."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent.parent / "helm" / "medreward"
ROLE = "roles.single"
"""The role whose values are described; the others have the same."""

HEAD = """# medreward on Kubernetes

An api, a judge and an embedder as deployments of their own, or all of it in one kind of pod.

```sh
helm install rewards ./helm/medreward                                      # GPU nodes: api, judge (vLLM), embedder
helm install rewards ./helm/medreward -f helm/medreward/ci/minimal.yaml    # no GPU: a language model on CPUs
helm install rewards ./helm/medreward -f helm/medreward/ci/small.yaml      # small nodes: no language model
helm test rewards
```

Build and push the images first (`deploy/`), and name their registry in `imageRegistry`.
What to decide before production, how to upgrade, and what was not tried: `docs/kubernetes.md`.
`ci/` holds a file of values for each kind of deployment; all of them are rendered and checked in tests.

## Values

Made from `values.yaml` by `make docs`. The roles `api`, `judge` and `embed` have the same values as `single`, with other defaults.

| value | default | what it is |
|---|---|---|
"""


def readme() -> str:
    """Write the README."""
    text = (CHART / "values.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    rows = [
        f"| `{_shown(path)}` | {_default(values, path)} | {comment} |"
        for path, comment in _comments(text)
    ]
    return HEAD + "\n".join(rows) + "\n"


def _comments(text: str) -> list[tuple[str, str]]:
    """Find each described value's path, by its indentation, and its comment."""
    found: list[tuple[str, str]] = []
    keys: list[str] = []
    comment = ""
    for line in text.splitlines():
        if described := re.match(r"\s*# -- (.*)", line):
            comment = described[1]
            continue
        key = re.match(r"( *)([A-Za-z0-9]+):", line)
        if key is None:
            continue
        keys = [*keys[: len(key[1]) // 2], key[2]]
        if comment:
            found.append((".".join(keys), comment))
            comment = ""
    return found


def _shown(path: str) -> str:
    return path.replace(ROLE, "roles.<role>")


def _default(values: Any, path: str) -> str:
    for key in path.split("."):
        values = values[key]
    if values in ("", [], {}):
        return "none"
    text = yaml.safe_dump(values, default_flow_style=True, width=1000).strip().removesuffix("...")
    return f"`{text.strip()}`"


if __name__ == "__main__":
    sys.stdout.write(readme())
