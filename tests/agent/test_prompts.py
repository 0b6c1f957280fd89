"""The words said to a model: each template takes the fields that its description names, and no others."""

from __future__ import annotations

import ast
import inspect
import re
from string import Formatter

import pytest

from videobrain.agent.prompts import COMPACT, DEFAULT, PromptProfile, prompt_profile
from videobrain.errors import ConfigurationError

PLAIN = {"name", "form_tags", "form_tags_without_tools", "form_native", "form_native_without_tools"}
"""Sent as they are; braces in them are braces."""


def documented() -> dict[str, set[str]]:
    """Fields of each template, from the descriptions in the source."""
    (body,) = [node for node in ast.parse(inspect.getsource(PromptProfile)).body if isinstance(node, ast.ClassDef)]
    fields: dict[str, set[str]] = {}
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            described = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            text = after.value.value if described else ""  # type: ignore[union-attr]
            fields[node.target.id] = set(re.findall(r"``{(\w+)}``", text))
    return fields


@pytest.mark.parametrize("profile", [DEFAULT, COMPACT], ids=lambda profile: profile.name)
@pytest.mark.parametrize("template", sorted(PromptProfile.model_fields.keys() - PLAIN - {"options_in_words"}))
def test_each_template_takes_exactly_its_fields(profile: PromptProfile, template: str) -> None:
    used = {field for _, field, _, _ in Formatter().parse(getattr(profile, template)) if field is not None}
    assert used <= documented()[template]
    if profile is DEFAULT:
        assert used == documented()[template]
    values = {field: 1.5 if field == "timestamp" else f"<{field}>" for field in used}
    text = getattr(profile, template).format(**values)
    assert all(str(value) in text for field, value in values.items() if field != "timestamp")


@pytest.mark.parametrize("profile", [DEFAULT, COMPACT], ids=lambda profile: profile.name)
def test_the_forms_show_the_tags(profile: PromptProfile) -> None:
    for tag in ("<thinking>", "</thinking>", "<tool_call>", "</tool_call>", "<answer>", "</answer>"):
        assert tag in profile.form_tags
    assert "tool_call" not in profile.form_tags_without_tools
    assert "thinking" not in profile.form_native
    assert "tool" not in profile.form_native_without_tools
    if profile is COMPACT:
        assert len(profile.system) < len(DEFAULT.system) / 3


def test_profiles_by_name() -> None:
    assert prompt_profile("default") is DEFAULT
    assert prompt_profile("compact") is COMPACT
    with pytest.raises(ConfigurationError, match=r"no prompt profile 'shakespeare'.*compact, default"):
        prompt_profile("shakespeare")
