-- fragments of: jobs.sql

-- name: cancel
-- What has not begun ends here and now, and counts in its chord like any other end.
-- Locked in order, as acknowledgements lock (R8).
with wanted as materialized (
    select id
    from pgtasks.jobs
    where task_id = any(%(task_ids)s::text[])
      and state in ('suspended', 'scheduled', 'available', 'retryable')
    order by id + 0
    for update
),
ended as (
    delete from pgtasks.jobs as job
    where job.id = any(array(select id from wanted))
    returning job.id, job.scheduled_at, job.inserted_at, job.attempted_at, job.expires_at,
              job.claim_token, job.worker, 'cancelled'::pgtasks.job_state as state,
              job.attempt, job.retries, job.max_attempts, job.crashes, job.lost,
              job.group_index, job.time_limit, job.soft_time_limit, job.priority,
              false as abandoned, job.ignore_result,
-- include: arguments
              null::text as status, %(result)s::text as result, %(result_body)s::bytea as result_body,
              %(result_content_type)s::text as result_content_type,
              null::text as traceback, null::text as children,
              case when pg_column_size(job.errors) <= 16777216 then job.errors else '[]' end as errors,
              job.meta, job.tags, job.awaited, job.chord, false as replaced
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
