-- fragment: given
-- What people look for, as one JSON object; what it does not name, every job has. As one
-- row beside the jobs, so that one statement serves all questions.
given as materialized (
    select filter.*,
           coalesce(inserted_after, (select clock_timestamp()) - make_interval(secs => inserted_after_ago),
                    '-infinity') as inserted_from,
           coalesce(inserted_before, (select clock_timestamp()) - make_interval(secs => inserted_before_ago),
                    'infinity') as inserted_to,
           coalesce(scheduled_after, (select clock_timestamp()) - make_interval(secs => scheduled_after_ago),
                    '-infinity') as scheduled_from,
           coalesce(scheduled_before, (select clock_timestamp()) - make_interval(secs => scheduled_before_ago),
                    'infinity') as scheduled_to,
           coalesce(finished_after,
                    (select clock_timestamp()) - make_interval(secs => coalesce(finished_after_ago, finished_within)),
                    '-infinity') as finished_from,
           coalesce(finished_before, (select clock_timestamp()) - make_interval(secs => finished_before_ago),
                    'infinity') as finished_to,
           coalesce(finished_after::text, finished_before::text, finished_after_ago::text,
                    finished_before_ago::text) is null as unfinished_too,
           case when workers is not null
                then workers || array(select id::text from pgtasks.workers
                                      where name like any(workers)) end as worker_ids
    from json_to_record(%(filter)s::json) as filter (
        states pgtasks.job_state[], queues text[], tasks text[], workers text[], tags text[],
        priorities integer[], meta jsonb, args jsonb, kwargs jsonb, places jsonb, groups text[],
        roots text[], errors text[], held boolean,
        inserted_after timestamptz, inserted_after_ago float8,
        inserted_before timestamptz, inserted_before_ago float8,
        scheduled_after timestamptz, scheduled_after_ago float8,
        scheduled_before timestamptz, scheduled_before_ago float8,
        finished_after timestamptz, finished_after_ago float8,
        finished_before timestamptz, finished_before_ago float8,
        finished_within float8
    )
),

-- fragment: matching
-- What is dear to ask comes last.
    (given.states is null or job.state = any(given.states))
    and (given.queues is null or job.queue = any(given.queues))
    and (given.priorities is null or job.priority = any(given.priorities))
    and (given.tasks is null or job.task like any(given.tasks))
    and (given.worker_ids is null or job.worker::text = any(given.worker_ids))
    and (given.groups is null or job.group_id = any(given.groups))
    and (given.roots is null or job.root_id = any(given.roots) or job.task_id = any(given.roots))
    and job.inserted_at between given.inserted_from and given.inserted_to
    and job.scheduled_at between given.scheduled_from and given.scheduled_to
    and (given.tags is null or job.tags @> given.tags)
    and (given.meta is null or job.meta @> given.meta)
    and (given.errors is null
         or concat(job.errors -> -1 ->> 'kind', ': ', job.errors -> -1 ->> 'message') like any(given.errors)
         or job.errors -> -1 ->> 'message' like any(given.errors))
    and (given.args is null or pgtasks.try_json(job.args) @> given.args)
    -- A parameter may have been given by its name or by its place.
    and (given.kwargs is null
         or pgtasks.try_json(job.kwargs) @> given.kwargs
         or (given.places ? job.task
             and not exists (
                 select
                 from jsonb_each(given.kwargs) as wanted
                 where not coalesce(pgtasks.try_json(job.kwargs) -> wanted.key @> wanted.value, false)
                   and not coalesce(pgtasks.try_json(job.args)
                                        -> (given.places -> job.task ->> wanted.key)::integer
                                    @> wanted.value, false))))

-- fragment: unfinished
-- Of the jobs that are still to do.
    given.unfinished_too
    and (given.states is null
         or given.states && '{suspended,scheduled,available,executing,retryable}'::pgtasks.job_state[])
    and (given.held is null or given.held = (job.held is not null))
    and
-- include: matching

-- fragment: finished
-- Of those that are over; history is not looked at if nothing there can be meant. Where ids
-- are known, the index on the end is of no use.
    given.held is not true
    and (given.states is null or given.states && '{completed,discarded,cancelled}'::pgtasks.job_state[])
    and (job.finished_at between given.finished_from and given.finished_to) is true
    and
-- include: matching
