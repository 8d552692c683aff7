"""Writes service/openapi.json to standard output; a test compares the committed file with it."""

import json
import sys

from medreward.app import create_app
from medreward.http.openapi import document
from medreward.settings import Settings

app = create_app(Settings(judge="scripted", embedder="hashed"))
sys.stdout.write(json.dumps(document(app), indent=2, ensure_ascii=False) + "\n")
