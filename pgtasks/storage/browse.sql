-- fragments of: jobs.sql filters.sql

-- fragment: place
-- Where a job stands in the order that people ask for; what has no such time stands at the end.
    coalesce(case %(sort)s::text
             when 'inserted' then job.id
             when 'scheduled' then extract(epoch from job.scheduled_at)
             when 'attempted' then extract(epoch from job.attempted_at)
             when 'priority' then job.priority
             when 'attempt' then job.attempt end::float8, 'infinity') * %(direction)s::integer

-- fragment: about
-- A job for people. What is large is left where it is, and its size is told.
    job.id, job.task_id, job.task, job.queue, job.state::text, job.priority, job.attempt,
    job.retries, job.max_attempts, job.crashes, job.lost,
    extract(epoch from job.inserted_at)::float8, extract(epoch from job.scheduled_at)::float8,
    extract(epoch from job.attempted_at)::float8, extract(epoch from job.expires_at)::float8,
    job.worker::text, (select name from pgtasks.workers where workers.id = job.worker),
    case when octet_length(job.args) <= %(max_size)s::bigint then job.args end,
    case when octet_length(job.kwargs) <= %(max_size)s::bigint then job.kwargs end,
    case when octet_length(job.body) <= %(max_size)s::bigint then job.body end,
    job.content_type, job.content_encoding,
    coalesce(octet_length(job.body), octet_length(job.args) + octet_length(job.kwargs)),
    case when pg_column_size(job.errors) <= %(max_size)s::bigint then job.errors::text end,
    case when pg_column_size(job.meta) <= %(max_size)s::bigint then job.meta::text end,
    job.tags, job.root_id, job.parent_id, job.group_id, job.group_index, job.chord,
    job.awaits, job.origin, job.time_limit, job.soft_time_limit,
    case when octet_length(job.headers) <= %(max_size)s::bigint then job.headers end,
    case when octet_length(job.embed) <= %(max_size)s::bigint then job.embed end

-- fragment: about_unfinished
-- include: about
    , null::float8, job.held::text, job.unique_key, job.custom_state,
    case when octet_length(job.custom_meta) <= %(max_size)s::bigint then job.custom_meta end, null::text

-- fragment: about_finished
-- include: about
    , extract(epoch from job.finished_at)::float8, null::text, null::text, job.status,
    case when octet_length(job.result) <= %(max_size)s::bigint then job.result end,
    case when octet_length(job.traceback) <= %(max_size)s::bigint then job.traceback end

-- name: look_up
-- By their ids. An unfinished job goes first: the same id may have been sent again.
select
-- include: about_unfinished
    , 0::float8
from pgtasks.jobs as job
where job.task_id = any(%(task_ids)s::text[])
union all
select
-- include: about_finished
    , 1::float8
from pgtasks.finished_jobs as job
where job.task_id = any(%(task_ids)s::text[])

-- name: list
-- A page of what people look for. First which jobs, then all about them: a sort would
-- carry every argument of every job along.
with
-- include: given
chosen as materialized (
    select place, task_id, over
    from (
        select
        -- include: place
        as place, job.task_id, false as over
        from given
        cross join pgtasks.jobs as job
        where
        -- include: unfinished
        union all
        select case when %(sort)s::text = 'finished'
                    then extract(epoch from job.finished_at)::float8 * %(direction)s::integer
                    else
        -- include: place
        end, job.task_id, true
        from given
        cross join pgtasks.finished_jobs as job
        where job.finished_at between given.finished_from and given.finished_to
        and
        -- include: finished
    ) as found
    where %(after_place)s::float8 is null
       or (place, task_id collate "C") > (%(after_place)s::float8, %(after_id)s::text)
    order by place, task_id collate "C"
    limit %(limit)s
)
select *
from (
    select
    -- include: about_unfinished
    , chosen.place
    from chosen
    join pgtasks.jobs as job on job.task_id = chosen.task_id
    where not chosen.over
    union all
    select
    -- include: about_finished
    , chosen.place
    from chosen
    join pgtasks.finished_jobs as job on job.task_id = chosen.task_id
    where chosen.over
) as page

-- name: tally
-- How many, by what people ask for.
with
-- include: given
found as (
    select job.state, job.queue, job.task, job.worker, job.priority
    from given
    cross join pgtasks.jobs as job
    where
    -- include: unfinished
    union all
    select job.state, job.queue, job.task, job.worker, job.priority
    from given
    cross join pgtasks.finished_jobs as job
    where job.finished_at between given.finished_from and given.finished_to
    and
    -- include: finished
),
counted as (
    select case when 'state' = any(%(by)s::text[]) then state end as state,
           case when 'queue' = any(%(by)s::text[]) then queue end as queue,
           case when 'task' = any(%(by)s::text[]) then task end as task,
           case when 'worker' = any(%(by)s::text[]) then worker end as worker,
           case when 'priority' = any(%(by)s::text[]) then priority end as priority,
           count(*) as jobs
    from found
    group by 1, 2, 3, 4, 5
)
select counted.state::text, counted.queue, counted.task,
       coalesce(workers.name, counted.worker::text), counted.priority::integer, counted.jobs
from counted
left join pgtasks.workers as workers on workers.id = counted.worker
order by counted.state, counted.queue, counted.task, workers.name, counted.priority

-- name: find
-- Which jobs an operation is about, in the order of their insertion.
with
-- include: given
found as (
    select job.id, job.task_id, job.state
    from given
    cross join pgtasks.jobs as job
    where
    -- include: unfinished
    union all
    select job.id, job.task_id, job.state
    from given
    cross join pgtasks.finished_jobs as job
    where job.finished_at between given.finished_from and given.finished_to
    and
    -- include: finished
)
select id, task_id, state::text
from found
where (id, task_id collate "C") > (%(after)s::bigint, %(after_id)s::text)
order by id, task_id collate "C"
limit %(limit)s
