"""Looking at the machine and at the process: processors, memory, threads."""

from __future__ import annotations

import io
import signal
import threading
import time

import pytest

from helpers import eventually
from pgtasks.utils import debug, sysinfo
from pgtasks.utils.threads import Local, LocalManager, LocalStack, bgThread, release_local
from pgtasks.utils.timer2 import Timer


@pytest.fixture
def files(monkeypatch) -> dict[str, str]:
    """The files that describe control groups; there are no others."""
    files: dict[str, str] = {}
    monkeypatch.setattr(sysinfo, "_read_text", files.get)
    monkeypatch.setattr(sysinfo, "available_cpu_count", lambda: 8)
    return files


class TestProcessors:
    def test_are_all_of_them_without_a_limit(self, files):
        assert sysinfo.cpu_budget() == (8, 8, None)

    def test_are_as_many_as_the_containers_limit_touches(self, files):
        files["/sys/fs/cgroup/cpu.max"] = "150000 100000\n"

        assert sysinfo.cpu_budget() == (2, 8, 1.5)
        assert sysinfo.cpu_budget(use_cgroup_quota=False).count == 8

    def test_are_limited_by_every_group_on_the_way_to_the_root(self, files):
        files["/proc/self/cgroup"] = "0::/pods/pod\n"
        files["/sys/fs/cgroup/pods/pod/cpu.max"] = "max 100000\n"
        files["/sys/fs/cgroup/pods/cpu.max"] = "300000 100000\n"

        assert sysinfo.cgroup_cpu_quota() == 3.0

    def test_are_limited_by_the_first_version_of_groups_too(self, files):
        files["/proc/self/cgroup"] = "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n"
        group = "/sys/fs/cgroup/cpu,cpuacct/docker/abc"
        files[f"{group}/cpu.cfs_quota_us"] = "50000\n"
        files[f"{group}/cpu.cfs_period_us"] = "100000\n"

        assert sysinfo.cpu_budget() == (1, 8, 0.5)

    def test_are_asked_for_by_a_word(self):
        assert sysinfo.is_auto_concurrency(" Auto ")
        assert not sysinfo.is_auto_concurrency("4")


class TestBlockDetection:
    def test_raises_where_the_block_is_stuck(self):
        with (
            pytest.raises(RuntimeError, match="Blocking detection timed-out"),
            debug.blockdetection(0.05),
        ):
            time.sleep(10)

        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0

    def test_lets_quick_blocks_be(self):
        with debug.blockdetection(60):
            pass

        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


class TestLookingIntoAProcess:
    def test_shows_what_all_threads_do(self):
        told = debug.cry()

        assert "MainThread" in told
        assert "test_shows_what_all_threads_do" in told

    def test_shows_how_much_memory_it_has_taken(self, monkeypatch):
        monkeypatch.setattr(debug, "_mem_sample", [])
        monkeypatch.setattr(debug, "mem_rss", lambda: "12MB")
        monkeypatch.setattr(debug, "ps", object)
        debug.sample_mem()
        out = io.StringIO()

        debug.memdump(file=out)

        assert out.getvalue() == "- rss (sample):\n-    > 12MB,\n- rss (end): 12MB.\n"
        assert debug._mem_sample == []

    @pytest.mark.parametrize(
        ("number", "text"), [(0, "0b"), (512, "512b"), (1536, "1.5KB"), (2**21, "2MB")]
    )
    def test_writes_bytes_for_people(self, number, text):
        assert debug.humanbytes(number) == text


class TestAThreadThatGoesOn:
    def test_calls_its_body_until_it_is_stopped(self):
        calls = []

        class Counting(bgThread):
            def body(self):
                calls.append(1)
                time.sleep(0.001)

        thread = Counting()
        thread.start()
        eventually(lambda: len(calls) > 2)
        thread.stop()

        assert not thread.is_alive()

    def test_needs_a_body(self):
        with pytest.raises(NotImplementedError, match="body"):
            bgThread().body()


class TestLocals:
    def test_are_each_threads_own(self):
        local, seen = Local(), []
        local.name = "here"

        thread = threading.Thread(target=lambda: seen.append(hasattr(local, "name")))
        thread.start()
        thread.join()

        assert seen == [False]
        assert local.name == "here"

    def test_can_be_stood_for_by_proxies(self):
        local, stack = Local(), LocalStack()
        local.word = "local"
        stack.push("stack")

        assert local("word").upper() == "LOCAL"
        assert stack().upper() == "STACK"
        stack.pop()
        assert not stack()

    def test_leave_nothing_behind(self):
        stack, local = LocalStack(), Local()
        stack.push(1)
        stack.push(2)
        local.name = "here"

        assert (stack.pop(), stack.top, stack.pop(), stack.pop()) == (2, 1, 1, None)
        assert list(stack._local) == []
        LocalManager([local, stack]).cleanup()
        assert list(local) == []

    def test_can_be_released_one_by_one(self):
        local = Local()
        local.name = "here"

        release_local(local)

        with pytest.raises(AttributeError, match="name"):
            _ = local.name


class TestATimer:
    def test_calls_functions_at_their_time_and_again(self):
        timer, calls = Timer(), []
        try:
            timer.call_after(0.01, calls.append, ("once",))
            timer.call_repeatedly(0.01, calls.append, ("again",))
            eventually(lambda: "once" in calls and calls.count("again") > 2)
        finally:
            timer.stop()

        assert not timer.is_alive()

    def test_does_not_call_what_was_cancelled(self):
        timer, calls = Timer(), []
        try:
            entry = timer.call_after(0.05, calls.append, ("never",))
            timer.cancel(entry)
            timer.call_after(0.06, calls.append, ("later",))
            eventually(lambda: calls)
        finally:
            timer.stop()

        assert calls == ["later"]
