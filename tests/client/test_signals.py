from __future__ import annotations

import gc
import logging
import pickle
import threading
from typing import Any

import pytest

from pgtasks import signals
from pgtasks.exceptions import CDeprecationWarning
from pgtasks.utils.dispatch import Signal
from pgtasks.utils.dispatch import signal as module
from pgtasks.utils.proxy import PromiseProxy

#: Signal and the arguments that Celery 5.7 sends with it.
ARGUMENTS = {
    "after_setup_logger": "colorize format logfile logger loglevel",
    "after_setup_task_logger": "colorize format logfile logger loglevel",
    "after_task_publish": "body exchange headers routing_key",
    "beat_embedded_init": "",
    "beat_init": "",
    "before_task_publish": (
        "body declare exchange headers properties retry_policy routing_key"
    ),
    "celeryd_after_setup": "conf instance",
    "celeryd_init": "conf instance options",
    "eventlet_pool_apply": "args kwargs target",
    "eventlet_pool_postshutdown": "",
    "eventlet_pool_preshutdown": "",
    "eventlet_pool_started": "",
    "heartbeat_sent": "",
    "import_modules": "",
    "setup_logging": "colorize format logfile loglevel",
    "task_failure": "args einfo exception kwargs task_id traceback",
    "task_internal_error": "args einfo exception kwargs request task_id traceback",
    "task_postrun": "args kwargs retval state task task_id",
    "task_prerun": "args kwargs task task_id",
    "task_received": "request",
    "task_rejected": "exc message",
    "task_retry": "einfo reason request",
    "task_revoked": "expired request signum terminated",
    "task_sent": "args eta kwargs task task_id taskset",
    "task_success": "result runtime",
    "task_unknown": "exc id message name",
    "user_preload_options": "app options",
    "worker_before_create_process": "",
    "worker_init": "",
    "worker_process_init": "",
    "worker_process_shutdown": "exitcode pid",
    "worker_ready": "",
    "worker_shutdown": "",
    "worker_shutting_down": "exitcode how sig",
}


@pytest.fixture
def signal() -> Signal:
    return Signal(["val"], name="test")


def echo(val: Any, **kwargs: Any) -> Any:
    return val


class Receiver:
    def __call__(self, val: Any, **kwargs: Any) -> Any:
        return val

    def method(self, val: Any, **kwargs: Any) -> Any:
        return self, val


# ── the signals there are ───────────────────────────────────────────────────────────────


def test_the_signals_are_celerys() -> None:
    assert set(signals.__all__) == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_signal_names_its_arguments(name: str) -> None:
    found = getattr(signals, name)

    assert found.name == name
    assert found.providing_args == set(ARGUMENTS[name].split())


# ── connecting ──────────────────────────────────────────────────────────────────────────


def test_receivers_are_told_signal_sender_and_arguments(signal: Signal) -> None:
    heard: list[Any] = []

    def receiver(**told: Any) -> None:
        heard.append(told)

    signal.connect(receiver)
    signal.send(sender="me", val=1)

    assert heard == [{"signal": signal, "sender": "me", "val": 1}]


def test_sending_answers_what_each_receiver_said(signal: Signal) -> None:
    receiver = Receiver()
    signal.connect(echo)
    signal.connect(receiver)

    assert signal.send(None, val=5) == [(echo, 5), (receiver, 5)]


def test_connect_is_a_decorator_with_and_without_arguments(signal: Signal) -> None:
    @signal.connect
    def first(val: Any, **kwargs: Any) -> str:
        return "first"

    @signal.connect(sender="x", weak=False)
    def second(val: Any, **kwargs: Any) -> str:
        return "second"

    assert [answer for _, answer in signal.send("x", val=1)] == ["first", "second"]
    assert [answer for _, answer in signal.send("y", val=1)] == ["first"]


def test_a_receiver_without_keyword_arguments_is_refused(signal: Signal) -> None:
    def narrow(val: Any) -> None: ...

    with pytest.raises(ValueError, match=r"\*\*kwargs"):
        signal.connect(narrow)


def test_connecting_twice_is_connecting_once(signal: Signal) -> None:
    signal.connect(echo)
    signal.connect(echo)

    assert len(signal.receivers) == 1


def test_a_uid_stands_for_the_receiver(signal: Signal) -> None:
    @signal.connect(dispatch_uid="only one")
    def first(**kwargs: Any) -> str:
        return "first"

    @signal.connect(dispatch_uid="only one")
    def second(**kwargs: Any) -> str:
        return "second"

    assert signal.send(None, val=1) == [(first, "first")]
    assert signal.disconnect(dispatch_uid="only one")
    assert signal.send(None, val=1) == []


def test_senders_that_are_equal_texts_are_one_sender(signal: Signal) -> None:
    signal.connect(echo, sender="".join(["task", ".name"]))

    assert signal.send("task.name", val=1) == [(echo, 1)]


def test_methods_of_two_instances_are_two_receivers(signal: Signal) -> None:
    a, b = Receiver(), Receiver()
    signal.connect(a.method)
    signal.connect(b.method)
    signal.connect(b.method)

    assert [answer for _, answer in signal.send(None, val=1)] == [(a, 1), (b, 1)]

    assert signal.disconnect(b.method)
    assert [answer for _, answer in signal.send(None, val=1)] == [(a, 1)]


def test_a_task_that_does_not_exist_yet_can_be_the_sender(signal: Signal) -> None:
    task = object()
    promise = PromiseProxy(lambda: task)
    signal.connect(echo, sender=promise)
    assert not promise.__evaluated__()
    assert signal.receivers == []

    promise.__maybe_evaluate__()

    assert signal.send(task, val=1) == [(echo, 1)]
    assert signal.send(promise, val=2) == [(echo, 2)]


# ── disconnecting ───────────────────────────────────────────────────────────────────────


def test_disconnecting_says_whether_there_was_a_connection(signal: Signal) -> None:
    signal.connect(echo, sender="x")

    assert not signal.disconnect(echo)
    assert signal.disconnect(echo, sender="x")
    assert not signal.disconnect(echo, sender="x")


def test_weak_in_disconnect_is_deprecated(signal: Signal) -> None:
    signal.connect(echo)

    with pytest.warns(CDeprecationWarning, match="weak"):
        signal.disconnect(echo, weak=True)


@pytest.mark.parametrize("method", [False, True])
def test_a_receiver_that_goes_out_of_scope_is_disconnected(
    signal: Signal, method: bool
) -> None:
    connections = signal.receivers
    receiver = Receiver()
    signal.connect(receiver.method if method else receiver)

    del receiver
    gc.collect()

    assert signal.send(None, val=1) == []
    assert not signal.has_listeners()
    # Others may look at the list to see whether anybody listens.
    assert signal.receivers is connections
    assert connections == []


def test_a_strong_connection_keeps_its_receiver(signal: Signal) -> None:
    signal.connect(lambda **kwargs: "still here", weak=False)
    gc.collect()

    assert [answer for _, answer in signal.send(None, val=1)] == ["still here"]


# ── sending ─────────────────────────────────────────────────────────────────────────────


def test_a_receiver_that_raises_does_not_keep_others_from_hearing(
    signal: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("broken")

    def broken(**kwargs: Any) -> None:
        raise error

    signal.connect(broken)
    signal.connect(echo)

    with caplog.at_level(logging.ERROR):
        answers = signal.send(None, val=1)

    assert answers == [(broken, error), (echo, 1)]
    assert "broken" in caplog.text


def test_nobody_listening_is_seen_without_a_call(signal: Signal) -> None:
    assert not signal.receivers

    signal.connect(echo)
    assert signal.receivers


def test_has_listeners_asks_for_a_sender(signal: Signal) -> None:
    signal.connect(echo, sender="x")

    assert signal.has_listeners("x")
    assert not signal.has_listeners("y")


def test_a_receiver_with_retry_is_called_until_it_succeeds(
    signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    calls = []

    def shaky(val: Any, **kwargs: Any) -> Any:
        calls.append(val)
        if len(calls) < 4:
            raise ConnectionError("away")
        return val

    signal.connect(shaky, retry=True)

    assert [answer for _, answer in signal.send(None, val=7)] == [7]
    assert pauses == [2, 4, 6]
    assert signal.disconnect(shaky)


def test_a_receiver_with_retry_and_a_uid_is_found_by_it(signal: Signal) -> None:
    signal.connect(echo, retry=True, dispatch_uid="abc")

    assert signal.disconnect(dispatch_uid="abc")


def test_connecting_and_sending_from_many_threads(signal: Signal) -> None:
    stop = threading.Event()
    failures: list[Exception] = []

    def send() -> None:
        try:
            while not stop.is_set():
                signal.send(None, val=1)
        except Exception as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(500):
            receiver = Receiver()
            signal.connect(receiver)
            signal.connect(receiver.method)
            signal.disconnect(receiver)
            del receiver
    finally:
        stop.set()
        sender.join()
    gc.collect()

    assert failures == []
    assert signal.send(None, val=1) == []


def test_a_signal_is_pickled_without_its_connections(signal: Signal) -> None:
    signal.connect(echo)

    again = pickle.loads(pickle.dumps(signal))

    assert (again.name, again.providing_args, again.receivers) == ("test", {"val"}, [])
