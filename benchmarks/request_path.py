"""The way of one request: which modules of the service it enters, and how often it changes between them.

One sample, recipe `medix-r1`, scripted judge, hashed embedder, nothing cached. Each call of a
function of the service is seen by `sys.setprofile`; a coroutine that goes on counts as a call.

    python benchmarks/request_path.py [--steps]
"""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import httpx
import structlog

import medreward
from medreward.app import create_app
from medreward.settings import Settings

PACKAGE = Path(medreward.__file__).parent


def body(answer: str) -> dict[str, object]:
    """Write a request of one sample."""
    sample = {
        "question": "Which lobe is affected?",
        "response": f"<X_RAY><thinking>Dense.</thinking><answer>{answer}</answer>",
        "reference": "left lower lobe",
        "modality": "X_RAY",
    }
    return {"samples": [sample]}


class Recorder:
    """Records the module of each call, as long as it is installed."""

    def __init__(self) -> None:
        self.modules: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call, if it is of a function of ours."""
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            self.modules.append(str(path.relative_to(PACKAGE).with_suffix("")))

    @property
    def steps(self) -> list[str]:
        """The modules in the order in which they were entered; a change at each."""
        return [
            module
            for number, module in enumerate(self.modules)
            if not number or module != self.modules[number - 1]
        ]


async def record() -> Recorder:
    """Send one request, and record its way."""
    recorder = Recorder()
    app = create_app(Settings(judge="scripted", embedder="hashed", recipe="medix-r1"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            # Readiness is polled from outside, as a balancer does.
            while (await client.get("/readyz")).status_code != httpx.codes.OK:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            # The first requests build what the others find.
            for answer in ("The right lung base", "The lingula"):
                await client.post("/reward", json=body(answer))
            sys.setprofile(recorder)
            reply = await client.post("/reward", json=body("The left lung base"))
            sys.setprofile(None)
    if reply.status_code != httpx.codes.OK or reply.json()["counts"]["judge_calls"] != 1:
        raise SystemExit(f"the request was not scored: {reply.text}")
    return recorder


def main() -> None:
    """Print the counts, and with `--steps` the way itself."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", action="store_true", help="print each change of module")
    parser.add_argument("--quick", action="store_true", help="accepted by every benchmark")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    recorder = asyncio.run(record())
    if options.steps:
        print("\n".join(recorder.steps))
    entered = Counter(recorder.steps)
    print(
        f"modules {len(entered)}, changes {len(recorder.steps) - 1}, calls {len(recorder.modules)}"
    )


if __name__ == "__main__":
    main()
