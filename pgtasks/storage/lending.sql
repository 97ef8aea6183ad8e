-- Statements that are only run on connections which callers lend.

-- name: insert_one
-- The everyday call, one plain job. Most of the drivers prepare nothing, and the server plans
-- what they send again each time: 220 µs a call for this, 990 for `insert` (psycopg 2).
-- Notified is always: a transaction that may stay open must not hold the lock by which
-- others leave it to one of them.
insert into pgtasks.jobs (
    task, task_id, queue, priority, args, kwargs, ignore_result, root_id, parent_id, origin
)
values (
    %(task)s::text, %(task_id)s::text, %(queue)s::text, %(priority)s::smallint,
    %(args)s::text, %(kwargs)s::text, %(ignore_result)s::boolean,
    %(root_id)s::text, %(parent_id)s::text, %(origin)s::text
)
on conflict do nothing
returning id, task_id, pg_notify('pgtasks.jobs', jobs.queue)::text
