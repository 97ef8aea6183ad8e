"""Tasks that can be asked to stop, in memory and on PostgreSQL."""

from __future__ import annotations

from pgtasks.contrib.abortable import AbortableAsyncResult, AbortableTask


class TestARunningTask:
    def test_sees_that_it_was_asked_to_stop_and_its_end_is_its_own(self, each_app, desk):
        seen = []

        @each_app.task(bind=True, base=AbortableTask, shared=False)
        def export(self, pages):
            for page in range(pages):
                seen.append(self.is_aborted())
                if self.is_aborted():
                    return f"stopped at {page}"
                if page == 1:
                    caller = each_app.AsyncResult(self.request.id)
                    AbortableAsyncResult(caller.id, app=each_app).abort()
            return "done"

        result = export.delay(5)
        desk(each_app).work_off()

        assert seen == [False, False, True]
        assert result.get(timeout=5) == "stopped at 2"
        assert result.state == "SUCCESS"
        assert not result.is_aborted()

    def test_shows_callers_that_it_was_asked(self, each_app, desk):
        states = []

        @each_app.task(bind=True, base=AbortableTask, shared=False)
        def export(self):
            self.AsyncResult(self.request.id).abort()
            states.append(each_app.AsyncResult(self.request.id).state)

        export.delay()
        desk(each_app).work_off()

        assert states == ["ABORTED"]

    def test_can_look_at_another_call(self, each_app, desk):
        answers = []

        @each_app.task(bind=True, base=AbortableTask, shared=False)
        def export(self, other):
            answers.append(self.is_aborted(task_id=other))

        export.delay("of somebody else")
        desk(each_app).work_off()

        assert answers == [False]


class TestTheResult:
    def test_of_such_a_task_can_be_aborted(self, memory_app):
        @memory_app.task(base=AbortableTask, shared=False)
        def export():
            pass

        result = export.delay()

        assert isinstance(result, AbortableAsyncResult)
        assert result.app is memory_app
        assert isinstance(export.AsyncResult(result.id), AbortableAsyncResult)

    def test_of_another_task_is_never_aborted(self, memory_app):
        @memory_app.task(bind=True, base=AbortableTask, shared=False)
        def export(self):
            return self.is_aborted()

        export.AsyncResult = memory_app.AsyncResult
        export.push_request(id="1")

        assert export.is_aborted() is False
