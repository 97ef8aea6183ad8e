"""Backends that people write themselves: over a dict, over keys and values, over anything."""

from __future__ import annotations

import asyncio
import pickle
import uuid
from typing import Any

import pytest

from pgtasks import Celery, states
from pgtasks.app.context import Context
from pgtasks.backends.base import (
    COMPRESSED_PAYLOAD_MAGIC,
    BaseBackend,
    BaseDictBackend,
    BaseKeyValueStoreBackend,
    KeyValueStoreBackend,
    Unsupported,
    _nulldict,
    compress_payload,
    decompress_payload,
)
from pgtasks.exceptions import (
    BackendGetMetaError,
    BackendStoreError,
    ImproperlyConfigured,
    TimeoutError,
)


class Shelf(KeyValueStoreBackend):
    """Keys and values in a dict."""

    supports_result_compression = True
    supports_native_join = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: dict[Any, Any] = {}

    def get(self, key):
        return self.kept.get(key)

    def mget(self, keys):
        return [self.kept.get(key) for key in keys]

    def set(self, key, value):
        self.kept[key] = value

    def delete(self, key):
        self.kept.pop(key, None)


class Notebook(BaseDictBackend):
    """Hooks whose parameters have names of their own, as in django-celery-results."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pages: dict[str, Any] = {}

    def _store_result(self, tid, value, status, tb=None, request=None, using=None):
        self.pages[tid] = {"status": status, "result": value, "using": using}

    def _get_task_meta_for(self, tid):
        return self.pages.get(tid, {"status": states.PENDING, "result": None})

    def _forget(self, tid):
        del self.pages[tid]

    def _save_group(self, gid, group_result):
        self.pages[gid] = group_result

    def _restore_group(self, gid):
        return {"result": self.pages[gid]} if gid in self.pages else None

    def _delete_group(self, gid):
        self.pages.pop(gid, None)


@pytest.fixture
def shelf(app) -> Shelf:
    return Shelf(app)


# ── what is kept ────────────────────────────────────────────────────────────────────────


def test_results_are_kept_and_dropped(shelf):
    shelf.mark_as_done("t", {"x": 1})
    assert shelf.get_result("t") == {"x": 1}
    assert shelf.task_result_exists("t")
    shelf.forget("t")

    assert shelf.get_state("t") == states.PENDING
    assert not shelf.task_result_exists("t")


def test_a_success_stays_and_a_failure_does_not(shelf):
    shelf.mark_as_failure("t", KeyError("x"))
    shelf.mark_as_done("t", 1)
    shelf.mark_as_failure("t", KeyError("y"))

    assert (shelf.get_state("t"), shelf.get_result("t")) == (states.SUCCESS, 1)


def test_hooks_are_given_their_values_by_position(app):
    notebook = Notebook(app)
    notebook.store_result("t", 42, states.SUCCESS, traceback="tb", using="replica")
    assert notebook.pages["t"] == {"status": "SUCCESS", "result": 42, "using": "replica"}
    notebook.save_group("g", "members")
    assert notebook.restore_group("g") == "members"
    notebook.delete_group("g")
    notebook.forget("t")

    assert notebook.restore_group("g", cache=False) is None
    assert notebook.pages == {}


def test_groups_are_kept_as_plain_values(app, shelf):
    group = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])
    shelf.save_group("g", group)

    assert shelf.restore_group("g") == group
    shelf.delete_group("g")
    assert shelf.restore_group("g") is None


def test_what_was_read_is_remembered_if_the_settings_say_so(app):
    notebook = Notebook(app, max_cached_results=2)
    for name in ("a", "b", "c"):
        notebook.mark_as_done(name, name)
        notebook.get_task_meta(name)
    notebook.pages.clear()

    assert [notebook.is_cached(name) for name in ("a", "b", "c")] == [False, True, True]
    assert notebook.get_result("c") == "c"
    notebook.reload_task_result("c")
    assert notebook.get_state("c") == states.PENDING


def test_a_mapping_that_keeps_nothing():
    nothing = _nulldict(a=1)
    nothing["b"] = 2
    nothing.update(c=3)
    nothing.setdefault("d", 4)

    assert set(nothing) == {"a"}


def test_extended_results_tell_of_the_request_and_of_declared_stamps(app, shelf):
    app.conf.result_extended = True
    request = Context(
        task="add",
        args=[1],
        kwargs={"y": 2},
        hostname="me@here",
        retries=3,
        delivery_info={"routing_key": "mail"},
        stamped_headers=["team"],
        stamps={"team": "a", "status": "BOGUS"},
        group="g",
        parent_id="p",
    )
    shelf.store_result("t", 1, states.SUCCESS, request=request)
    meta = shelf.get_task_meta("t")

    assert (meta["name"], meta["args"], meta["kwargs"]) == ("add", [1], {"y": 2})
    assert (meta["worker"], meta["retries"], meta["queue"]) == ("me@here", 3, "mail")
    assert (meta["team"], meta["status"]) == ("a", states.SUCCESS)
    assert (meta["group_id"], meta["parent_id"]) == ("g", "p")


def test_arguments_can_be_had_encoded_for_columns_of_their_own(app, shelf):
    app.conf.result_extended = True
    meta = shelf._get_result_meta(1, states.SUCCESS, None, Context(args=[1]), encode=True)

    assert (meta["args"], meta["kwargs"]) == (b"[1]", b"null")


# ── keys ────────────────────────────────────────────────────────────────────────────────


def test_keys_are_celerys(shelf):
    id = uuid.uuid4()

    assert shelf.get_key_for_task("t") == b"celery-task-meta-t"
    assert shelf.get_key_for_group("g") == b"celery-taskset-meta-g"
    assert shelf.get_key_for_chord("g", ".t") == b"chord-unlock-g.t"
    assert shelf.get_key_for_task(id) == shelf.get_key_for_task(str(id))
    assert shelf._strip_prefix(b"celery-task-meta-t") == "t"
    with pytest.raises(ValueError, match="task_id must not be empty"):
        shelf.get_key_for_task("")


@pytest.mark.parametrize("prefix", ["shop", "shop_"])
def test_keys_may_have_a_prefix_of_the_applications(app, prefix):
    app.conf.result_backend_transport_options = {"global_keyprefix": prefix}

    assert Shelf(app).get_key_for_task("t") == b"shop_celery-task-meta-t"


def test_keys_may_be_made_by_a_function_of_the_class(app):
    class Text(Shelf):
        def key_t(key):
            return key.decode() if isinstance(key, bytes) else key

    assert Text(app).get_key_for_task("t") == "celery-task-meta-t"


# ── many at once ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [list, dict])
def test_many_are_read_in_one_call(app, shelf, answer):
    calls = []

    def mget(keys):
        calls.append(keys)
        values = [shelf.get(key) for key in keys]
        return values if answer is list else dict(zip(keys, values, strict=True))

    shelf.mget = mget
    for number in range(10):
        shelf.mark_as_done(str(number), number)
    results = app.ResultSet([app.AsyncResult(str(n), backend=shelf) for n in range(10)])
    app._backend_cache = shelf

    assert results.get(timeout=5) == list(range(10))
    assert len(calls) == 1


def test_waiting_for_many_ends_in_time_and_looks_once_for_nothing(shelf):
    shelf.mark_as_done("done", 1)
    seen = []

    with pytest.raises(TimeoutError):
        seen.extend(shelf.get_many(["done", "never"], timeout=0))
    found = list(shelf.get_many(["done", "never"], max_iterations=1))
    assert [task_id for task_id, _ in found] == ["done"]


def test_only_wanted_states_count_as_ready(shelf):
    shelf.mark_as_done("a", 1)
    shelf.mark_as_failure("b", KeyError("x"))
    only = frozenset({states.SUCCESS})

    found = shelf.get_many(["a", "b"], max_iterations=1, READY_STATES=only)
    assert [task_id for task_id, _ in found] == ["a"]


@pytest.mark.parametrize("what", ["get", "mget", "set", "delete", "incr"])
def test_a_store_says_which_of_its_parts_is_missing(app, what):
    backend = BaseKeyValueStoreBackend(app)

    with pytest.raises(Unsupported, match=rf"BaseKeyValueStoreBackend does not .*{what}"):
        getattr(backend, what)(*(["k", "v"] if what == "set" else ["k"]))


# ── values ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["gzip", "bzip2"])
def test_results_are_compressed_and_older_ones_read(app, shelf, method):
    shelf.mark_as_done("old", "x" * 1000)
    app.conf.result_compression = method
    compressing = Shelf(app)
    compressing.kept = shelf.kept
    compressing.mark_as_done("new", "y" * 1000)
    stored = compressing.get(compressing.get_key_for_task("new"))

    assert stored.startswith(COMPRESSED_PAYLOAD_MAGIC)
    assert len(stored) < 500
    assert compressing.get_result("old") == "x" * 1000
    assert shelf.get_result("new") == "y" * 1000


def test_a_compression_that_does_not_exist_is_refused(app):
    app.conf.result_compression = "squeeze"

    with pytest.raises(ImproperlyConfigured, match=r"'squeeze'.*gzip"):
        Shelf(app)


def test_what_cannot_be_honoured_is_said(app):
    app.conf.result_compression = "gzip"
    with pytest.warns(UserWarning, match="BaseBackend cannot store compressed"):
        assert BaseBackend(app).compression is None

    app.conf.result_compression = None
    app.conf.result_failure_expires = 60
    with pytest.warns(UserWarning, match="does not support result_failure_expires"):
        BaseBackend(app)


def test_payloads_of_any_type_pass_through_decompression():
    packed = compress_payload(b"data", "gzip")

    assert decompress_payload(memoryview(packed)) == b"data"
    assert decompress_payload("text") == "text"
    assert decompress_payload(42) == 42


def test_an_exception_that_is_no_error_comes_back_unless_it_would_end_the_reader(shelf):
    for error in (asyncio.CancelledError(), BaseException("x")):
        meta = shelf.prepare_exception(error)
        assert type(shelf.exception_to_python(meta)) is type(error)
    for error in (SystemExit(1), KeyboardInterrupt(), GeneratorExit()):
        back = shelf.exception_to_python(shelf.prepare_exception(error))
        assert isinstance(back, Exception)
        assert type(back).__name__ == type(error).__name__


# ── a store that is away ────────────────────────────────────────────────────────────────


class Away(Notebook):
    """Fails a few times before it works."""

    def __init__(self, app: Any, failures: int) -> None:
        super().__init__(app)
        self.failures = failures
        self.naps: list[float] = []
        self.reconnected = 0

    def _get_task_meta_for(self, tid):
        self._fail()
        return super()._get_task_meta_for(tid)

    def _store_result(self, *args, **kwargs):
        self._fail()
        super()._store_result(*args, **kwargs)

    def _fail(self):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("away")

    def exception_safe_to_retry(self, exc):
        return isinstance(exc, ConnectionError)

    def on_backend_retryable_error(self, exc):
        self.reconnected += 1
        raise RuntimeError("and the hook fails too")

    def _sleep(self, amount):
        self.naps.append(amount)


def test_an_operation_is_tried_again_where_the_settings_say_so(app):
    app.conf.result_backend_always_retry = True
    away = Away(app, 2)
    away.mark_as_done("t", 1)

    assert away.get_result("t") == 1
    assert (len(away.naps), away.reconnected) == (2, 2)
    assert all(0 <= nap <= 10 for nap in away.naps)


def test_it_is_not_tried_again_otherwise(app):
    with pytest.raises(ConnectionError):
        Away(app, 1).get_task_meta("t")
    app.conf.result_backend_always_retry = True
    safe = Notebook(app)
    safe._get_task_meta_for = Away(app, 1)._get_task_meta_for
    with pytest.raises(ConnectionError):
        safe.get_task_meta("t")


def test_giving_up_says_which_result_it_was(app):
    app.conf.result_backend_always_retry = True
    app.conf.result_backend_max_retries = 1

    with pytest.raises(BackendGetMetaError) as reading:
        Away(app, 9).get_task_meta("t")
    with pytest.raises(BackendStoreError) as storing:
        Away(app, 9).mark_as_done("t", 1)
    assert reading.value.task_id == "t"
    assert (storing.value.task_id, storing.value.state) == ("t", states.SUCCESS)
    assert isinstance(storing.value.__cause__, ConnectionError)


# ── in an application ───────────────────────────────────────────────────────────────────


def test_a_class_of_ones_own_is_used_for_jobs_in_memory(memory_app, desk):
    with Celery("t", broker="memory://", backend=Shelf, set_as_current=False) as app:
        app.conf.result_backend_thread_safe = True

        @app.task(bind=True)
        def parent(self, x):
            child.delay(x)
            return x

        @app.task
        def child(x):
            raise KeyError(x)

        result = parent.delay(3)
        desk(app).work_off()

        assert isinstance(app.backend, Shelf)
        assert result.get(timeout=1) == 3
        with pytest.raises(KeyError):
            result.children[0].get(timeout=1)


def test_a_backend_can_be_pickled(memory_app):
    memory_app.set_current()

    assert type(pickle.loads(pickle.dumps(BaseBackend(memory_app)))) is BaseBackend
