"""The loop: grammar, prompts, Episode, runner, events, trace, strategies."""
