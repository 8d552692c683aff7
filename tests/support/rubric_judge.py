"""A server in place of the models whose judge reads the criterion of a rubric, too."""

import json
import re

from tests.support.judge_server import Models

_FIELD = re.compile(r'^(criterion|candidate): (".*")$', re.MULTILINE)


class RubricModels(Models):
    """Judge and embedder; about a rubric, the rule is given an answer and a criterion."""

    def say(self, prompt: str) -> str:
        """Do what the rule wants done about a prompt of the service's; else give a response."""
        fields = {name: json.loads(text) for name, text in _FIELD.findall(prompt)}
        if "criterion" not in fields:
            return super().say(prompt)
        pair = fields["candidate"], fields["criterion"]
        self.asked.append(pair)
        return self.rule(*pair)
