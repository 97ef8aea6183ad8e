-- fragments of: jobs.sql

-- fragment: contest
-- Who has each key, and whether he keeps others out, all by one snapshot: whoever was
-- there in it is found in one of the two tables, running or over. Each lookup is by key
-- (the offset keeps it so, whatever the statistics say of tables that are empty now and
-- then).
new as materialized (
    select row_number() over () as place, document.*
    from json_to_recordset(%(jobs)s::json) as document (
        -- include: document
        , blocks pgtasks.job_state[], period float8, by_schedule boolean, forced boolean,
        replaces jsonb
    )
),
holder as materialized (
    select new.place, held.task_id, job.id,
           coalesce(
               job.state = any(new.blocks)
               and (new.period is null
                    or case when new.by_schedule then job.scheduled_at else job.inserted_at end
                       >= clock_timestamp() - make_interval(secs => new.period)),
               false) as blocks,
           -- The first try of this very insert has taken it, or its job is under way still.
           held.task_id = new.task_id
               and (job.live or (%(again)s::boolean and job.id is not null)) as own
    from new
    cross join lateral (
        select holding.task_id
        from pgtasks.unique_keys as holding
        where holding.key = new.unique_key
        offset 0
    ) as held
    left join lateral (
        select id, state, inserted_at, scheduled_at, true as live
        from pgtasks.jobs
        where jobs.task_id = held.task_id
        union all
        select id, state, inserted_at, scheduled_at, false
        from pgtasks.finished_jobs
        where finished_jobs.task_id = held.task_id
        order by live desc
        limit 1
    ) as job on true
),
granted as (
    -- In the order of the keys, those that are new and those that have become free alike,
    -- so that two statements with the same keys cannot deadlock (R8). Who is locked here
    -- are others who insert, never a worker. A key that somebody has taken since the
    -- snapshot is not granted, and its job not inserted: whoever asks, asks again.
    insert into pgtasks.unique_keys as held (key, task_id, follows, until)
    select distinct on (new.unique_key)
           new.unique_key, new.task_id, holder.task_id,
           case when not new.blocks && '{completed,discarded,cancelled}' then null
                when new.period is null or new.by_schedule then 'infinity'
                else clock_timestamp() + make_interval(secs => new.period) end
    from new
    left join holder on holder.place = new.place
    where new.unique_key is not null
      and holder.blocks is not true
      and holder.own is not true
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
select holder.id, new.task_id, holder.task_id, 'held'
from holder
join new on new.place = holder.place
where (holder.blocks or holder.own) and new.forced is not true
union all
select null, granted.task_id, null, 'granted' from granted
union all
select null, pg_notify('pgtasks.jobs', fresh.queue)::text, null, null
-- include: wake
union all
select null, set_config('synchronous_commit', 'off', true), null, null
where not %(durable)s::boolean

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
-- Which fields depends on its state, and is looked up in the row as it is when it has been
-- locked, not in the snapshot.
with
-- include: contest
locked as materialized (
    select job.id, holder.place
    from holder
    join new on new.place = holder.place
    cross join lateral (
        select jobs.id, jobs.state from pgtasks.jobs where jobs.task_id = holder.task_id offset 0
    ) as found
    join pgtasks.jobs as job on job.id = found.id
    where holder.blocks and not holder.own and new.replaces is not null
      and job.state in ('suspended', 'scheduled', 'available', 'executing', 'retryable')
    order by job.id
    for update of job
),
replaced as (
    update pgtasks.jobs as job
    set task = case when new.replaces -> job.state::text ? 'task' then new.task else job.task end,
        queue = case when new.replaces -> job.state::text ? 'queue'
                     then coalesce(new.queue, 'celery') else job.queue end,
        priority = case when new.replaces -> job.state::text ? 'priority'
                        then coalesce(new.priority, 0) else job.priority end,
        max_attempts = case when new.replaces -> job.state::text ? 'max_attempts'
                            then new.max_attempts else job.max_attempts end,
        meta = case when new.replaces -> job.state::text ? 'meta'
                    then coalesce(new.meta::jsonb, '{}') else job.meta end,
        tags = case when new.replaces -> job.state::text ? 'tags'
                    then coalesce(new.tags, '{}') else job.tags end,
        args = case when new.replaces -> job.state::text ? 'args' or form.whole
                    then coalesce(new.args, '[]') else job.args end,
        kwargs = case when new.replaces -> job.state::text ? 'kwargs' or form.whole
                      then coalesce(new.kwargs, '{}') else job.kwargs end,
        body = case when form.whole then new.body else job.body end,
        content_type = case when form.whole then coalesce(new.content_type, 'application/json')
                            else job.content_type end,
        content_encoding = case when form.whole then coalesce(new.content_encoding, 'utf-8')
                                else job.content_encoding end,
        scheduled_at = case when new.replaces -> job.state::text ? 'scheduled_at'
                            then due.moment else job.scheduled_at end,
        state = case when new.replaces -> job.state::text ? 'scheduled_at'
                          and job.state in ('scheduled', 'available')
                     then case when due.moment > clock_timestamp() then 'scheduled'
                               else 'available' end::pgtasks.job_state
                     else job.state end
    from locked
    join new on new.place = locked.place
    -- In another form than JSON the arguments are one piece.
    join pgtasks.jobs as old on old.id = locked.id
    cross join lateral (
        select new.replaces -> old.state::text ?| '{args,kwargs}'
               and (new.body is not null or old.body is not null
                    or coalesce(new.content_type, 'application/json')
                       is distinct from old.content_type) as whole
    ) as form
    cross join lateral (
        select coalesce(clock_timestamp() + make_interval(secs => new.delay), new.eta,
                        clock_timestamp()) as moment
    ) as due
    where job.id = locked.id
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
           exists (select from pgtasks.jobs as job
                   where job.id = held.job_id and job.state = 'executing'
                     and job.claim_token = held.claim_token
                     and job.id <> asked.id offset 0) as busy
    from asked
    cross join lateral (
        select turn.job_id, turn.claim_token from pgtasks.turns as turn
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
refused as materialized (
    select job.id, asked.key, asked.priority
    from asked
    join pgtasks.jobs as job on job.id = asked.id
    where job.id = any(array(select id from asked))
      and job.claim_token = asked.claim_token
      and job.state = 'executing'
      and job.id not in (select job_id from granted)
    order by job.id
    for update of job
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
    using asked
    where parked.key = asked.key and parked.priority = asked.priority and parked.job_id = asked.id
      and asked.id in (select job_id from granted)
)
select job_id from granted

-- name: pass_on
-- Keys whose turn is over: the first job that waits for each of them may be claimed.
with free as materialized (
    select wanted.key
    from unnest(%(keys)s::text[]) as wanted (key)
    where not exists (
        select from pgtasks.turns as turn
        join pgtasks.jobs as job on job.id = turn.job_id
        where turn.key = wanted.key and job.state = 'executing'
          and job.claim_token = turn.claim_token
        offset 0)
),
first as materialized (
    select waiting.id, waiting.priority, free.key
    from free
    cross join lateral (
        select job.id, parked.priority
        from pgtasks.parked_jobs as parked
        join pgtasks.jobs as job on job.id = parked.job_id
        where parked.key = free.key and job.state = 'scheduled'
        order by parked.priority, parked.job_id
        limit 1
        for update of job skip locked
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
    using first
    where parked.key = first.key and parked.priority = first.priority and parked.job_id = first.id
)
select queue,
       case when exists (select from pgtasks.workers
                         where asleep and started.queue = any(queues))
            then pg_notify('pgtasks.jobs', started.queue)::text end
from started
group by queue

-- name: forget_turns
-- Turns that are over, and places in line of jobs that do not wait there any more.
with over as (
    delete from pgtasks.turns as turn
    where not exists (select from pgtasks.jobs as job
                      where job.id = turn.job_id and job.state = 'executing'
                        and job.claim_token = turn.claim_token offset 0)
    returning turn.key
),
left_line as (
    delete from pgtasks.parked_jobs as parked
    where not exists (select from pgtasks.jobs as job
                      where job.id = parked.job_id and job.state = 'scheduled' offset 0)
    returning parked.key
)
select (select count(*) from over) + (select count(*) from left_line)
