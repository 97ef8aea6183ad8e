-- name: note
-- What is over needs no word, unless another job has its id by now. Whoever waits for what
-- has not come waits no longer; what is there will say itself how it has ended.
with noted as (
    insert into pgtasks.revoked_tasks as revoked (
        task_id, reason, result, result_body, result_content_type
    )
    select wanted.task_id, %(reason)s::text,
           case when not wanted.there then %(result)s::text end,
           case when not wanted.there then %(result_body)s::bytea end,
           %(result_content_type)s::text
    from (
        select given.task_id,
               exists (select from pgtasks.jobs as job where job.task_id = given.task_id offset 0) as there
        from (select distinct unnest(%(task_ids)s::text[])) as given (task_id)
    ) as wanted
    where wanted.there
       or not exists (select from pgtasks.finished_jobs as over where over.task_id = wanted.task_id offset 0)
    order by wanted.task_id
    on conflict (task_id) do update
    set revoked_at = clock_timestamp(), reason = coalesce(excluded.reason, revoked.reason)
    returning task_id
)
select task_id, pg_notify('pgtasks.results', task_id)::text from noted

-- name: forget
delete from pgtasks.revoked_tasks
where task_id = any(%(task_ids)s::text[])
returning task_id

-- name: newest
select task_id
from pgtasks.revoked_tasks
order by revoked_at desc
limit %(limit)s

-- name: note_stamps
insert into pgtasks.revoked_stamps as revoked (header, stamp)
select distinct wanted.header, wanted.stamp
from unnest(%(headers)s::text[], %(stamps)s::text[]) as wanted (header, stamp)
order by wanted.header, wanted.stamp
on conflict (header, stamp) do update set revoked_at = clock_timestamp()
returning header

-- name: stamps
select header, stamp from pgtasks.revoked_stamps order by header, stamp
