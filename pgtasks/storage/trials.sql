-- fragments of: jobs.sql

-- name: enqueued
-- What has not begun, newest first, for a test to look at.
select
-- include: claimed
    , job.state::text
from pgtasks.jobs as job
where job.state in ('available', 'scheduled', 'retryable', 'suspended')
order by job.id desc

-- name: newest
select coalesce(max(id), 0) from pgtasks.jobs

-- name: take
-- The next job of a test that drains a queue, by no registered worker: what runs it ends
-- with this statement's session. What is due goes first, as workers would take it; what
-- is not, in the order in which it will be.
update pgtasks.jobs as job
set state = 'executing',
    attempt = least(job.attempt, 2147483646) + 1,
    attempted_at = clock_timestamp(),
    worker = %(worker)s::uuid,
    claim_token = %(token)s::uuid,
    rerun = false,
    abandoned = false
where job.id = (
    select jobs.id
    from pgtasks.jobs
    where (jobs.state = 'available'
           -- A test runs one job after the other, so limits hold by themselves.
           or (jobs.state = 'suspended' and jobs.parked <> '')
           or (jobs.state in ('scheduled', 'retryable')
               and jobs.scheduled_at <= coalesce(%(until)s::timestamptz, clock_timestamp())))
      and (%(queues)s::text[] is null or jobs.queue = any(%(queues)s::text[]))
      and (%(upto)s::bigint is null or jobs.id <= %(upto)s::bigint)
      and jobs.id <> all(%(but)s::bigint[])
    order by greatest(jobs.scheduled_at, %(began)s::timestamptz), jobs.priority,
             jobs.scheduled_at, jobs.id
    limit 1
    for update skip locked
)
returning
-- include: claimed
