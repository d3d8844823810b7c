"""Settings of small trainings."""

from collections.abc import Callable

import pytest

from facelib.config import SECTION_OF, Settings


@pytest.fixture
def settings_of(tiny) -> Callable[..., Settings]:
    """A function from settings by name to `Settings` with the tiny architecture, which validation does not know."""

    def settings_of(**values) -> Settings:
        nested: dict = {"profile": "test", "seed": values.pop("seed", 0)}
        for name, value in values.items():
            nested.setdefault(SECTION_OF[name], {})[name] = value
        settings = Settings(**nested)
        return settings.model_copy(update={"training": settings.training.model_copy(update={"architecture": tiny})})

    return settings_of
