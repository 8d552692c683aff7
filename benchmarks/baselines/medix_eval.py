"""MediX-R1's published evaluation: three calls in one conversation for each answer, each awaited.

The whole file is read first; workers take an answer each, and add a line under a lock.
"""

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from baselines.medix_r1 import MODEL, PROMPT, TIMEOUT_S, verdict

ROUNDS = 3
AGAIN = "Are you sure? Judge it once more."


def grade(url: str, predictions: Path, out: Path, workers: int) -> dict[str, float]:
    """Grade a file; give each id's score, 0 or 1."""
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    lock = threading.Lock()
    local = threading.local()

    def one(row: Mapping[str, Any]) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        score = _score(local.session, url, row)
        with lock, out.open("a") as lines:
            lines.write(json.dumps({**row, "evaluation": {"score": score}}) + "\n")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, rows))
    graded = (json.loads(line) for line in out.read_text().splitlines())
    return {row["id"]: float(row["evaluation"]["score"]) for row in graded}


def _score(session: requests.Session, url: str, row: Mapping[str, Any]) -> int:
    prompt = PROMPT.format(answer=row["response"], reference=row["reference"])
    messages = [{"role": "user", "content": prompt}]
    said: list[float] = []
    for _ in range(ROUNDS):
        body: Any = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 512}
        reply = session.post(f"{url}/v1/chat/completions", json=body, timeout=TIMEOUT_S).json()
        said.append(verdict(reply))
        messages += [reply["choices"][0]["message"], {"role": "user", "content": AGAIN}]
    return int(2 * sum(said) > ROUNDS)
