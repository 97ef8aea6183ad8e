-- fragments of: jobs.sql filters.sql

-- fragment: wake
-- Who sleeps on the queues of `fresh` is told.
woken as (
    select case when exists (select from pgtasks.workers
                             where asleep and fresh.queue = any(queues))
                then pg_notify('pgtasks.jobs', fresh.queue)::text end as notified
    from (select distinct queue from fresh where state = 'available') as fresh
)

-- fragment: waiting
-- Those of the ids that have not begun, locked in order, as acknowledgements lock (R8).
waiting as materialized (
    select job.id
    from given
    cross join pgtasks.jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and job.state in ('suspended', 'scheduled', 'available', 'retryable')
      and
      -- include: unfinished
    order by job.id + 0
    for update of job
),

-- name: cancel
-- What has not begun ends here and now, and counts in its chord like any other end.
with
-- include: given
-- include: waiting
ended as (
    delete from pgtasks.jobs as job
    where job.id = any(array(select id from waiting))
    returning job.id, job.scheduled_at, job.inserted_at, job.attempted_at, job.expires_at,
              job.claim_token, job.worker, 'cancelled'::pgtasks.job_state as state,
              job.attempt, job.retries, job.max_attempts, job.crashes, job.lost,
              job.group_index, job.time_limit, job.soft_time_limit, job.priority,
              false as abandoned, job.ignore_result,
-- include: arguments
              null::text as status, %(result)s::text as result, %(result_body)s::bytea as result_body,
              %(result_content_type)s::text as result_content_type,
              null::text as traceback, null::text as children,
              case when %(note)s::text is not null
                   then pgtasks.with_error(job.errors, job.attempt, 'TaskRevokedError',
                                           %(note)s::text, '', null)
                   when pg_column_size(job.errors) <= 16777216 then job.errors else '[]' end as errors,
              job.meta, job.tags, job.awaited, job.chord, job.awaits, job.limits, false as replaced
),
-- include: finish
-- include: stillborn
-- include: count_down
-- include: release
woken as (
    select pg_notify('pgtasks.jobs', fresh.queue)::text as notified
    from (select distinct queue from released where state = 'available') as fresh
    union all
    select pg_notify('pgtasks.results', ended.task_id)::text from ended where ended.awaited
    union all
    select pg_notify('pgtasks.results', stillborn.task_id)::text from stillborn
)
select task_id, null as woken from ended
union all
select null, notified from woken

-- name: cancellable
-- What would come after these jobs, for those who wait for it.
select id, task_id, embed
from pgtasks.jobs
where task_id = any(%(task_ids)s::text[])
  and state in ('suspended', 'scheduled', 'available', 'retryable')
  and embed is not null and octet_length(embed) <= 67108864

-- name: running
-- Those that run now: only their workers can end them.
with
-- include: given
found as (
    select job.task_id
    from given
    cross join pgtasks.jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and job.state = 'executing'
      and
      -- include: unfinished
)
select task_id from found

-- name: stamped
-- Waiting jobs that carry one of these stamps. All headers are looked at: people ask now
-- and then, and an index would cost every job.
select job.task_id
from pgtasks.jobs as job
where job.state in ('suspended', 'scheduled', 'available', 'retryable')
  and job.headers like '%%"stamps"%%'
  and exists (
      select
      from jsonb_each(%(stamps)s::jsonb) as wanted (name, allowed),
           jsonb_array_elements(
               case jsonb_typeof(pgtasks.try_json(job.headers) -> 'stamps' -> wanted.name)
                    when 'array' then pgtasks.try_json(job.headers) -> 'stamps' -> wanted.name
                    else jsonb_build_array(pgtasks.try_json(job.headers) -> 'stamps' -> wanted.name) end
           ) as carried (stamp)
      where wanted.allowed @> carried.stamp
  )

-- name: retry
-- What waits for its time may run now, and what is over comes back under its id, with its
-- attempts and errors; its result goes. One more attempt is allowed than it has had.
-- * A twin that is unfinished under the same id keeps it from coming back, and is no error
--   of the batch. The row leaves history only if it has arrived in jobs.
-- * What could only fail at once is left alone: arguments that history did not keep, and
--   tasks of a chain that never came to be jobs (their queue is '').
-- * In its chord it counts once more, so that the body waits for it; and a body waits for
--   the members that have not ended, be it those that are retried together with it.
-- * What was written by hand must not violate a constraint here: all others would wait (R5).
with
-- include: given
waiting as materialized (
    select job.id
    from given
    cross join pgtasks.jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and (job.state in ('scheduled', 'retryable')
           or (job.state = 'suspended' and job.held <> 'suspended')
           or (job.state = 'suspended' and job.awaits is null))
      and
      -- include: unfinished
    order by job.id + 0
    for update of job
),
hastened as (
    update pgtasks.jobs as job
    set state = 'available', held = null, scheduled_at = clock_timestamp(),
        expires_at = case when job.expires_at > clock_timestamp() then job.expires_at end,
        max_attempts = greatest(job.max_attempts, case when job.max_attempts is not null
                                                  then least(job.attempt, 2147483646) + 1 end),
        custom_state = null, custom_meta = null
    where job.id = any(array(select id from waiting))
    returning job.task_id, job.queue, job.state
),
over as materialized (
    select job.*
    from given
    cross join pgtasks.finished_jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and job.queue <> ''
      and left(job.args, 2) <> '"<' and left(job.kwargs, 2) <> '"<'
      and not exists (select from pgtasks.jobs as twin where twin.task_id = job.task_id offset 0)
      and
      -- include: finished
    order by job.task_id
    for update of job
),
again as (
    insert into pgtasks.jobs as job (
        id, scheduled_at, inserted_at, attempted_at, expires_at, state, attempt, retries,
        max_attempts, crashes, lost, group_index, time_limit, soft_time_limit, priority,
        ignore_result, task, task_id, queue, args, kwargs, body, content_type, content_encoding,
        root_id, parent_id, group_id, origin, headers, embed, errors, meta, tags, chord, awaits,
        limits, parked
    )
    -- An id may have been given twice, after a failover that lost some of the sequence.
    select case when exists (select from pgtasks.jobs as other where other.id = over.id offset 0)
                then nextval(pg_get_serial_sequence('pgtasks.jobs', 'id')) else id end,
           clock_timestamp(), inserted_at, attempted_at,
           case when expires_at > clock_timestamp() then expires_at end,
           case when over.awaits is null then 'available'
                when exists (select from over as member where member.chord = over.awaits)
                  or exists (select from pgtasks.jobs as member
                             where member.chord = over.awaits offset 0)
                then 'suspended' else 'available' end::pgtasks.job_state,
           greatest(attempt, 0), greatest(retries, 0),
           case when max_attempts is not null
                then greatest(max_attempts, least(greatest(attempt, 0), 2147483646) + 1) end,
           greatest(crashes, 0), greatest(lost, 0), group_index, time_limit, soft_time_limit,
           priority, ignore_result, task, task_id, queue, args, kwargs, body, content_type,
           content_encoding, root_id, parent_id, group_id, origin, headers, embed,
           case when jsonb_typeof(errors) = 'array' then errors else '[]' end, meta,
           array_remove(tags, null), chord, awaits, limits,
           -- It stands in line for its limits anew.
           case when limits is not null then '' end
    from over
    order by task_id
    on conflict do nothing
    returning job.task_id, job.queue, job.state, job.chord
),
gone as (
    delete from pgtasks.finished_jobs as job
    where job.task_id = any(array(select task_id from again))
    returning job.task_id
),
opened as (
    insert into pgtasks.chords as chord (id, remaining)
    select again.chord, count(*)
    from again
    where again.chord is not null
    group by again.chord
    order by again.chord
    on conflict (id) do update set remaining = chord.remaining + excluded.remaining
),
fresh as (
    select task_id, queue, state from hastened
    union all
    select task_id, queue, state from again
),
-- include: wake
select task_id, null as woken from fresh
union all
select null, notified from woken

-- name: delete
-- What runs is not deleted. Members count in their chords as if they had ended, so that
-- the body runs, and fails by what is missing.
with
-- include: given
-- include: waiting
ended as (
    delete from pgtasks.jobs as job
    where job.id = any(array(select id from waiting))
    returning job.id, job.task_id, job.chord
),
over as materialized (
    select job.task_id
    from given
    cross join pgtasks.finished_jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and
      -- include: finished
    order by job.task_id
    for update of job
),
forgotten as (
    delete from pgtasks.finished_jobs as job
    where job.task_id = any(array(select task_id from over))
    returning job.task_id
),
-- include: count_down
-- include: release
fresh as (select queue, state from released),
-- include: wake
select task_id, null as woken from ended
union all
select task_id, null from forgotten
union all
select null, notified from woken

-- name: hold
-- A due job that is held stays held: only `available` is claimed, and only 'scheduled'
-- and 'retryable' become that by themselves.
with
-- include: given
wanted as materialized (
    select job.id
    from given
    cross join pgtasks.jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and job.state in ('suspended', 'scheduled', 'available', 'retryable')
      and job.held is null
      and
      -- include: unfinished
    order by job.id + 0
    for update of job
)
update pgtasks.jobs as job
set state = 'suspended', held = job.state,
    -- Who waits for a limit leaves the line: claims try whatever stands there.
    parked = case when job.parked is not null then '' end
where job.id = any(array(select id from wanted))
returning job.task_id, null as woken

-- name: release
-- Back to what it was, or to what its chord has made of it meanwhile. One that was
-- suspended by hand, in SQL, and waits for no chord, may run as well.
with
-- include: given
wanted as materialized (
    select job.id
    from given
    cross join pgtasks.jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and job.state = 'suspended'
      and (job.held is not null or job.awaits is null)
      and
      -- include: unfinished
    order by job.id + 0
    for update of job
),
fresh as (
    update pgtasks.jobs as job
    set state = case when job.held = 'suspended' and job.awaits is not null then 'suspended'
                     when job.held in ('scheduled', 'retryable')
                          and job.scheduled_at > clock_timestamp() then job.held
                     else 'available' end,
        held = null
    where job.id = any(array(select id from wanted))
    returning job.task_id, job.queue, job.state
),
-- include: wake
select task_id, null as woken from fresh
union all
select null, notified from woken

-- name: update
-- What has not begun is changed. A row that somebody else holds locked is not waited for.
-- What a signature covers (task, arguments) is left alone where there is one.
with
-- include: given
wanted as materialized (
    select job.id
    from given
    cross join pgtasks.jobs as job
    where job.task_id = any(%(task_ids)s::text[])
      and job.state in ('suspended', 'scheduled', 'available', 'retryable')
      and (not %(readable)s::boolean
           or (job.body is null and coalesce(job.content_type, 'application/json') = 'application/json'))
      and
      -- include: unfinished
    order by job.id + 0
    for update of job skip locked
),
fresh as (
    update pgtasks.jobs as job
    set task = coalesce(new.task, job.task),
        queue = coalesce(new.queue, job.queue),
        priority = coalesce(new.priority, job.priority),
        args = coalesce(new.args, job.args),
        kwargs = coalesce(new.kwargs, job.kwargs),
        max_attempts = coalesce(new.max_attempts, job.max_attempts),
        meta = coalesce(new.meta, job.meta),
        tags = coalesce(new.tags, job.tags),
        expires_at = case when new.expires_never then null
                          else coalesce(clock_timestamp() + make_interval(secs => new.expires_in),
                                        new.expires, job.expires_at) end,
        expires_in = case when new.expires_never or new.expires is not null
                               or new.expires_in is not null
                          then null else job.expires_in end,
        (scheduled_at, state, held, delay) = (
            select coalesce(due.at, job.scheduled_at),
                   case when due.at is null or job.state = 'suspended' then job.state else due.state end,
                   case when due.at is null or job.held is null or job.held = 'suspended'
                        then job.held else due.state end,
                   case when due.at is null then job.delay end
            from (select moment.at,
                         case when moment.at <= clock_timestamp() then 'available'
                              when 'retryable' in (job.state, job.held) then 'retryable'
                              else 'scheduled' end::pgtasks.job_state
                  from (select coalesce(clock_timestamp() + make_interval(secs => new.delay),
                                        new.eta)) as moment (at)) as due (at, state)
        )
    from json_to_record(%(changes)s::json) as new (
        task text, queue text, priority smallint, args text, kwargs text, max_attempts integer,
        meta jsonb, tags text[], delay float8, eta timestamptz, expires_in float8,
        expires timestamptz, expires_never boolean
    )
    where job.id = any(array(select id from wanted))
    returning job.task_id, job.queue, job.state
),
-- include: wake
select task_id, null as woken from fresh
union all
select null, notified from woken
