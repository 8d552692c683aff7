"""Metrics are there for whoever may scrape them, and not on the port that clients reach."""

import os
import urllib.error
import urllib.request

# Directly, whatever proxy the cluster gives its pods.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))

url = "http://" + os.environ["METRICS_HOST"] + ":9464/metrics"
with urllib.request.urlopen(url, timeout=30) as reply:
    text = reply.read().decode()
print(len(text.splitlines()), "lines")
assert "medreward_build_info" in text
try:
    status = urllib.request.urlopen(os.environ["SERVICE_URL"] + "/metrics", timeout=30).status
except urllib.error.HTTPError as error:
    status = error.code
assert status in (401, 404), f"metrics are on the public port: {status}"
