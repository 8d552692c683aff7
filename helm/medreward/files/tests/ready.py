"""The service that clients reach is ready, and names its engines."""

import json
import os
import urllib.request

# Directly, whatever proxy the cluster gives its pods.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))

with urllib.request.urlopen(os.environ["SERVICE_URL"] + "/readyz", timeout=30) as reply:
    told = json.load(reply)
print(json.dumps(told))
assert told["status"] == "ready", told
assert {"judge", "embedder"} <= told["engines"].keys(), told
