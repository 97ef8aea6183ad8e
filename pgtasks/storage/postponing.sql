-- name: postpone
-- Jobs that were claimed, and whose task has begun as often as it may: they come back when
-- it may begin again, at no cost of theirs. Fenced like any end (R3). Not by its state: of
-- that there is an index, of all that executes anywhere.
with told as materialized (
    select *
    from json_to_recordset(%(jobs)s::json) as document (id bigint, claim_token uuid, delay float8)
),
held as materialized (
    select job.id, told.delay
    from told
    join pgtasks.jobs as job on job.id = told.id
    where job.id = any(%(ids)s::bigint[])
      and job.claim_token = told.claim_token
      and job.state <> 'available'
    order by job.id
    for update of job
)
update pgtasks.jobs as job
set state = 'scheduled',
    attempt = greatest(job.attempt - 1, 0),
    scheduled_at = clock_timestamp() + make_interval(secs => held.delay),
    worker = null, claim_token = null, abandoned = false
from held
where job.id = any(array(select id from held))
  and job.id = held.id
returning job.id

-- name: bring_forward
-- Those that were put off, of some tasks: they were claimed once, are not retried, and have
-- not put themselves off.
with put_off as materialized (
    select job.id
    from pgtasks.jobs as job
    where job.state = 'scheduled'
      and job.scheduled_at > (select clock_timestamp())
      and job.task = any(%(tasks)s::text[])
      and job.attempted_at is not null
      and not (jsonb_typeof(job.meta) = 'object' and job.meta ? 'snoozed')
    order by job.scheduled_at
    limit %(limit)s
    for update of job skip locked
)
update pgtasks.jobs as job
set scheduled_at = clock_timestamp()
where job.id = any(array(select id from put_off))
returning job.id
