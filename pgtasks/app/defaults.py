"""Every setting: its default, its type, its old name, and what it does.

Celery's settings are all here, also those that only make sense with a broker or with
another result store: a ported configuration must load. What they do is said with each;
"Accepted" means that it is read and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

__all__ = ["DEFAULTS", "NAMESPACES", "SETTING_KEYS", "Option", "find", "flatten"]

DEFAULT_POOL = "prefork"
DEFAULT_ACCEPT_CONTENT = ("json",)
DEFAULT_PROCESS_LOG_FMT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
DEFAULT_TASK_LOG_FMT = (
    "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
)
DEFAULT_SECURITY_DIGEST = "sha256"

#: Arguments of one job: what a row can carry without becoming everybody's problem.
MEGABYTE = 1024 * 1024


def strtobool(term: Any, table: Mapping[str, bool] | None = None) -> Any:
    """See `pgtasks.utils.serialization.strtobool`, which is not loaded for nothing."""
    from pgtasks.utils import serialization

    return serialization.strtobool(term, table)


class Option:
    """One setting.

    Args:
        default: Its value when nothing else is said.
        type: How a value given as text on the command line is read; a key of `typemap`.
        doc: What it does, in a sentence.
        old: Its upper-case name before Celery 4, if it does not follow from the new one.
        ours: It is not one of Celery's.
    """

    typemap: Mapping[str, Callable[[Any], Any]] = {
        "string": str,
        "int": int,
        "float": float,
        "any": lambda value: value,
        "bool": strtobool,
        "bytes": lambda value: value.encode() if isinstance(value, str) else bytes(value),
        "dict": dict,
        "tuple": tuple,
        "list": list,
    }

    def __init__(
        self,
        default: Any = None,
        type: str = "string",
        doc: str = "",
        *,
        old: str | None = None,
        ours: bool = False,
    ) -> None:
        self.default = default
        self.type = type
        self.doc = doc
        self.old = old
        self.ours = ours

    @property
    def idle(self) -> bool:
        """Whether it is understood and never changes anything."""
        return self.doc.startswith("Accepted")

    def to_python(self, value: Any) -> Any:
        """Read a value given as text."""
        return self.typemap[self.type](value)

    def __repr__(self) -> str:
        return f"<Option: type->{self.type} default->{self.default!r}>"


def _ours(default: Any, type: str, doc: str) -> Option:
    return Option(default, type, doc, ours=True)


def _broker(default: Any = None, type: str = "string", **kwargs: Any) -> Option:
    return Option(default, type, "Accepted: there is no broker to tell it to.", **kwargs)


def _store(default: Any = None, type: str = "string", **kwargs: Any) -> Option:
    doc = "Accepted: results are kept in PostgreSQL, so this store is not used."
    return Option(default, type, doc, **kwargs)


_ONE_DATABASE = (
    "Accepted: jobs are sent to the database that they are fetched from; see broker_url."
)

NAMESPACES: dict[str, Any] = {
    "accept_content": Option(
        DEFAULT_ACCEPT_CONTENT,
        "list",
        "Serializers, by name or MIME type, that a job's arguments may come in.",
        old="CELERY_ACCEPT_CONTENT",
    ),
    "result_accept_content": Option(
        None,
        "list",
        "The same for results; None follows accept_content.",
        old="RESULT_ACCEPT_CONTENT",
    ),
    "enable_utc": Option(
        True, "bool", "Dates are UTC unless timezone says otherwise; else local time."
    ),
    "imports": Option(
        (), "tuple", "Modules that a worker imports first.", old="CELERY_IMPORTS"
    ),
    "plugins": _ours(
        {},
        "any",
        "What workers do on a timer: a dict of names and options. False switches one off, or "
        "all of them.",
    ),
    "include": Option(
        (), "tuple", "Further modules, as given to the app.", old="CELERY_INCLUDE"
    ),
    "timezone": Option(
        None, "string", "Zone that schedules are read in.", old="CELERY_TIMEZONE"
    ),
    "beat": {
        "cron_starting_deadline": Option(
            None, "int", "Seconds that a missed crontab run may be late and still be made."
        ),
        "enable_remote_control": Option(
            False, "bool", "Accepted: a beat answers to no control commands."
        ),
        "max_loop_interval": Option(
            0, "float", "Longest sleep between looks at the schedule; 0 leaves it to beat."
        ),
        "remote_control_max_tick_age": Option(
            None, "float", "Accepted: a beat answers to no control commands."
        ),
        "schedule": Option({}, "dict", "The periodic tasks: name to entry."),
        "schedule_filename": Option(
            "celerybeat-schedule",
            "string",
            "File in which PersistentScheduler keeps the moments of the last runs.",
        ),
        "scheduler": Option(
            "pgtasks.beat:PersistentScheduler",
            "string",
            "Class that decides what is due; in place of Celery's own one sends for the fleet.",
        ),
        "sync_every": Option(
            0, "int", "Tasks sent between saves of a scheduler that has to save."
        ),
    },
    "broker": {
        "url": Option(
            None,
            "string",
            "postgresql://… names the database; memory:// keeps jobs in the process. "
            "Another scheme is not dialled, but gives priorities the direction they have "
            "with that broker.",
        ),
        "read_url": Option(None, "string", _ONE_DATABASE),
        "write_url": Option(None, "string", _ONE_DATABASE),
        "transport": _broker(),
        "transport_options": Option(
            {}, "dict", "Accepted with any keys: they belong to transports."
        ),
        "connection_timeout": Option(
            4,
            "float",
            "Seconds in which a connection must be made: whole ones, 2 at least. As long as "
            "it is not set, and the database's address says nothing, 10.",
        ),
        "connection_retry": Option(
            True, "bool", "Accepted: a worker always comes back to the database."
        ),
        "connection_retry_on_startup": Option(
            None, "bool", "False makes a worker exit when it finds no database at start."
        ),
        "connection_max_retries": Option(
            100, "int", "Accepted: a worker does not give up on its database."
        ),
        "channel_error_retry": _broker(False, "bool"),
        "failover_strategy": _broker(),
        "heartbeat": Option(120, "int", "Accepted: see worker_heartbeat_interval."),
        "heartbeat_checkrate": _broker(3.0, "float"),
        "login_method": _broker(),
        "native_delayed_delivery_queue_type": _broker("quorum"),
        "pool_limit": Option(
            10,
            "int",
            "Connections that one process has at a time, kept open for the next use; 0 and "
            "None mean 10. An event loop has as many of its own.",
        ),
        "pool_acquire_timeout": Option(
            None,
            "float",
            "Seconds to wait for one of them when all are in use; None waits 30. Sending "
            "is then tried again as task_publish_retry_policy says.",
        ),
        "use_ssl": _broker(False, "bool"),
        "host": _broker(),
        "port": _broker(None, "int"),
        "user": _broker(),
        "password": _broker(),
        "vhost": _broker(),
    },
    "cache": {
        "backend": _store(old="CELERY_CACHE_BACKEND"),
        "backend_options": _store({}, "dict", old="CELERY_CACHE_BACKEND_OPTIONS"),
    },
    "cassandra": {
        "entry_ttl": _store(None, "float"),
        "keyspace": _store(),
        "port": _store(),
        "read_consistency": _store(),
        "servers": _store(None, "list"),
        "bundle_path": _store(),
        "table": _store(),
        "write_consistency": _store(),
        "auth_provider": _store(),
        "auth_kwargs": _store(),
        "options": _store({}, "dict"),
    },
    "s3": {
        "access_key_id": _store(),
        "secret_access_key": _store(),
        "bucket": _store(),
        "base_path": _store(),
        "endpoint_url": _store(),
        "region": _store(),
    },
    "azureblockblob": {
        "container_name": _store("celery"),
        "retry_initial_backoff_sec": _store(2, "int"),
        "retry_increment_base": _store(2, "int"),
        "retry_max_attempts": _store(3, "int"),
        "base_path": _store(""),
        "connection_timeout": _store(20, "int"),
        "read_timeout": _store(120, "int"),
    },
    "gcs": {
        "bucket": _store(),
        "project": _store(),
        "base_path": _store(""),
        "ttl": _store(0, "float"),
    },
    "control": {
        "queue_ttl": Option(300.0, "float", "Seconds that an unread command is kept."),
        "queue_expires": Option(10.0, "float", "Seconds that an unread reply is kept."),
        "queue_exclusive": _broker(True, "bool"),
        "queue_durable": _broker(False, "bool"),
        "exchange": _broker("celery"),
    },
    "couchbase": {
        "backend_settings": _store(None, "dict", old="CELERY_COUCHBASE_BACKEND_SETTINGS"),
    },
    "arangodb": {
        "backend_settings": _store(None, "dict", old="CELERY_ARANGODB_BACKEND_SETTINGS"),
    },
    "mongodb": {
        "backend_settings": _store(None, "dict", old="CELERY_MONGODB_BACKEND_SETTINGS"),
    },
    "cosmosdbsql": {
        "database_name": _store("celerydb"),
        "collection_name": _store("celerycol"),
        "consistency_level": _store("Session"),
        "max_retry_attempts": _store(9, "int"),
        "max_retry_wait_time": _store(30, "int"),
    },
    "event": {
        "queue_expires": Option(
            60.0, "float", "Seconds that events are kept for a receiver that does not read."
        ),
        "queue_ttl": Option(5.0, "float", "Accepted: see event_queue_expires."),
        "queue_prefix": _broker("celeryev"),
        "queue_exclusive": _broker(True, "bool"),
        "queue_durable": _broker(False, "bool"),
        "serializer": Option("json", "string", "Accepted: events are rows."),
        "exchange": _broker("celeryev"),
    },
    "redis": {
        "backend_use_ssl": _store(None, "dict"),
        "db": _store(None, "int"),
        "host": _store(),
        "max_connections": _store(None, "int"),
        "username": _store(),
        "password": _store(),
        "port": _store(None, "int"),
        "socket_timeout": _store(120.0, "float"),
        "socket_connect_timeout": _store(None, "float"),
        "retry_on_timeout": _store(False, "bool"),
        "socket_keepalive": _store(False, "bool"),
    },
    "result": {
        "backend": Option(
            None,
            "string",
            "cache+memory:// keeps results in the process, disabled:// keeps none; all "
            "else means PostgreSQL.",
        ),
        "cache_max": Option(
            -1, "int", "Results that a client remembers.", old="CELERY_MAX_CACHED_RESULTS"
        ),
        "compression": Option(None, "string", "How results are compressed."),
        "exchange": _broker("celeryresults"),
        "exchange_type": _broker("direct"),
        "expires": Option(
            timedelta(days=1),
            "float",
            "Seconds or a timedelta that results are kept; None keeps them for ever.",
            old="CELERY_TASK_RESULT_EXPIRES",
        ),
        "chord_expires": Option(
            None, "float", "Accepted: members of a chord are jobs; see result_expires."
        ),
        "failure_expires": Option(
            None,
            "float",
            "The same for failures, where the store can; in PostgreSQL they are kept as "
            "long as other results, and a warning says so.",
        ),
        "persistent": Option(None, "bool", "Accepted: results are rows and persist."),
        "extended": Option(
            False,
            "bool",
            "Results tell name, args, kwargs, worker, retries and queue; those in "
            "PostgreSQL do so anyway.",
        ),
        "serializer": Option("json", "string", "Serializer of results."),
        "backend_transport_options": _store({}, "dict"),
        "backend_thread_safe": Option(
            False, "bool", "Threads share one result backend, whatever its class says."
        ),
        "chord_retry_interval": Option(
            1.0, "float", "Accepted: a chord's body follows its last part, unasked."
        ),
        "chord_join_timeout": Option(
            3.0, "float", "Accepted: a chord's body begins when all results are there."
        ),
        "backend_max_sleep_between_retries_ms": Option(
            10000, "int", "Longest wait between attempts to reach the results."
        ),
        "backend_max_retries": Option(
            float("inf"), "float", "Attempts to reach the results."
        ),
        "backend_base_sleep_between_retries_ms": Option(
            10, "int", "First wait between attempts to reach the results."
        ),
        "backend_always_retry": Option(
            False, "bool", "Retry also what looks as if it would fail again."
        ),
        "max_size": _ours(
            64 * MEGABYTE,
            "int",
            "Bytes that one result may take; a larger one fails its task.",
        ),
    },
    "elasticsearch": {
        "retry_on_timeout": _store(
            None, "bool", old="CELERY_ELASTICSEARCH_RETRY_ON_TIMEOUT"
        ),
        "max_retries": _store(None, "int", old="CELERY_ELASTICSEARCH_MAX_RETRIES"),
        "timeout": _store(None, "float", old="CELERY_ELASTICSEARCH_TIMEOUT"),
        "save_meta_as_text": _store(
            True, "bool", old="CELERY_ELASTICSEARCH_SAVE_META_AS_TEXT"
        ),
    },
    "security": {
        "certificate": Option(None, "string", "Certificate file that signs jobs."),
        "cert_store": Option(None, "string", "Folder of the certificates to trust."),
        "key": Option(None, "string", "Private key file that signs jobs."),
        "key_password": Option(None, "bytes", "Password of that file."),
        "digest": Option(DEFAULT_SECURITY_DIGEST, "string", "Digest that is signed."),
    },
    "database": {
        "url": Option(
            None,
            "string",
            "The PostgreSQL database of jobs and results, before any other way to name it.",
            old="CELERY_RESULT_DBURI",
        ),
        "direct_url": _ours(
            None,
            "string",
            "The same database past a pooler such as PgBouncer: where workers LISTEN.",
        ),
        "schema": _ours("pgtasks", "string", "Schema of our tables."),
        "engine_options": _store(
            {"pool_pre_ping": True, "pool_recycle": 3600},
            "dict",
            old="CELERY_RESULT_ENGINE_OPTIONS",
        ),
        "engine_callback": _store(None, "any"),
        "short_lived_sessions": _store(
            False, "bool", old="CELERY_RESULT_DB_SHORT_LIVED_SESSIONS"
        ),
        "table_schemas": _store(None, "dict"),
        "table_names": _store(None, "dict", old="CELERY_RESULT_DB_TABLENAMES"),
        "create_tables_at_setup": Option(
            True, "bool", "Accepted: tables are made by `pgtasks schema apply`."
        ),
    },
    "task": {
        "acks_late": Option(
            False, "bool", "A job whose worker is lost may run again: it is safe to."
        ),
        "acks_on_failure_or_timeout": Option(
            True,
            "bool",
            "A job that fails, or is killed at its time limit, is over even with acks_late.",
        ),
        "acks_on_failure": Option(
            None,
            "bool",
            "The same for exceptions only, which end a job in any case: there is no dead "
            "letter queue that a rejected one could go to.",
        ),
        "acks_on_timeout": Option(
            None,
            "bool",
            "The same for hard time limits only; None follows the setting above. With False "
            "such a job runs again, up to worker_max_crashes times.",
        ),
        "always_eager": Option(False, "bool", "delay() runs the task in the caller."),
        "annotations": Option(None, "any", "Attributes given to tasks by their name."),
        "compression": Option(
            None,
            "string",
            "How arguments are compressed: gzip, bzip2 and others.",
            old="CELERY_MESSAGE_COMPRESSION",
        ),
        "create_missing_queues": Option(
            True, "bool", "A queue that is not in task_queues exists once it is named."
        ),
        "create_missing_queue_type": _broker("classic"),
        "create_missing_queue_exchange_type": _broker(),
        "inherit_parent_priority": Option(
            False, "bool", "A job sent by a task has the task's priority."
        ),
        "default_delivery_mode": Option(
            2,
            "string",
            "2 or 'persistent': delay() returns when the job is on disk. 1 or 'transient': it "
            "does not wait for the disk, and a crash of the server may forget the jobs of the "
            "last moment (three times wal_writer_delay, 0.6 s).",
        ),
        "default_queue": Option("celery", "string", "Queue of jobs that name none."),
        "default_queue_type": _broker("classic"),
        "default_exchange": Option(
            None,
            "string",
            "Exchange of queues that name none; None takes the queue's name.",
        ),
        "default_exchange_type": Option(
            "direct", "string", "direct or topic: how such an exchange matches its keys."
        ),
        "default_routing_key": Option(
            None, "string", "Key of queues that name none; None takes the queue's name."
        ),
        "default_rate_limit": Option(None, "string", "Rate limit of tasks without one."),
        "default_priority": Option(None, "int", "Priority of jobs without one."),
        "eager_propagates": Option(
            False,
            "bool",
            "An eager task's exception is raised in the caller.",
            old="CELERY_EAGER_PROPAGATES_EXCEPTIONS",
        ),
        "ignore_result": Option(False, "bool", "Results are not kept."),
        "store_eager_result": Option(False, "bool", "Results of eager tasks are kept."),
        "testing": _ours(
            None,
            "string",
            "'inline': what is sent runs at once, in the caller, and is not stored. 'manual': "
            "it is stored, and no worker starts. See pgtasks.testing.mode.",
        ),
        "protocol": Option(
            2, "int", "Accepted: jobs are rows.", old="CELERY_TASK_PROTOCOL"
        ),
        "publish_retry": Option(
            True,
            "bool",
            "Sending is tried again when the database is away.",
            old="CELERY_TASK_PUBLISH_RETRY",
        ),
        "publish_retry_policy": Option(
            {
                "max_retries": 3,
                "interval_start": 0,
                "interval_max": 1,
                "interval_step": 0.2,
            },
            "dict",
            "How often, and how long between.",
            old="CELERY_TASK_PUBLISH_RETRY_POLICY",
        ),
        "queues": Option(None, "any", "The queues of a worker that is given none."),
        "queue_max_priority": _broker(None, "int"),
        "reject_on_worker_lost": Option(
            None, "bool", "A late-acked job whose process died runs again."
        ),
        "retry_on_worker_lost": Option(
            False,
            "bool",
            "A job whose process died is retried, also one acknowledged early; it counts "
            "as one of the task's retries.",
        ),
        "remote_tracebacks": Option(
            False, "bool", "Exceptions raised by get() carry the worker's traceback."
        ),
        "repr_maxlevels": Option(
            3, "int", "Depth to which arguments are shown in logs and events."
        ),
        "routes": Option(None, "any", "Which task goes to which queue."),
        "send_sent_event": Option(
            False,
            "bool",
            "An event tells of every job that is sent.",
            old="CELERY_SEND_TASK_SENT_EVENT",
        ),
        "serializer": Option(
            "json", "string", "Serializer of arguments.", old="CELERY_TASK_SERIALIZER"
        ),
        "soft_time_limit": Option(
            None,
            "float",
            "Seconds until a task gets SoftTimeLimitExceeded.",
            old="CELERYD_TASK_SOFT_TIME_LIMIT",
        ),
        "time_limit": Option(
            None,
            "float",
            "Seconds until a task's process is killed.",
            old="CELERYD_TASK_TIME_LIMIT",
        ),
        "store_errors_even_if_ignored": Option(
            False, "bool", "Failures are kept even where results are not."
        ),
        "track_started": Option(False, "bool", "A running task shows the state STARTED."),
        "allow_error_cb_on_chord_header": Option(
            False, "bool", "link_error on a chord reaches the tasks of its header as well."
        ),
        "body_max_size": _ours(
            16 * MEGABYTE, "int", "Bytes that arguments and headers of one job may take."
        ),
        "body_warn_size": _ours(
            1_000_000, "int", "Bytes from which sending a job logs a warning."
        ),
        "join_transaction": _ours(
            True,
            "bool",
            "A job sent inside of Django's atomic() on our database, or in a session of "
            "SQLAlchemy's that was registered, is part of that transaction.",
        ),
        "priority_order": _ours(
            None,
            "string",
            "low_first or high_first: which priority runs sooner. None asks broker_url: "
            "high_first with amqp://, else low_first.",
        ),
    },
    "worker": {
        "agent": _broker(),
        "autoscaler": Option(
            "pgtasks.worker.autoscale:Autoscaler", "string", "Class behind --autoscale."
        ),
        "cancel_long_running_tasks_on_connection_loss": Option(
            False, "bool", "Accepted: a lost connection does not cost a worker its jobs."
        ),
        "soft_shutdown_timeout": Option(
            0.0, "float", "Seconds that a cold shutdown gives to what runs."
        ),
        "enable_soft_shutdown_on_idle": Option(
            False, "bool", "Wait for all of them, also when nothing runs."
        ),
        "concurrency": Option(
            None, "any", "Jobs that run at a time; None takes the number of processors."
        ),
        "consumer": Option(None, "string", "Accepted: there is no consumer to replace."),
        "direct": Option(
            False,
            "bool",
            "Every worker also serves a queue of its own name.",
            old="CELERY_WORKER_DIRECT",
        ),
        "disable_rate_limits": Option(
            False, "bool", "Rate limits are not kept.", old="CELERY_DISABLE_RATE_LIMITS"
        ),
        "deduplicate_successful_tasks": Option(
            False,
            "bool",
            "Accepted: always so. What writes a success takes the job away with it, so "
            "that there is nothing left to deliver again.",
        ),
        "enable_remote_control": Option(
            True,
            "bool",
            "Workers answer to control commands.",
            old="CELERY_ENABLE_REMOTE_CONTROL",
        ),
        "hijack_root_logger": Option(
            True, "bool", "Workers replace the handlers of the root logger."
        ),
        "log_color": Option(
            None, "bool", "Colours in logs; None means where a terminal shows them."
        ),
        "log_datefmt": Option(None, "string", "strftime format of dates in logs."),
        "log_format": Option(DEFAULT_PROCESS_LOG_FMT, "string", "Format of log lines."),
        "lost_wait": Option(
            10.0,
            "float",
            "Accepted: a process that died is known at once.",
            old="CELERYD_WORKER_LOST_WAIT",
        ),
        "max_memory_per_child": Option(
            None, "int", "Kilobytes of memory after which a child is replaced."
        ),
        "max_tasks_per_child": Option(None, "int", "Jobs after which a child is replaced."),
        "pool": Option(
            DEFAULT_POOL,
            "string",
            "Where jobs run: prefork, threads, solo, asyncio, gevent.",
        ),
        "queue_limits": Option(
            {},
            "dict",
            "How many jobs of a queue may run in one worker at a time, by the queue's name; "
            "-Q name:20 says so for one worker.",
        ),
        "pool_putlocks": _broker(True, "bool"),
        "pool_restarts": Option(False, "bool", "Allow the control command pool_restart."),
        "pool_start_method": Option(
            "fork",
            "string",
            "Accepted from Celery: children always come from one clean template process, "
            "which is what fork was chosen for. See worker_start_method.",
        ),
        "proc_alive_timeout": Option(
            4.0, "float", "Seconds that a new child may take to report."
        ),
        "prefetch_multiplier": Option(
            4,
            "int",
            "Jobs claimed ahead per slot; unless it is set, this follows from how long "
            "the jobs take.",
        ),
        "eta_task_limit": Option(
            None, "int", "Accepted: jobs that are not due wait in the table."
        ),
        "enable_prefetch_count_reduction": _broker(True, "bool"),
        "disable_prefetch": Option(False, "bool", "Claim only what can start at once."),
        "redirect_stdouts": Option(
            True, "bool", "What tasks print goes to the log.", old="CELERY_REDIRECT_STDOUTS"
        ),
        "redirect_stdouts_level": Option(
            "WARNING", "string", "At this level.", old="CELERY_REDIRECT_STDOUTS_LEVEL"
        ),
        "send_task_events": Option(
            False, "bool", "Workers send events about tasks.", old="CELERY_SEND_EVENTS"
        ),
        "state_db": Option(
            None, "string", "File for ids that a program revokes in `worker.state` itself."
        ),
        "task_log_datefmt": Option(
            None, "string", "strftime format of dates in the logs of tasks."
        ),
        "task_log_format": Option(
            DEFAULT_TASK_LOG_FMT, "string", "Format of lines that tasks log."
        ),
        "timer": _broker(),
        "timer_precision": _broker(1.0, "float"),
        "detect_quorum_queues": _broker(True, "bool"),
        "lease": _ours(
            20.0, "float", "Seconds without a sign of life after which a worker is dead."
        ),
        "heartbeat_interval": _ours(5.0, "float", "Seconds between signs of life."),
        "poll_interval": _ours(
            1.0,
            "float",
            "Seconds between looks for jobs where notifications are not heard; else every "
            "four seconds there is one for all that may have been missed.",
        ),
        "max_crashes": _ours(
            3, "int", "Processes that one job may take down before it is given up."
        ),
        "max_lost": _ours(
            10, "int", "Workers that may vanish with one job before it is given up."
        ),
        "start_method": _ours(
            "forkserver", "string", "How children are made: forkserver, spawn or fork."
        ),
    },
}

#: Upper-case names before Celery 4 begin with these where they differ from the new ones.
_OLD_PREFIX = {
    "beat": "CELERYBEAT_",
    "event": "CELERY_EVENT_",
    "redis": "CELERY_REDIS_",
    "result": "CELERY_RESULT_",
    "security": "CELERY_SECURITY_",
    "task": "CELERY_",
    "worker": "CELERYD_",
}


def flatten(namespaces: Mapping[str, Any], root: str = "") -> Iterator[tuple[str, Option]]:
    """Walk through the settings as ``(key, option)``, ``beat_schedule`` and so on."""
    for name, entry in namespaces.items():
        if isinstance(entry, Option):
            yield root + name, entry
        else:
            yield from flatten(entry, f"{root}{name}_")


def _old_name(key: str, option: Option) -> str:
    namespace, _, name = key.partition("_")
    prefix = _OLD_PREFIX.get(namespace) if namespace in NAMESPACES else None
    return option.old or (prefix + name.upper() if prefix else key.upper())


#: Every setting by its key.
OPTIONS: dict[str, Option] = dict(flatten(NAMESPACES))
DEFAULTS: dict[str, Any] = {key: option.default for key, option in OPTIONS.items()}
SETTING_KEYS = set(DEFAULTS)

_TO_OLD_KEY = {key: _old_name(key, option) for key, option in OPTIONS.items()}
_TO_NEW_KEY = {old: key for key, old in _TO_OLD_KEY.items()}
_OLD_DEFAULTS = {old: DEFAULTS[key] for old, key in _TO_NEW_KEY.items()}
_OLD_SETTING_KEYS = set(_TO_NEW_KEY)


class Found(NamedTuple):
    """Where a setting stands: its namespace if it has one, its name there, its option."""

    namespace: str | None
    key: str
    type: Any


def find(name: str, namespace: str = "celery") -> Found:
    """Find a setting by a part of its name: ``default_queue`` is ``task_default_queue``.

    Args:
        name: The name without its namespace, or the whole of it.
        namespace: Looked into first.

    Raises:
        KeyError: There is none.
    """
    name, namespace = name.lower(), namespace.lower()
    if isinstance(first := NAMESPACES.get(namespace), dict) and name in first:
        return Found(namespace, name, first[name])
    for candidate, options in NAMESPACES.items():
        if candidate == name:
            return Found(None, name, options)
        if isinstance(options, dict) and name in options:
            return Found(candidate, name, options[name])
    return Found(None, name, OPTIONS[name])
