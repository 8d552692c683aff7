"""The profile `gpu` on vLLM's build for CPUs: its engine, with the share that a probe leaves it."""

from typing import TYPE_CHECKING, cast

import pytest

from medreward.app import create_app
from medreward.engines.accelerator import GIB, GpuMemory, Platform
from medreward.settings import Settings
from tests.support.service import loaded
from tests.vllm.conftest import MODEL

if TYPE_CHECKING:
    from medreward.engines.judges.vllm import VllmJudge


@pytest.mark.anyio
async def test_the_profiles_judge_starts_with_what_is_left_of_the_gpu() -> None:
    """Nobody names an engine; the share is that of a GPU of which half is taken."""
    measured: list[int | None] = []

    def probe(gpus: int | None) -> Platform:
        measured.append(gpus)
        memory = (GpuMemory(free=40 * GIB, total=80 * GIB),)
        return Platform(has_vllm=True, cuda_devices=1, memory=memory[:gpus])

    # The embedder of the profile would need the GPU.
    settings = Settings(profile="gpu", judge_model=MODEL, embedder="hashed", vllm_kv_cache_gib=1.0)
    app = create_app(settings, probe=probe)
    async with app.router.lifespan_context(app):
        service = await loaded(app)
        readiness = service.engines.readiness
        judge = cast("VllmJudge", service.engines.judge)

        assert readiness.status == "ready", readiness
        assert judge.identity.startswith("vllm:")
        assert judge.engine_arguments["gpu_memory_utilization"] == 0.46
    # At the check of the platform, and after the embedder was loaded.
    assert measured == [0, 1]
