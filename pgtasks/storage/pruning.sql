-- fragments of: leaders.sql

-- name: prune
-- The next jobs in the order of their end, of which those go whose age this is: each job has
-- the age that is set for its task, else its queue, else its state. It walks on from where the
-- batch before has ended, so that no batch walks over the dead rows of those before it, and
-- looks at a bounded number of jobs, not until it has found so many.
-- Looked at again when they are locked: one that was sent anew under its id has ended anew.
with
-- include: fence
,
ruled as materialized (
    -- Read once, not for each row.
    select %(rules)s::text::jsonb as rules
),
walked as materialized (
    select ctid as place, finished_at, task, queue, state
    from pgtasks.finished_jobs
    where finished_at >= %(after)s::timestamptz - make_interval(secs => %(slack)s::float8)
      and finished_at < (select clock_timestamp() - make_interval(secs => %(age)s::float8))
      and exists (select from leader)
    order by finished_at
    limit %(limit)s
),
old as materialized (
    select job.ctid as place
    from pgtasks.finished_jobs as job
    where job.ctid = any(array(
              select walked.place
              from walked
              where coalesce((select rules from ruled) -> 'tasks' -> walked.task ->> walked.state::text,
                             (select rules from ruled) -> 'queues' -> walked.queue ->> walked.state::text,
                             (select rules from ruled) -> 'states' ->> walked.state::text)
                    = %(key)s::text))
      and job.finished_at < (select clock_timestamp() - make_interval(secs => %(age)s::float8))
    for update of job skip locked
),
gone as (
    delete from pgtasks.finished_jobs as job
    where job.ctid = any(array(select place from old))
    returning job.id
)
select (select count(*) from gone), count(*), max(finished_at)::text, exists (select from leader)
from walked

-- name: prune_groups
with
-- include: fence
,
old as materialized (
    select saved.id
    from pgtasks.saved_groups as saved
    where saved.saved_at < (select clock_timestamp() - make_interval(secs => %(age)s::float8))
      and exists (select from leader)
    order by saved.id
    limit %(limit)s
    for update skip locked
)
delete from pgtasks.saved_groups as saved
where saved.id = any(array(select id from old))
returning saved.id

-- name: prune_ticks
-- The newest tick of each entry stays: whoever schedules goes on from there.
with
-- include: fence
,
old as materialized (
    select tick.entry, tick.tick
    from pgtasks.cron_ticks as tick
    where tick.tick < (select clock_timestamp() - make_interval(secs => %(age)s::float8))
      and exists (select from leader)
      and exists (select from pgtasks.cron_ticks as newer
                  where newer.entry = tick.entry and newer.tick > tick.tick)
    order by tick.tick
    limit %(limit)s
    for update skip locked
)
delete from pgtasks.cron_ticks as tick
using old
where tick.entry = old.entry and tick.tick = old.tick
returning tick.entry

-- name: prune_mail
-- Commands that were in time for nobody, and replies that nobody came for.
with
-- include: fence
,
unheard as materialized (
    select id
    from pgtasks.commands
    where expires_at < (select clock_timestamp()) and exists (select from leader)
    order by id
    limit %(limit)s
    for update skip locked
),
unread as materialized (
    select id
    from pgtasks.replies
    where expires_at < (select clock_timestamp()) and exists (select from leader)
    order by id
    limit %(limit)s
    for update skip locked
),
forgotten as (
    delete from pgtasks.replies as reply
    where reply.id = any(array(select id from unread))
    returning reply.id
),
dropped as (
    delete from pgtasks.commands as command
    where command.id = any(array(select id from unheard))
    returning command.id
)
select id from forgotten
union all
select id from dropped

-- name: prune_revocations
-- What was revoked and has not come in all this time.
with
-- include: fence
,
old as materialized (
    select revoked.task_id
    from pgtasks.revoked_tasks as revoked
    where revoked.revoked_at < (select clock_timestamp() - make_interval(secs => %(age)s::float8))
      and exists (select from leader)
    limit %(limit)s
    for update skip locked
),
old_stamps as materialized (
    select revoked.header, revoked.stamp
    from pgtasks.revoked_stamps as revoked
    where revoked.revoked_at < (select clock_timestamp() - make_interval(secs => %(age)s::float8))
      and exists (select from leader)
    limit %(limit)s
    for update skip locked
),
forgotten as (
    delete from pgtasks.revoked_stamps as revoked
    using old_stamps
    where revoked.header = old_stamps.header and revoked.stamp = old_stamps.stamp
    returning revoked.header
),
gone as (
    delete from pgtasks.revoked_tasks as revoked
    where revoked.task_id = any(array(select task_id from old))
    returning revoked.task_id
)
select header from forgotten
union all
select task_id from gone

-- name: prune_workers
-- Rows of workers long gone; their jobs were rescued by many sweeps since.
with
-- include: fence
,
gone as materialized (
    select worker.id
    from pgtasks.workers as worker
    where coalesce(worker.dead_at, worker.stopped_at)
          < (select clock_timestamp() - make_interval(secs => %(age)s::float8))
      and exists (select from leader)
      and not exists (select from pgtasks.jobs as job
                      where job.state = 'executing' and job.worker = worker.id)
    limit %(limit)s
    for update skip locked
)
delete from pgtasks.workers as worker
where worker.id = any(array(select id from gone))
returning worker.id::text
