"""Which server a request goes to: order, load, rest and return, by a clock of the test. No network."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import numpy as np
import pytest

from videobrain.errors import ModelConnectionError, ModelServerError, RateLimitError
from videobrain.models import ChatRequest, ImagePart, Message, TextPart
from videobrain.models.endpoint import Endpoint
from videobrain.models.retry import PassingFailure
from videobrain.models.servers import Servers, addresses, affinity_key
from videobrain.video.frame import EncodedFrame, Frame


@dataclass
class Cluster:
    """Servers that nobody asks anything, and the time."""

    count: int
    now: float = 100.0
    servers: Servers = field(init=False)

    def __post_init__(self) -> None:
        endpoints = [Endpoint(f"http://host-{number}/v1", None, request_seconds=1) for number in range(self.count)]
        self.servers = Servers(endpoints, clock=lambda: self.now)

    def ask(self, key: str, failure: PassingFailure | None = None) -> str:
        """Send a request that succeeds or fails at once; which server it went to."""
        with suppress(PassingFailure), self.servers.route(key).server() as server:
            if failure is not None:
                raise failure
        return server.endpoint.shown_url


def down(status: int | None = None, *, wait: float | None = None) -> PassingFailure:
    kind = ModelConnectionError if status is None else ModelServerError
    return PassingFailure(kind, "It is gone.", status=status, retry_after_seconds=wait)


class TestAddresses:
    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ("http://a/v1", ["http://a/v1"]),
            ("http://a/v1,http://b/v1", ["http://a/v1", "http://b/v1"]),
            (" http://a/v1 ,\n http://b/v1, http://a/v1,", ["http://a/v1", "http://b/v1"]),
            ("http://a/v1 http://b/v1", ["http://a/v1", "http://b/v1"]),
            (["http://a/v1", "http://b/v1"], ["http://a/v1", "http://b/v1"]),
            (("http://a/v1,http://b/v1", "http://c/v1"), ["http://a/v1", "http://b/v1", "http://c/v1"]),
            ([], [None]),
            (" , ", [None]),
            (None, [None]),
        ],
    )
    def test_one_or_several(self, given: str | list[str] | None, meant: list[str], monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        assert addresses(given) == meant
        monkeypatch.setenv("OPENAI_BASE_URL", "http://x/v1,http://y/v1")
        assert addresses(given) == (meant if meant != [None] else ["http://x/v1", "http://y/v1"])


class TestKey:
    @staticmethod
    def frame(seed: int) -> ImagePart:
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
        return ImagePart(frame=EncodedFrame.encode(Frame(seed, 0.0, pixels)))

    def conversation(self, *seeds: int, question: str = "Who?") -> ChatRequest:
        system = Message(role="system", parts=(TextPart(text="You see frames."),))
        user = Message(role="user", parts=(TextPart(text=question), *(self.frame(seed) for seed in seeds)))
        return ChatRequest(messages=(system, user))

    def test_turns_and_questions_of_a_video_share_it(self) -> None:
        first = self.conversation(1, 2)
        reply = Message(role="assistant", parts=(TextPart(text="Look."),))
        more = Message(role="user", parts=(self.frame(3),))
        later = first.model_copy(update={"messages": (*first.messages, reply, more)})
        assert affinity_key(first) == affinity_key(later) == affinity_key(self.conversation(1, 2, question="Where?"))

    def test_videos_that_begin_alike_have_keys_of_their_own(self) -> None:
        assert affinity_key(self.conversation(1, 2)) != affinity_key(self.conversation(1, 3))

    def test_without_frames_the_words_count(self) -> None:
        assert affinity_key(self.conversation()) != affinity_key(self.conversation(question="Where?"))


class TestOrder:
    def test_a_key_has_one_server_and_many_keys_are_spread_evenly(self) -> None:
        cluster = Cluster(3)
        places = {key: cluster.ask(key) for key in map(str, range(600))}
        assert places == {key: cluster.ask(key) for key in places}
        assert all(150 < count < 250 for count in Counter(places.values()).values())

    def test_a_further_server_takes_its_share_and_moves_nothing_else(self) -> None:
        few, more = Cluster(3), Cluster(4)
        moved = [place for key in map(str, range(600)) if (place := more.ask(key)) != few.ask(key)]
        assert set(moved) == {"http://host-3/v1"}
        assert 100 < len(moved) < 200


class TestLoad:
    def at_once(self, count: int, keys: list[str], servers: int = 2) -> Counter[str]:
        cluster = Cluster(servers)
        with ExitStack() as sent:
            for number in range(count):
                sent.enter_context(cluster.servers.route(keys[number % len(keys)]).server())
            places = Counter({state.address: state.in_flight for state in cluster.servers.states})
        assert all(state.in_flight == 0 for state in cluster.servers.states)
        return places

    def test_a_few_requests_about_one_video_stay_together(self) -> None:
        assert sorted(self.at_once(4, ["k"]).values()) == [0, 4]

    @pytest.mark.parametrize("count", [12, 16, 64])
    def test_many_requests_about_one_video_go_to_the_others_too(self, count: int) -> None:
        least, most = sorted(self.at_once(count, ["k"]).values())
        assert least >= count / 5
        assert most >= count / 2, "the server of the video has the most"

    def test_no_server_has_much_more_than_its_share(self) -> None:
        places = self.at_once(128, [str(number) for number in range(16)], servers=4)
        assert max(places.values()) <= 1.5 * 128 / 4 + 1
        assert min(places.values()) > 0


class TestRest:
    def test_a_failed_server_is_left_alone_and_gets_one_request_to_show_that_it_is_back(self) -> None:
        cluster = Cluster(2)
        first = cluster.ask("k", down())
        other = cluster.ask("k")
        assert first != other
        assert [state.problem for state in cluster.servers.states if state.address == first] == ["It is gone."]
        cluster.now += 0.9
        assert cluster.ask("k") == other
        cluster.now += 0.2
        with cluster.servers.route("k").server() as trial:
            assert trial.endpoint.shown_url == first
            assert cluster.ask("k") == other, "while the first one is out, nobody else goes there"
        assert cluster.ask("k") == first
        assert [state.problem for state in cluster.servers.states] == ["", ""]

    def test_the_rest_grows_with_each_failure_in_a_row_up_to_a_minute(self) -> None:
        cluster = Cluster(2)

        def rest_after_failure() -> float:
            cluster.ask("k", down())
            began, cluster.now = cluster.now, max(server.rests_until for server in cluster.servers)
            return cluster.now - began

        assert [rest_after_failure() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        cluster.ask("k")  # it replies
        assert rest_after_failure() == 1

    def test_what_was_under_way_fails_with_the_server_and_counts_once(self) -> None:
        cluster = Cluster(2)
        with ExitStack() as sent:
            for _ in range(3):
                sent.enter_context(cluster.servers.route("k").server())
            cluster.now += 1
            failed = cluster.ask("k", down())
            server = next(server for server in cluster.servers if server.endpoint.shown_url == failed)
            for _ in range(3):
                cluster.servers.failed(server, down(), sent_at=cluster.now - 1)
            assert server.failures == 1

    def test_a_server_says_how_long_to_leave_it_alone(self) -> None:
        cluster = Cluster(2)
        first = cluster.ask("k", down(503, wait=30))
        cluster.now += 29
        assert cluster.ask("k") != first
        cluster.now += 2
        assert cluster.ask("k") == first

    def test_a_failure_that_may_be_the_requests_own_costs_the_server_nothing(self) -> None:
        cluster = Cluster(2)
        assert cluster.ask("k", down(500)) == cluster.ask("k")

    def test_where_all_rest_they_are_asked_all_the_same(self) -> None:
        cluster = Cluster(3)
        route = cluster.servers.route("k")
        for round_ in range(2):
            asked = []
            for left in (2, 1, 0):
                failure = down()
                with suppress(PassingFailure), route.server() as server:
                    asked.append(server.endpoint.shown_url)
                    raise failure
                assert failure.elsewhere == (left > 0)
            assert len(set(asked)) == 3, round_
            assert failure.message == "None of the 3 model servers replied. It is gone. It is gone. It is gone."

    def test_the_shortest_wait_holds_where_all_of_them_name_one(self) -> None:
        for waits, meant in (([5.0, 3.0], 3.0), ([5.0, None], None)):
            route = Cluster(2).servers.route("k")
            for wait in waits:
                failure = PassingFailure(RateLimitError, "Slower.", status=429, retry_after_seconds=wait)
                with suppress(PassingFailure), route.server():
                    raise failure
            assert failure.retry_after_seconds == meant

    def test_a_single_server_never_rests(self) -> None:
        cluster = Cluster(1)
        failure = down()
        assert cluster.ask("k", failure) == cluster.ask("k")
        assert (failure.message, failure.elsewhere) == ("It is gone.", False)
        assert [state.problem for state in cluster.servers.states] == [""]
