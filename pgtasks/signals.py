"""The signals, with what their receivers are told.

Every receiver gets ``signal`` and ``sender`` as well, and must take ``**kwargs``. In the
lists below the sender stands first.
"""

from __future__ import annotations

from pgtasks.utils.dispatch import Signal

__all__ = [
    "after_setup_logger",
    "after_setup_task_logger",
    "after_task_publish",
    "beat_embedded_init",
    "beat_init",
    "before_task_publish",
    "celeryd_after_setup",
    "celeryd_init",
    "eventlet_pool_apply",
    "eventlet_pool_postshutdown",
    "eventlet_pool_preshutdown",
    "eventlet_pool_started",
    "heartbeat_sent",
    "import_modules",
    "setup_logging",
    "task_failure",
    "task_internal_error",
    "task_postrun",
    "task_prerun",
    "task_received",
    "task_rejected",
    "task_retry",
    "task_revoked",
    "task_sent",
    "task_success",
    "task_unknown",
    "user_preload_options",
    "worker_before_create_process",
    "worker_init",
    "worker_process_init",
    "worker_process_shutdown",
    "worker_ready",
    "worker_shutdown",
    "worker_shutting_down",
]


def _signal(name: str, arguments: str = "") -> Signal:
    return Signal(arguments.split(), name=name)


# ── where a job is sent; the sender is the name of the task ─────────────────────────────

#: Before the row is written. Changes made to ``body``, ``headers``, ``properties`` and
#: ``retry_policy`` in place go into the job.
before_task_publish = _signal(
    "before_task_publish",
    "body exchange routing_key headers properties declare retry_policy",
)
#: After the row is written: in a transaction, perhaps before it is committed.
after_task_publish = _signal("after_task_publish", "body headers exchange routing_key")
#: Celery's predecessor of ``after_task_publish``.
task_sent = _signal("task_sent", "task_id task args kwargs eta taskset")

# ── where a job runs; the sender is the task ────────────────────────────────────────────

#: Before the function is called.
task_prerun = _signal("task_prerun", "task_id task args kwargs")
#: After it, whatever became of it; also gets ``state``.
task_postrun = _signal("task_postrun", "task_id task args kwargs retval state")
#: It returned; also gets ``runtime`` in seconds.
task_success = _signal("task_success", "result runtime")
#: It raised, or its worker was lost.
task_failure = _signal("task_failure", "task_id exception args kwargs traceback einfo")
#: It will run again.
task_retry = _signal("task_retry", "request reason einfo")
#: It was revoked, or has expired.
task_revoked = _signal("task_revoked", "request terminated signum expired")
#: Our own code failed around the task.
task_internal_error = _signal(
    "task_internal_error", "task_id args kwargs request exception traceback einfo"
)

# ── where a worker takes jobs; the sender is the worker's consumer ──────────────────────

#: A job arrived.
task_received = _signal("task_received", "request")
#: A job could not be read.
task_rejected = _signal("task_rejected", "message exc")
#: A job names a task that is not registered.
task_unknown = _signal("task_unknown", "message exc name id")

# ── the life of a worker ────────────────────────────────────────────────────────────────

#: Before anything is set up: options may be changed. The sender is the node's name.
celeryd_init = _signal("celeryd_init", "instance conf options")
#: Queues are known and nothing runs yet. The sender is the node's name.
celeryd_after_setup = _signal("celeryd_after_setup", "instance conf")
#: The application's modules are wanted. The sender is the app.
import_modules = _signal("import_modules")
#: The worker has been set up. The sender is the worker.
worker_init = _signal("worker_init")
#: The worker takes jobs.
worker_ready = _signal("worker_ready")
#: In the process that is about to be copied: the worker, then the template of its
#: children. The sender is the pool.
worker_before_create_process = _signal("worker_before_create_process")
#: In each new child, before its first job. The sender is the node's name.
worker_process_init = _signal("worker_process_init")
#: In each child that ends; also gets ``pid`` and ``exitcode``.
worker_process_shutdown = _signal("worker_process_shutdown", "pid exitcode")
#: The worker begins to stop; also gets ``sig``, ``how`` and ``exitcode``.
worker_shutting_down = _signal("worker_shutting_down", "sig how exitcode")
#: The worker has stopped.
worker_shutdown = _signal("worker_shutdown")
#: The worker has said that it lives.
heartbeat_sent = _signal("heartbeat_sent")

# ── logging; the sender is None ─────────────────────────────────────────────────────────

#: Connect to this, and logging is left to you.
setup_logging = _signal("setup_logging", "loglevel logfile format colorize")
#: The root logger has its handlers.
after_setup_logger = _signal(
    "after_setup_logger", "logger loglevel logfile format colorize"
)
#: The logger of the tasks has its handlers.
after_setup_task_logger = _signal(
    "after_setup_task_logger", "logger loglevel logfile format colorize"
)

# ── beat; the sender is its service ─────────────────────────────────────────────────────

#: Beat starts as a program of its own.
beat_init = _signal("beat_init")
#: Beat starts inside a worker; sent as well as ``beat_init``.
beat_embedded_init = _signal("beat_embedded_init")

# ── the eventlet and gevent pools; the sender is the pool ───────────────────────────────

eventlet_pool_started = _signal("eventlet_pool_started")
eventlet_pool_preshutdown = _signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = _signal("eventlet_pool_postshutdown")
eventlet_pool_apply = _signal("eventlet_pool_apply", "target args kwargs")

# ── the command line ────────────────────────────────────────────────────────────────────

#: The options that the user has added to every command, as given.
user_preload_options = _signal("user_preload_options", "app options")
