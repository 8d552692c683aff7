"""The judge tells a right answer from a wrong one, and the embedder gives vectors."""

import json
import os
import pathlib
import urllib.request

# Directly, whatever proxy the cluster gives its pods.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))

KEYS = pathlib.Path("/run/secrets/medreward/medreward_api_keys")
HEADERS = {"Content-Type": "application/json"}
if KEYS.exists():
    HEADERS["Authorization"] = "Bearer " + KEYS.read_text().split(",")[0].strip()


def ask(path, body):
    request = urllib.request.Request(
        os.environ["SERVICE_URL"] + path, json.dumps(body).encode(), HEADERS
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


answers = {"YES": "left lower lobe", "NO": "fracture of the right femur"}
items = [
    {"id": verdict, "reference": "left lower lobe", "answer": answer}
    for verdict, answer in answers.items()
]
for result in ask("/judge", {"items": items})["results"]:
    print(json.dumps(result))
    assert result["status"] == "judged", result
    assert result["verdict"] == result["id"], result

sample = {"response": "<answer>lobe on the left, below</answer>", "reference": "left lower lobe"}
result = ask("/reward", {"recipe": "medix-r1", "samples": [sample]})["results"][0]
print(json.dumps(result))
assert result["status"] == "scored", result
cosine = result["components"]["accuracy_embed"]["cosine"]
assert cosine is not None, result
assert -1 <= cosine <= 1, result
