-- fragments of: jobs.sql

-- fragment: holder
-- The job of `owner`, running or over. What a person holds counts as what it will be, and
-- what waits for a limit as one that may run.
        select id, case when coalesce(held, state) = 'suspended' and parked is not null
                             and awaits is null then 'available'
                        else coalesce(held, state) end as state,
               inserted_at, scheduled_at, true as live
        from pgtasks.jobs
        where jobs.task_id = owner.task_id
        union all
        select id, state, inserted_at, scheduled_at, false
        from pgtasks.finished_jobs
        where finished_jobs.task_id = owner.task_id
        order by live desc
        limit 1

-- fragment: contest
-- Who has each key, and whether he keeps others out, all by one snapshot: whoever was
-- there in it is found in one of the two tables, running or over. Each lookup is by key
-- (the offset keeps it so, whatever the statistics say of tables that are empty now and
-- then), and what it finds stands beside the job: to join it later compares each with each.
new as materialized (
    select row_number() over () as place, document.*,
           owner.task_id as holder, job.id as holder_id,
           coalesce(
               job.state = any(document.blocks)
               and (document.period is null
                    or case when document.by_schedule then job.scheduled_at
                            else job.inserted_at end
                       >= clock_timestamp() - make_interval(secs => document.period)),
               false) as blocked,
           -- The first try of this very insert has taken it, or its job is under way still.
           coalesce(
               owner.task_id = document.task_id
               and (job.live or (%(again)s::boolean and job.id is not null)),
               false) as own
    from json_to_recordset(%(jobs)s::json) as document (
        -- include: document
        , blocks pgtasks.job_state[], period float8, by_schedule boolean, forced boolean,
        replaces jsonb
    )
    left join lateral (
        select holding.task_id
        from pgtasks.unique_keys as holding
        where holding.key = document.unique_key
        offset 0
    ) as owner on true
    left join lateral (
        -- include: holder
    ) as job on true
),
granted as (
    -- In the order of the keys, those that are new and those that have become free alike,
    -- so that two statements with the same keys cannot deadlock (R8). Who is locked here
    -- are others who insert, never a worker. A key that somebody has taken since the
    -- snapshot is not granted, and its job not inserted: whoever asks, asks again.
    insert into pgtasks.unique_keys as held (key, task_id, follows, until)
    select distinct on (new.unique_key)
           new.unique_key, new.task_id, new.holder,
           case when not new.blocks && '{completed,discarded,cancelled}' then null
                when new.period is null or new.by_schedule then 'infinity'
                else clock_timestamp() + make_interval(secs => new.period) end
    from new
    where new.unique_key is not null and not new.blocked and not new.own
    order by new.unique_key, new.place
    on conflict (key) do update
    set task_id = excluded.task_id, follows = excluded.follows, until = excluded.until,
        taken_at = excluded.taken_at
    where held.task_id = excluded.follows
    returning held.task_id
),
inserted as (
    insert into pgtasks.jobs (
        -- include: columns
    )
    select
        -- include: values
        ,
        -- include: birth
    from new as document
    -- What others wait for goes in whoever has the key.
    where (document.unique_key is null or document.forced
           or document.task_id in (select task_id from granted))
      and
        -- include: first_try
    order by document.place
    on conflict do nothing
    returning id, task_id, queue, state, scheduled_at, chord, parked
),
-- include: opened

-- fragment: verdicts
select id, task_id, null as holder, 'inserted' as verdict from inserted
union all
select new.holder_id, new.task_id, new.holder, 'held'
from new
where (new.blocked or new.own) and new.forced is not true
union all
select null, granted.task_id, null, 'granted' from granted
union all
select null, pg_notify('pgtasks.jobs', fresh.queue)::text, null, null
-- include: wake
union all
select null, set_config('synchronous_commit', 'off', true), null, null
where not %(durable)s::boolean

-- name: insert_one
-- The everyday call of a task that is unique, one plain job: what `insert` says, in half
-- the time.
with held as materialized (
    select owner.task_id as holder, job.id,
           coalesce(
               job.state = any(%(blocks)s::text::pgtasks.job_state[])
               and (%(period)s::float8 is null
                    or case when %(by_schedule)s::boolean then job.scheduled_at
                            else job.inserted_at end
                       >= clock_timestamp() - make_interval(secs => %(period)s::float8)),
               false)
           or (job.live and owner.task_id = %(task_id)s::text) as blocked
    from pgtasks.unique_keys as owner
    left join lateral (
        -- include: holder
    ) as job on true
    where owner.key = %(unique_key)s::text
),
granted as (
    insert into pgtasks.unique_keys as taken (key, task_id, follows, until)
    select %(unique_key)s::text, %(task_id)s::text, (select holder from held),
           case when %(lasts)s::boolean
                then coalesce(case when not %(by_schedule)s::boolean
                                   then clock_timestamp()
                                        + make_interval(secs => %(period)s::float8) end,
                              'infinity') end
    where not exists (select from held where blocked)
    on conflict (key) do update
    set task_id = excluded.task_id, follows = excluded.follows, until = excluded.until,
        taken_at = excluded.taken_at
    where taken.task_id = excluded.follows
    returning taken.task_id
),
inserted as (
    insert into pgtasks.jobs (
        task, task_id, queue, priority, args, kwargs, ignore_result, root_id, parent_id,
        origin, unique_key
    )
    select %(task)s::text, %(task_id)s::text, %(queue)s::text, %(priority)s::smallint,
           %(args)s::text, %(kwargs)s::text, %(ignore_result)s::boolean,
           %(root_id)s::text, %(parent_id)s::text, %(origin)s::text, %(unique_key)s::text
    from granted
    on conflict do nothing
    returning id, task_id,
        case when %(wake)s::text = 'always'
               or (exists (select from pgtasks.workers
                           where asleep and jobs.queue = any(queues))
                   and pg_try_advisory_xact_lock(hashtext('pgtasks.jobs'), hashtext(jobs.queue)))
             then pg_notify('pgtasks.jobs', jobs.queue)::text end as told,
        case when not %(durable)s::boolean then set_config('synchronous_commit', 'off', true) end
            as hurried
)
select id, task_id, null as holder, 'inserted' as verdict, told, hurried from inserted
union all
select id, %(task_id)s::text, holder, 'held', null, null from held where blocked
union all
select null, task_id, null, 'granted', null, null from granted

-- name: insert
-- What `insert` of jobs.sql says, for jobs of which some have a key.
with
-- include: contest
fresh as materialized (
-- include: stirs
)
-- include: verdicts

-- name: insert_or_replace
-- The same, and the job that has the key may be changed by the one that is kept out.
-- Which fields depends on its state, as it is when the row has been locked, not as it was in
-- the snapshot.
with
-- include: contest
locked as materialized (
    select new.*,
           coalesce(new.replaces -> job.state::text, '[]') as fields,
           -- In another form than JSON the arguments are one piece.
           coalesce(new.replaces -> job.state::text ?| '{args,kwargs}', false)
               and (new.body is not null or job.body is not null
                    or coalesce(new.content_type, 'application/json')
                       is distinct from job.content_type) as whole
    from new
    join pgtasks.jobs as job on job.id = new.holder_id
    where job.id = any(array(
        select holder_id
        from new
        where blocked and not own and forced is not true and replaces is not null
    ))
      and new.blocked and not new.own and new.replaces is not null
    order by job.id + 0
    for update of job
),
replaced as (
    update pgtasks.jobs as job
    set task = case when locked.fields ? 'task' then locked.task else job.task end,
        queue = case when locked.fields ? 'queue'
                     then coalesce(locked.queue, 'celery') else job.queue end,
        priority = case when locked.fields ? 'priority'
                        then coalesce(locked.priority, 0) else job.priority end,
        max_attempts = case when locked.fields ? 'max_attempts'
                            then locked.max_attempts else job.max_attempts end,
        meta = case when locked.fields ? 'meta'
                    then coalesce(locked.meta::jsonb, '{}') else job.meta end,
        tags = case when locked.fields ? 'tags'
                    then coalesce(locked.tags, '{}') else job.tags end,
        args = case when locked.fields ? 'args' or locked.whole
                    then coalesce(locked.args, '[]') else job.args end,
        kwargs = case when locked.fields ? 'kwargs' or locked.whole
                      then coalesce(locked.kwargs, '{}') else job.kwargs end,
        body = case when locked.whole then locked.body else job.body end,
        content_type = case when locked.whole then coalesce(locked.content_type, 'application/json')
                            else job.content_type end,
        content_encoding = case when locked.whole then coalesce(locked.content_encoding, 'utf-8')
                                else job.content_encoding end,
        scheduled_at = case when locked.fields ? 'scheduled_at'
                            then due.moment else job.scheduled_at end,
        state = case when locked.fields ? 'scheduled_at'
                          and job.state in ('scheduled', 'available')
                     then case when due.moment > clock_timestamp() then 'scheduled'
                               else 'available' end::pgtasks.job_state
                     else job.state end
    from locked
    cross join lateral (
        select coalesce(clock_timestamp() + make_interval(secs => locked.delay), locked.eta,
                        clock_timestamp()) as moment
    ) as due
    where job.id = any(array(select holder_id from locked))
      and job.id = locked.holder_id
    returning job.queue, job.state, job.scheduled_at
),
fresh as materialized (
-- include: stirs
    union
    select case when state = 'available' then queue else '' end
    from replaced
    where state = 'available'
       or (state = 'scheduled' and scheduled_at < clock_timestamp() + interval '5 seconds')
)
-- include: verdicts

-- name: forget
-- Keys of jobs that are gone, or over and keep nobody out any more; a stretch of them at a
-- time, in their order. The answer is where the next begins: null after the last.
with stretch as materialized (
    select key, task_id, until
    from pgtasks.unique_keys
    where key > %(after)s::text
    order by key
    limit %(limit)s
),
idle as materialized (
    -- Locked in their order, as inserts lock them (R8).
    select held.key
    from stretch
    join pgtasks.unique_keys as held on held.key = stretch.key and held.task_id = stretch.task_id
    where not exists (select from pgtasks.jobs as job
                      where job.task_id = stretch.task_id offset 0)
      and (stretch.until is null or stretch.until < clock_timestamp()
           or not exists (select from pgtasks.finished_jobs as over
                          where over.task_id = stretch.task_id offset 0))
    order by held.key
    for update of held skip locked
),
gone as (
    delete from pgtasks.unique_keys as held
    where held.key = any(array(select key from idle))
    returning held.key
)
select case when count(*) >= %(limit)s then max(key) end, (select count(*) from gone) from stretch

-- name: take_turns
-- Of the jobs that were just claimed, and of which one runs at a time, those whose turn it
-- is may begin. A turn is over when the row that has it does not execute any more under
-- the claim by which it took it: whether it ended, was handed back or rescued. The others
-- are put back, at no cost, until they are told; the half minute is the net below that.
with asked as materialized (
    select *
    from json_to_recordset(%(jobs)s::json) as document (
        id bigint, claim_token uuid, key text, priority smallint
    )
),
holder as materialized (
    select asked.id, held.claim_token,
           (select job.state = 'executing' and job.claim_token = held.claim_token
            from pgtasks.jobs as job
            where job.id = held.job_id and job.id <> asked.id
            offset 0) as busy
    from asked
    cross join lateral (
        select turn.job_id, turn.claim_token
        from pgtasks.turns as turn
        where turn.key = asked.key
        offset 0
    ) as held
),
granted as (
    insert into pgtasks.turns as held (key, job_id, claim_token, follows)
    select distinct on (asked.key) asked.key, asked.id, asked.claim_token, holder.claim_token
    from asked
    left join holder on holder.id = asked.id
    where holder.busy is not true
    order by asked.key, asked.priority, asked.id
    on conflict (key) do update
    set job_id = excluded.job_id, claim_token = excluded.claim_token, follows = excluded.follows
    where held.claim_token = excluded.follows
    returning held.job_id
),
locked as materialized (
    select job.id, job.state, job.claim_token
    from pgtasks.jobs as job
    where job.id = any(array(select id from asked except select job_id from granted))
    order by job.id + 0
    for update of job
),
refused as materialized (
    select locked.id, asked.key, asked.priority
    from locked
    join asked on asked.id = locked.id and asked.claim_token = locked.claim_token
    where locked.state = 'executing'
),
returned as (
    update pgtasks.jobs as job
    set state = 'scheduled',
        attempt = greatest(job.attempt - 1, 0),
        scheduled_at = clock_timestamp() + interval '30 seconds',
        worker = null, claim_token = null
    where job.id = any(array(select id from refused))
    returning job.id
),
parked as (
    insert into pgtasks.parked_jobs (key, priority, job_id)
    select key, priority, id from refused
    order by key, priority, id
    on conflict do nothing
),
unparked as (
    delete from pgtasks.parked_jobs as parked
    where parked.ctid = any(array(
        select found.ctid
        from asked
        cross join lateral (
            select line.ctid
            from pgtasks.parked_jobs as line
            where line.key = asked.key and line.priority = asked.priority
              and line.job_id = asked.id
            offset 0
        ) as found
        where asked.id in (select job_id from granted)
    ))
)
select job_id from granted

-- name: pass_on
-- Keys whose turn is over: the first job that waits for each of them may be claimed.
-- Jobs are looked up by their ids alone, for among those that run, or are due, there may be
-- hundreds of thousands of others.
with free as materialized (
    select wanted.key
    from unnest(%(keys)s::text[]) as wanted (key)
    left join lateral (
        select turn.job_id, turn.claim_token
        from pgtasks.turns as turn
        where turn.key = wanted.key
        offset 0
    ) as held on true
    where (select job.state = 'executing' and job.claim_token = held.claim_token
           from pgtasks.jobs as job
           where job.id = held.job_id
           offset 0) is not true
),
first as materialized (
    select waiting.id, waiting.place
    from free
    cross join lateral (
        select job.id, parked.ctid as place
        from pgtasks.parked_jobs as parked
        cross join lateral (
            select jobs.id, jobs.state
            from pgtasks.jobs
            where jobs.id = parked.job_id
            offset 0
            for update skip locked
        ) as job
        where parked.key = free.key and job.state = 'scheduled'
        order by parked.key, parked.priority, parked.job_id
        limit 1
    ) as waiting
),
started as (
    update pgtasks.jobs as job
    set state = 'available', scheduled_at = clock_timestamp()
    where job.id = any(array(select id from first))
    returning job.queue
),
unparked as (
    delete from pgtasks.parked_jobs as parked
    where parked.ctid = any(array(select place from first))
)
select queue,
       case when exists (select from pgtasks.workers
                         where asleep and started.queue = any(queues))
            then pg_notify('pgtasks.jobs', started.queue)::text end
from started
group by queue

-- name: forget_turns
-- Turns that are over, and places in line of jobs that do not wait there any more; some
-- thousands at a time.
with over as (
    delete from pgtasks.turns as turn
    where turn.ctid = any(array(
        select old.ctid
        from pgtasks.turns as old
        where (select job.state = 'executing' and job.claim_token = old.claim_token
               from pgtasks.jobs as job
               where job.id = old.job_id
               offset 0) is not true
        order by old.key
        limit 10000
        for update skip locked
    ))
    returning turn.key
),
left_line as (
    delete from pgtasks.parked_jobs as parked
    where parked.ctid = any(array(
        select old.ctid
        from pgtasks.parked_jobs as old
        where (select job.state = 'scheduled'
               from pgtasks.jobs as job
               where job.id = old.job_id
               offset 0) is not true
        limit 10000
        for update skip locked
    ))
    returning parked.key
)
select (select count(*) from over) + (select count(*) from left_line)
