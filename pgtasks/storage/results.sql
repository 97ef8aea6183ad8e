-- fragment: unfinished
select id, task_id, task, state::text, custom_state, custom_meta, null::bytea, null::text,
       null::text, null::text, args, kwargs, body, content_type, content_encoding, queue,
       retries, worker::text, group_id, parent_id, root_id, ignore_result,
       extract(epoch from inserted_at)::float8, extract(epoch from attempted_at)::float8,
       null::float8, errors::text, headers
from pgtasks.jobs
where task_id = any(%(task_ids)s::text[])

-- fragment: finished
select id, task_id, task, state::text, status, result, result_body, result_content_type,
       traceback, children, args, kwargs, body, content_type, content_encoding, queue,
       retries, worker::text, group_id, parent_id, root_id, ignore_result,
       extract(epoch from inserted_at)::float8, extract(epoch from attempted_at)::float8,
       extract(epoch from finished_at)::float8, errors::text, headers
from pgtasks.finished_jobs
where task_id = any(%(task_ids)s::text[])

-- name: read
-- An unfinished job goes first: the same id may have been sent again after its end. What was
-- revoked and has not come stands last.
-- include: unfinished
union all
-- include: finished
union all
select 0, task_id, '', 'cancelled', null, result, result_body, result_content_type,
       null, null, '[]', '{}', null, null, null, '',
       0, null, null, null, null, null,
       extract(epoch from revoked_at)::float8, null,
       extract(epoch from revoked_at)::float8, '[]', null
from pgtasks.revoked_tasks
where task_id = any(%(task_ids)s::text[])
  and (result is not null or result_body is not null)

-- name: read_failed
-- Of these only those that may have failed. A task can say so itself, by a custom state.
-- include: unfinished
  and custom_state in ('FAILURE', 'REVOKED')
union all
-- include: finished
  and (state <> 'completed' or status is not null)

-- name: members
-- What the members of a chord's header came to, in their order.
select task_id, state::text, status, result, result_body, result_content_type, traceback
from pgtasks.finished_jobs
where chord = %(chord)s::text and group_index is not null
order by group_index

-- name: await
-- From now on the end of these jobs sends a notification. Locked in order, for the
-- acknowledgements of many jobs lock in that order too (R8). `id + 0` is in no index: a
-- plan from when the table was empty would go through all of it for the sake of the order.
-- Nobody needs to wait for the disk: a crash of the server that forgets it ends the waiting
-- connection as well.
with unawaited as materialized (
    select id
    from pgtasks.jobs
    where task_id = any(%(task_ids)s::text[]) and not awaited
    order by id + 0
    for update
)
update pgtasks.jobs as job
set awaited = true
where job.id = any(array(select id from unawaited))
returning job.task_id, set_config('synchronous_commit', 'off', true)

-- name: await_descendants
-- The same for ids that have no row yet: they are left with the jobs before them, or with
-- those that wait for the groups before them, which hand them on with each acknowledgement. Found are those that live, so that what follows
-- from them is sure to know.
with given as materialized (
    select %(ancestry)s::jsonb as ancestry
),
found as materialized (
    select job.id, job.task_id, job.awaits, job.awaited, job.heralds,
           coalesce(given.ancestry -> job.task_id, '[]')
           || coalesce(given.ancestry -> job.awaits, '[]') as heirs
    from given
    cross join pgtasks.jobs as job
    where job.task_id = any(%(ancestors)s::text[]) or job.task_id = any(%(task_ids)s::text[])
       or job.awaits = any(%(ancestors)s::text[])
    order by job.id + 0
    for update of job
),
told as (
    update pgtasks.jobs as job
    set awaited = job.awaited or job.task_id = any(%(task_ids)s::text[]),
        heralds = array(
            select unnest(job.heralds)
            union
            select jsonb_array_elements_text(found.heirs) from found where found.id = job.id
        )
    where job.id = any(array(
        select id
        from found
        where (not awaited and task_id = any(%(task_ids)s::text[]))
           or not coalesce(heralds, '{}') @> array(select jsonb_array_elements_text(heirs))
    ))
)
select task_id, awaits, set_config('synchronous_commit', 'off', true) from found

-- name: forget
-- The row stays for those who read the history; its result goes.
update pgtasks.finished_jobs
set result = null, result_body = null, traceback = null, children = null, ignore_result = true
where task_id = any(%(task_ids)s::text[])
returning task_id

-- name: store
-- A result put by hand: store_result() outside of a worker. The first success stays.
insert into pgtasks.finished_jobs (
    id, scheduled_at, inserted_at, attempted_at, finished_at, state, attempt, retries, crashes,
    lost, priority, task, task_id, queue, args, kwargs, content_type, content_encoding,
    status, result, result_body, result_content_type, traceback, children, errors, meta, tags
)
values (
    0, clock_timestamp(), clock_timestamp(), clock_timestamp(), clock_timestamp(),
    %(state)s::pgtasks.job_state, 0, 0, 0, 0, 0, %(task)s::text, %(task_id)s::text, '', '[]', '{}',
    'application/json', 'utf-8', %(status)s::text, %(result)s::text, %(result_body)s::bytea,
    %(result_content_type)s::text, %(traceback)s::text, %(children)s::text, '[]', '{}', '{}'
)
on conflict (task_id) do update set
    state = excluded.state, status = excluded.status, result = excluded.result,
    result_body = excluded.result_body, result_content_type = excluded.result_content_type,
    traceback = excluded.traceback, children = excluded.children,
    finished_at = excluded.finished_at
where pgtasks.finished_jobs.state <> 'completed'
returning task_id

-- name: save_group
insert into pgtasks.saved_groups as saved (id, members)
values (%(id)s::text, %(members)s::text)
on conflict (id) do update set members = excluded.members, saved_at = excluded.saved_at
returning id

-- name: restore_group
select members from pgtasks.saved_groups where id = %(id)s::text

-- name: delete_group
delete from pgtasks.saved_groups where id = %(id)s::text returning id

-- name: prune_groups
delete from pgtasks.saved_groups
where saved_at < clock_timestamp() - make_interval(secs => %(age)s)
returning id
