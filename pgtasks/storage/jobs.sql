-- name: insert_one
-- The everyday call, one plain job: what `insert` says, in a plan of half the size.
insert into pgtasks.jobs (
    task, task_id, queue, priority, args, kwargs, ignore_result, root_id, parent_id, origin
)
values (
    %(task)s::text, %(task_id)s::text, %(queue)s::text, %(priority)s::smallint,
    %(args)s::text, %(kwargs)s::text, %(ignore_result)s::boolean,
    %(root_id)s::text, %(parent_id)s::text, %(origin)s::text
)
on conflict do nothing
returning id, task_id,
    case when exists (select from pgtasks.workers
                      where asleep and jobs.queue = any(queues))
          and pg_try_advisory_xact_lock(hashtext('pgtasks.jobs'), hashtext(jobs.queue))
         then pg_notify('pgtasks.jobs', jobs.queue)::text end,
    -- For this transaction alone: the commit does not wait for the disk.
    case when not %(durable)s::boolean then set_config('synchronous_commit', 'off', true) end

-- fragment: document
    task text, task_id text, queue text, priority smallint,
    args text, kwargs text, body bytea, content_type text, content_encoding text,
    delay float8, eta timestamptz, expires_in float8, expires timestamptz,
    max_attempts integer, retries integer, time_limit float8, soft_time_limit float8,
    ignore_result boolean, root_id text, parent_id text, group_id text, group_index integer,
    origin text, headers text, embed text, meta text, tags text[], unique_key text,
    chord text, awaits text, limits text[], turn integer

-- fragment: columns
    task, task_id, queue, priority, args, kwargs, body, content_type, content_encoding,
    scheduled_at, expires_at, max_attempts, retries, time_limit, soft_time_limit,
    ignore_result, root_id, parent_id, group_id, group_index,
    origin, headers, embed, meta, tags, unique_key, chord, awaits, delay, expires_in,
    limits, parked, state

-- fragment: values
-- What waits for a chord is due, and expires, as many seconds after its release.
    document.task, document.task_id, coalesce(document.queue, 'celery'),
    coalesce(document.priority, 0), coalesce(document.args, '[]'), coalesce(document.kwargs, '{}'),
    document.body, coalesce(document.content_type, 'application/json'),
    coalesce(document.content_encoding, 'utf-8'),
    coalesce(case when document.awaits is null
                  then clock_timestamp() + make_interval(secs => document.delay) end,
             document.eta, clock_timestamp()),
    coalesce(case when document.awaits is null
                  then clock_timestamp() + make_interval(secs => document.expires_in) end,
             document.expires),
    document.max_attempts, coalesce(document.retries, 0), document.time_limit,
    document.soft_time_limit, document.ignore_result, document.root_id, document.parent_id,
    document.group_id, document.group_index, document.origin, document.headers, document.embed,
    coalesce(document.meta::jsonb, '{}'), coalesce(document.tags, '{}'), document.unique_key,
    document.chord, document.awaits,
    case when document.awaits is not null then document.delay end,
    case when document.awaits is not null then document.expires_in end,
    document.limits,
    -- One that comes to a full gate where others wait stands behind them at once; so does
    -- one before which as many were inserted with it as there can be places. Nothing is
    -- locked here, so that it may come too late for a place: then a sweep sees it.
    case when document.limits is null then null
         when document.awaits is not null or document.delay > 0
              or (document.delay is null and document.eta > clock_timestamp()) then ''
         when document.turn > (
             select greatest(coalesce(known.concurrency, known.rate), 1)
             from pgtasks.limits as known
             where known.name = split_part(document.limits[1], chr(31), 1)) then document.limits[1]
         else coalesce((
             select gate.name
             from pgtasks.gates as gate
             join pgtasks.limits as known on known.name = gate.limit_name
             where gate.name = any(document.limits)
               and gate.running >= known.concurrency
               and coalesce(document.queue, 'celery') = any(gate.queues)
               and exists (select from pgtasks.jobs as other
                           where other.parked = gate.name
                             and other.state = 'suspended' and length(other.parked) > 1
                           offset 0)
             order by gate.name
             limit 1), '?') end

-- fragment: birth
    case when document.awaits is not null then 'suspended'
         when document.delay > 0 or (document.delay is null and document.eta > clock_timestamp())
         then 'scheduled'
         -- It waits for its limits, apart from what claims walk through.
         when document.limits is not null then 'suspended'
         else 'available' end::pgtasks.job_state

-- fragment: open
-- No word says that the queue is paused, and no limit for the whole fleet sends its jobs
-- through a gate. Asked by the claim itself: what a worker remembers may be a moment old.
    not exists (select from pgtasks.queues as said
                where said.queue in (wanted.queue, '*')
                  and said.node in ('', %(node)s::text)
                  and (said.limited
                       or (said.paused
                           and not said.but && array[wanted.queue, chr(31) || %(node)s::text,
                                                     wanted.queue || chr(31) || %(node)s::text])))

-- fragment: first_try
-- The second try of an insert whose answer was lost: the first may have been
-- committed, and its job may be over already (R2). The offset keeps the planner from
-- hashing all of history, as it does after it has seen the table empty.
        case when %(again)s::boolean
             then not exists (select from pgtasks.finished_jobs as over
                              where over.task_id = document.task_id offset 0)
             else true end

-- fragment: opened
-- Chords have more members now.
opened as (
    insert into pgtasks.chords as chord (id, remaining)
    select inserted.chord, count(*)
    from inserted
    where inserted.chord is not null
    group by inserted.chord
    order by inserted.chord
    on conflict (id) do update set remaining = chord.remaining + excluded.remaining
),

-- fragment: stirs
    -- A job due within seconds must be seen by a sleeping stager: queue '' means that.
    select distinct case when state = 'scheduled' then '' else queue end as queue
    from inserted
    where state = 'available' or parked = '?'
       or (state = 'scheduled' and scheduled_at < clock_timestamp() + interval '5 seconds')

-- fragment: wake
from fresh
where %(wake)s::text = 'always'
   or (%(wake)s::text = 'coalesced'
       and exists (select from pgtasks.workers
                   where asleep and (fresh.queue = '' or fresh.queue = any(queues)))
       and pg_try_advisory_xact_lock(hashtext('pgtasks.jobs'), hashtext(fresh.queue)))

-- name: insert
-- One statement for one job and for thousands: a single JSON parameter costs the
-- client 4 µs a row where executemany costs 33 µs, and any driver can carry it.
-- Jobs with a unique key go another way: see uniques.sql.
-- A notification is sent only where a worker sleeps on that queue, and by one
-- transaction at a time: every commit that notifies queues up on one lock of the
-- server, which costs 4-7 times the commit rate at eight writers (R27).
with new as materialized (
    select row_number() over () as place, document.*
    from json_to_recordset(%(jobs)s::json) as document (
        -- include: document
    )
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
    where
        -- include: first_try
    order by place
    on conflict do nothing
    returning id, task_id, queue, state, scheduled_at, chord, parked
),
-- include: opened
fresh as materialized (
-- include: stirs
)
select id, task_id from inserted
union all
select null, pg_notify('pgtasks.jobs', fresh.queue)::text
-- include: wake
union all
select null, set_config('synchronous_commit', 'off', true) where not %(durable)s::boolean

-- fragment: taken
-- What a claim makes of a job.
    state = 'executing',
    attempt = least(job.attempt, 2147483646) + 1,
    attempted_at = clock_timestamp(),
    worker = %(worker)s::uuid,
    claim_token = %(token)s::uuid,
    rerun = coalesce(job.max_attempts > 1, false) or job.task = any(%(rerunnable)s::text[]),
    abandoned = false

-- fragment: claimed
-- What is too large is left in the table: 300 MB in one row would cost its neighbours
-- seconds. The size that comes instead tells the job's reader to refuse it (R11).
    job.id, job.task_id, job.task, job.queue, job.priority, job.attempt, job.retries,
    job.max_attempts, job.crashes, job.lost,
    case when octet_length(job.args) <= %(max_size)s::bigint then job.args end,
    case when octet_length(job.kwargs) <= %(max_size)s::bigint then job.kwargs end,
    case when octet_length(job.body) <= %(max_size)s::bigint then job.body end,
    job.content_type, job.content_encoding,
    greatest(octet_length(job.args), octet_length(job.kwargs), octet_length(job.body),
             octet_length(job.headers), octet_length(job.embed)),
    extract(epoch from job.scheduled_at)::float8,
    extract(epoch from job.inserted_at)::float8,
    extract(epoch from job.expires_at)::float8,
    coalesce(job.expires_at <= clock_timestamp(), false),
    job.time_limit, job.soft_time_limit, job.ignore_result,
    job.root_id, job.parent_id, job.group_id, job.group_index, job.chord, job.awaits,
    job.origin,
    case when octet_length(job.headers) <= %(max_size)s::bigint then job.headers end,
    case when octet_length(job.embed) <= %(max_size)s::bigint then job.embed end,
    case when pg_column_size(job.meta) <= %(max_size)s::bigint
         then nullif(job.meta, '{}')::text end,
    nullif(job.tags, '{}'),
    job.claim_token::text,
    -- As this snapshot has it: what was revoked before it was sent never runs. A text and not
    -- `exists`, which the planner might hash: one look into an index, of an empty table mostly.
    (select coalesce(revoked.reason, '') from pgtasks.revoked_tasks as revoked
     where revoked.task_id = job.task_id),
    job.scheduled_at::text

-- name: fetch_queue
-- The claim for a worker of one queue: what `fetch` says, in a plan of half the size,
-- 140 µs instead of 220 for a job that comes alone.
update pgtasks.jobs as job
set
-- include: taken
where job.id = any(array(
    select jobs.id
    from pgtasks.jobs
    where jobs.state = 'available'
      and jobs.parked is null
      and jobs.queue = %(queue)s::text
      and (jobs.priority, jobs.scheduled_at, jobs.id)
        > (%(priority)s::smallint, %(due)s::timestamptz, %(id)s::bigint)
      and exists (select from pgtasks.workers
                  where workers.id = %(worker)s::uuid and dead_at is null and stopped_at is null)
      and (select
           -- include: open
           from (select %(queue)s::text) as wanted (queue))
    order by jobs.priority, jobs.scheduled_at, jobs.id
    limit %(demand)s
    for update of jobs skip locked
))
returning
-- include: claimed

-- name: fetch
-- LATERAL per queue: with `queue = any(…)` the planner sorts the whole backlog to
-- find its first rows (5 times slower at 40,000 waiting jobs).
-- The CTE is an optimisation fence: inlined, the planner may run the LIMIT once per
-- outer row and claim more jobs than were asked for.
-- The row comparison is the low-water mark (R7): while a transaction elsewhere keeps
-- dead rows from being vacuumed, it lets a scan begin behind them.
-- A worker that was declared dead claims nothing (R16).
with runnable as materialized (
    select job.id
    from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(dues)s::timestamptz[], %(ids)s::bigint[],
                %(rooms)s::integer[])
        as wanted (queue, priority, scheduled_at, id, room)
    cross join lateral (
        select jobs.id, jobs.priority, jobs.scheduled_at
        from pgtasks.jobs
        where jobs.state = 'available'
          and jobs.parked is null
          and jobs.queue = wanted.queue
          and (jobs.priority, jobs.scheduled_at, jobs.id) > (wanted.priority, wanted.scheduled_at, wanted.id)
        order by jobs.priority, jobs.scheduled_at, jobs.id
        limit least(wanted.room, %(demand)s)
        for update skip locked
    ) as job
    where exists (select from pgtasks.workers
                  where workers.id = %(worker)s::uuid and dead_at is null and stopped_at is null)
      and
      -- include: open
    order by job.priority, job.scheduled_at, job.id
    limit %(demand)s
)
update pgtasks.jobs as job
set
-- include: taken
-- An array, not a join: while the statistics say that the table is empty the planner
-- would read all of it and look each row up in the CTE.
where job.id = any(array(select id from runnable))
returning
-- include: claimed

-- name: recover
-- The answer to a claim was lost with its connection: its rows are ours all the same (R6).
select
-- include: claimed
from pgtasks.jobs as job
where job.worker = %(worker)s::uuid and job.state = 'executing' and job.claim_token = %(token)s::uuid

-- fragment: arguments
-- History does not keep what is larger than anything of ours, of arguments only how many
-- bytes they were: to move 300 MB from table to table takes 9 s, and all others wait.
              job.task, job.task_id, job.queue,
              case when octet_length(job.args) <= 67108864 then job.args
                   else '"<' || octet_length(job.args) || ' bytes>"' end as args,
              case when octet_length(job.kwargs) <= 67108864 then job.kwargs
                   else '"<' || octet_length(job.kwargs) || ' bytes>"' end as kwargs,
              case when octet_length(job.body) <= 67108864 then job.body end as body,
              job.content_type,
              job.content_encoding, job.root_id, job.parent_id, job.group_id, job.origin,
              case when octet_length(job.headers) <= 67108864 then job.headers end as headers,
              case when octet_length(job.embed) <= 67108864 then job.embed end as embed,

-- fragment: finish
-- What `ended` holds goes into history.
finished as (
    insert into pgtasks.finished_jobs (
        id, scheduled_at, inserted_at, attempted_at, expires_at, claim_token, worker, state,
        attempt, retries, max_attempts, crashes, lost, group_index, time_limit, soft_time_limit,
        priority, abandoned, ignore_result, task, task_id, queue, args, kwargs, body,
        content_type, content_encoding, root_id, parent_id, group_id, origin, headers, embed,
        status, result, result_body, result_content_type, traceback, children, errors, meta, tags,
        chord, awaits, limits
    )
    select id, scheduled_at, inserted_at, attempted_at, expires_at, claim_token, worker, state,
           attempt, retries, max_attempts, crashes, lost, group_index, time_limit, soft_time_limit,
           priority, abandoned, ignore_result, task, task_id, queue, args, kwargs, body,
           content_type, content_encoding, root_id, parent_id, group_id, origin, headers, embed,
           status, result, result_body, result_content_type, traceback, children, errors, meta, tags,
           chord, awaits, limits
    from ended
    -- What another task has taken the place of did not end: that one goes on under its id.
    where replaced is not true
    -- The same task id may be sent again once it is over, as in Celery: the newer end counts.
    on conflict (task_id) do update set
        id = excluded.id, scheduled_at = excluded.scheduled_at, inserted_at = excluded.inserted_at,
        attempted_at = excluded.attempted_at, finished_at = excluded.finished_at,
        expires_at = excluded.expires_at, claim_token = excluded.claim_token,
        worker = excluded.worker, state = excluded.state, attempt = excluded.attempt,
        retries = excluded.retries, max_attempts = excluded.max_attempts,
        crashes = excluded.crashes, lost = excluded.lost, group_index = excluded.group_index,
        time_limit = excluded.time_limit, soft_time_limit = excluded.soft_time_limit,
        priority = excluded.priority, abandoned = excluded.abandoned,
        ignore_result = excluded.ignore_result, task = excluded.task, queue = excluded.queue,
        args = excluded.args, kwargs = excluded.kwargs, body = excluded.body,
        content_type = excluded.content_type, content_encoding = excluded.content_encoding,
        root_id = excluded.root_id, parent_id = excluded.parent_id, group_id = excluded.group_id,
        origin = excluded.origin, headers = excluded.headers, embed = excluded.embed,
        status = excluded.status, result = excluded.result, result_body = excluded.result_body,
        result_content_type = excluded.result_content_type, traceback = excluded.traceback,
        children = excluded.children, errors = excluded.errors, meta = excluded.meta,
        tags = excluded.tags, chord = excluded.chord, awaits = excluded.awaits,
        limits = excluded.limits
),

-- fragment: stillborn
stillborn as (
    -- What would have come next had the job not failed, and has an id that people wait for.
    insert into pgtasks.finished_jobs (
        id, scheduled_at, inserted_at, state, attempt, retries, crashes, lost, priority,
        task, task_id, queue, args, kwargs, content_type, content_encoding, root_id, parent_id,
        group_id, group_index, chord, status, result, result_body, result_content_type,
        traceback, errors, meta, tags
    )
    select nextval(pg_get_serial_sequence('pgtasks.jobs', 'id')), clock_timestamp(),
           clock_timestamp(), 'discarded', 0, 0, 0, 0, 0, document.task, document.task_id,
           coalesce(document.queue, ''), coalesce(document.args, '[]'),
           coalesce(document.kwargs, '{}'), 'application/json', 'utf-8', document.root_id,
           document.parent_id, document.group_id, document.group_index, document.chord,
           document.status, document.result, document.result_body,
           document.result_content_type, document.traceback, '[]', '{}', '{}'
    from json_to_recordset(%(stillborn)s::json) as document (
        follows bigint, task text, task_id text, queue text, args text, kwargs text,
        root_id text, parent_id text, group_id text, group_index integer, chord text, status text,
        result text, result_body bytea, result_content_type text, traceback text
    )
    join ended on ended.id = document.follows
    on conflict (task_id) do nothing
    returning task_id
),

-- fragment: count_down
-- What `ended` holds has left its chords.
counted as (
    update pgtasks.chords as chord
    set remaining = chord.remaining - tally.ends
    from (select ended.chord, count(*)::integer as ends from ended
          where ended.chord is not null group by ended.chord) as tally
    where chord.id = tally.chord
    returning chord.id, chord.remaining
),

-- fragment: release
-- The last member of a chord has ended: what waits for it may run. `counted` holds chords
-- and how many members they have left, `ended` the jobs that are over. What somebody holds
-- stays held, and notes what it may be from now on.
released as (
    update pgtasks.jobs as job
    set state = case when job.held is not null then 'suspended'
                     when job.delay > 0 or (job.delay is null and job.scheduled_at > clock_timestamp())
                     then 'scheduled' else 'available' end::pgtasks.job_state,
        held = case when job.held is null then null
                    when job.delay > 0 or (job.delay is null and job.scheduled_at > clock_timestamp())
                    then 'scheduled' else 'available' end::pgtasks.job_state,
        scheduled_at = case when job.delay > 0 then clock_timestamp() + make_interval(secs => job.delay)
                            else greatest(job.scheduled_at, clock_timestamp()) end,
        expires_at = coalesce(clock_timestamp() + make_interval(secs => job.expires_in), job.expires_at),
        parent_id = coalesce((select ended.task_id from ended where ended.chord = job.awaits limit 1),
                             job.parent_id)
    where job.awaits = any(array(select id from counted where remaining <= 0))
      and job.state = 'suspended'
      and coalesce(job.held, 'suspended') = 'suspended'
    returning job.queue, job.state
),

-- fragment: settle
-- Jobs end or give up their turn.
-- What a job's end leads to commits with it: result, state, retry, the jobs that follow.
-- Rows are locked first and in the order of their ids: a plain update from a list
-- deadlocks even when the list is sorted (25 of 240 tries; this way none, R8).
-- `id = any(…)` is what the index is read by, whatever the statistics say of a table
-- that is empty at one moment and long at the next; the worker's session joins by hash.
-- The fence is the random claim token (R3). An available row that still carries it
-- was rescued and not claimed again: a late result is welcome (R10).
outcome as materialized (
    select *
    from json_to_recordset(%(outcomes)s::json) as document (
        id bigint, claim_token uuid, state pgtasks.job_state, status text,
        result text, result_body bytea, result_content_type text, traceback text, children text,
        kind text, message text, error_traceback text,
        delay float8, eta timestamptz, retried integer, give_back integer, crashed integer,
        abandoned boolean, replaced boolean, queue text, priority smallint,
        args text, kwargs text, body bytea, headers text, embed text
    )
),
held as materialized (
    select outcome.*,
           case when job.awaited then array_append(job.heralds, job.task_id)
                else job.heralds end as heralds
    from outcome
    join pgtasks.jobs as job on job.id = outcome.id
    where job.id = any(%(ids)s::bigint[])
      and job.claim_token = outcome.claim_token
      and job.state in ('executing', 'available')
    order by job.id
    for update of job
),
ended as (
    delete from pgtasks.jobs as job
    using held
    where job.id = any(%(ids)s::bigint[])
      and job.id = held.id
      and held.state in ('completed', 'discarded', 'cancelled')
    returning job.id, job.scheduled_at, job.inserted_at, job.attempted_at, job.expires_at,
              job.claim_token, job.worker, held.state, job.attempt, job.retries, job.max_attempts,
              job.crashes + held.crashed as crashes, job.lost, job.group_index, job.time_limit,
              job.soft_time_limit, job.priority, held.abandoned, job.ignore_result,
-- include: arguments
              held.status, held.result, held.result_body,
              held.result_content_type, held.traceback, held.children,
              case when held.kind is not null
                   then pgtasks.with_error(job.errors, job.attempt, held.kind, held.message,
                                           held.error_traceback, job.worker)
                   when pg_column_size(job.errors) <= 16777216 then job.errors
                   else '[]' end as errors,
              job.meta, job.tags, job.awaited, job.chord, job.awaits, job.limits, held.replaced
),
-- include: finish
continued as (
    update pgtasks.jobs as job
    set state = held.state,
        attempt = greatest(job.attempt - held.give_back, 0),
        retries = job.retries + held.retried,
        crashes = job.crashes + held.crashed,
        scheduled_at = coalesce(clock_timestamp() + make_interval(secs => held.delay),
                                held.eta, job.scheduled_at),
        queue = coalesce(held.queue, job.queue),
        priority = coalesce(held.priority, job.priority),
        args = coalesce(held.args, job.args),
        kwargs = coalesce(held.kwargs, job.kwargs),
        body = coalesce(held.body, job.body),
        headers = coalesce(held.headers, job.headers),
        embed = coalesce(held.embed, job.embed),
        errors = case when held.kind is null then job.errors
                      else pgtasks.with_error(job.errors, job.attempt, held.kind, held.message,
                                              held.error_traceback, job.worker) end,
        -- A snooze, and nothing else, gives the attempt back and is due later.
        meta = case when held.state = 'scheduled' and held.give_back = 1
                    then pgtasks.with_snooze(job.meta) else job.meta end,
        worker = null, claim_token = null, abandoned = false,
        custom_state = null,
        -- Why it is going to run again, as results are kept.
        custom_meta = case when held.state = 'retryable' then held.result end
    from held
    where job.id = any(%(ids)s::bigint[])
      and job.id = held.id
      and held.state in ('available', 'scheduled', 'retryable')
    returning job.queue, job.state
),

-- fragment: tell
-- What that leads to in other rows, and who is told.
-- include: stillborn
tally as (
    select counted.chord, sum(counted.change)::integer as change
    from (select chord, -1 as change from ended
          union all
          select chord, 1 from followed) as counted
    where counted.chord is not null
    group by counted.chord
    having sum(counted.change) <> 0
),
counted as (
    -- One that does not exist is over: its body was cancelled, or did not wait.
    insert into pgtasks.chords as chord (id, remaining)
    select tally.chord, tally.change
    from tally
    where tally.change > 0 or exists (select from pgtasks.chords where chords.id = tally.chord)
    order by tally.chord
    on conflict (id) do update set remaining = chord.remaining + excluded.remaining
    returning id, remaining
),
-- include: release
fresh as (
    select queue from continued where state = 'available'
    union
    select queue from followed where state = 'available' or parked = '?'
    union
    select queue from released where state = 'available'
),
told as (
    select id, null as queue from held
    union all
    select null, pg_notify('pgtasks.results', task_id)::text from ended where awaited
    union all
    select null, pg_notify('pgtasks.results', task_id)::text from stillborn
    union all
    -- Whoever settles them may serve these queues itself, and needs no notification.
    select null, queue from fresh
    union all
    select null, pg_notify('pgtasks.jobs', fresh.queue)::text from fresh
    where exists (select from pgtasks.workers where asleep and fresh.queue = any(queues))
)

-- fragment: heirs
-- Whoever waits for what comes later has left its id with what came before.
        , coalesce(document.task_id = any(held.heralds), false), held.heralds

-- name: ack
-- What a job's end leads to commits with it: result, state, retry, the jobs that follow.
with
-- include: settle
followed as (
    insert into pgtasks.jobs (
        -- include: columns
        , awaited, heralds
    )
    select
        -- include: values
        ,
        -- include: birth
        -- include: heirs
    from json_to_recordset(%(follow_ups)s::json) as document (
        follows bigint,
        -- include: document
    )
    join held on held.id = document.follows
    -- Counted, so that all of them are gone before: what replaces a job may have its id.
    where (select count(*) from ended) >= 0
    on conflict do nothing
    returning queue, state, chord, parked
),
-- include: tell
select id, queue from told

-- name: ack_and_claim
-- The same, and what follows begins at once with whoever settles: a chain's next link
-- costs one statement, one commit and one thread less (a third of its time).
with
-- include: settle
followed as (
    insert into pgtasks.jobs as job (
        -- include: columns
        , awaited, heralds, attempt, attempted_at, worker, claim_token, rerun
    )
    select
        -- include: values
        , case when mine.own then 'executing' else mine.birth end
        -- include: heirs
        ,
        case when mine.own then 1 else 0 end,
        case when mine.own then clock_timestamp() end,
        case when mine.own then %(worker)s::uuid end,
        case when mine.own then %(token)s::uuid end,
        mine.own and (coalesce(document.max_attempts > 1, false)
                      or document.task = any(%(rerunnable)s::text[]))
    from json_to_recordset(%(follow_ups)s::json) as document (
        follows bigint,
        -- include: document
    )
    join held on held.id = document.follows
    cross join lateral (select
        -- include: birth
        as birth offset 0
    ) as born
    cross join lateral (
        select born.birth,
               born.birth = 'available'
               and coalesce(document.queue, 'celery') = any(%(queues)s::text[])
               and (select
                    -- include: open
                    from (select coalesce(document.queue, 'celery')) as wanted (queue))
               -- One that was declared dead claims nothing (R16).
               and exists (select from pgtasks.workers
                           where workers.id = %(worker)s::uuid
                             and dead_at is null and stopped_at is null) as own
        offset 0
    ) as mine
    where (select count(*) from ended) >= 0
    on conflict do nothing
    returning job.*
),
-- include: tell
select told.id, told.queue,
-- include: claimed
from told
full join (select * from followed where state = 'executing') as job on false

-- name: settled
-- Refused outcomes whose job is over under the very same claim: the acknowledgement
-- had been written and only its answer was lost (R9).
select id
from pgtasks.finished_jobs
where task_id = any(%(task_ids)s::text[]) and claim_token = any(%(tokens)s::uuid[]) and not abandoned

-- name: salvage
-- A worker was given up, its job discarded, and then it finished after all: the truth
-- replaces the verdict while nobody has run the job again (R10), and what that leads to
-- is inserted. Once, for a verdict is replaced once. Most of it has an end already, as
-- failed without having been run; what has another one was sent again by hand meanwhile.
with replaced as (
    -- Another task goes on under its id; it did not end.
    delete from pgtasks.finished_jobs as job
    where job.task_id = %(task_id)s::text
      and job.claim_token = %(token)s::uuid
      and job.abandoned
      and %(replaced)s::boolean
    returning job.id
),
ended as (
    update pgtasks.finished_jobs as job
    set state = %(state)s::pgtasks.job_state,
        status = %(status)s::text,
        result = %(result)s::text,
        result_body = %(result_body)s::bytea,
        result_content_type = %(result_content_type)s::text,
        traceback = %(traceback)s::text,
        children = %(children)s::text,
        finished_at = clock_timestamp(),
        abandoned = false
    where job.task_id = %(task_id)s::text
      and job.claim_token = %(token)s::uuid
      and job.abandoned
      and not %(replaced)s::boolean
    returning job.id
),
salvaged as (
    select id from replaced
    union all
    select id from ended
),
followed as (
    insert into pgtasks.jobs (
        -- include: columns
    )
    select
        -- include: values
        ,
        -- include: birth
    from json_to_recordset(%(follow_ups)s::json) as document (
        follows bigint,
        -- include: document
    )
    cross join salvaged
    where document.task_id = %(task_id)s::text
       or not exists (select from pgtasks.finished_jobs as over
                      where over.task_id = document.task_id
                        and (over.attempt > 0 or over.state <> 'discarded')
                      offset 0)
    on conflict do nothing
    returning queue, state, chord, parked
),
opened as (
    insert into pgtasks.chords as chord (id, remaining)
    select followed.chord, count(*)
    from followed
    where followed.chord is not null
    group by followed.chord
    order by followed.chord
    on conflict (id) do update set remaining = chord.remaining + excluded.remaining
),
fresh as (
    select distinct queue from followed where state = 'available' or parked = '?'
)
select id, null as woken from salvaged
union all
select null, pg_notify('pgtasks.jobs', fresh.queue)::text
from fresh
where exists (select from pgtasks.workers where asleep and fresh.queue = any(queues))

-- name: stage
-- Due jobs become available. The answer tells how many, and how long until the next
-- one, so that the stager sleeps until then and not until the next whole second.
-- The clock is asked in a subquery: a volatile function cannot bound an index scan, and
-- each look would walk through every job that is due some day (25,000 of them: 12 ms).
with due as materialized (
    select id
    from pgtasks.jobs
    where state in ('scheduled', 'retryable') and scheduled_at <= (select clock_timestamp())
    order by scheduled_at
    limit %(limit)s
    for update skip locked
),
staged as (
    update pgtasks.jobs as job
    set state = case when job.parked is null then 'available' else 'suspended' end::pgtasks.job_state,
        parked = case when job.parked is not null then '?' end
    where job.id = any(array(select id from due))
    returning job.queue
)
select null::text as queue,
       (select extract(epoch from min(scheduled_at) - clock_timestamp())::float8
        from pgtasks.jobs
        where state in ('scheduled', 'retryable') and scheduled_at > (select clock_timestamp())
          and scheduled_at < 'infinity') as wait,
       0::bigint as staged, null::text as woken
union all
select queue, null, count(*),
       case when exists (select from pgtasks.workers
                         where asleep and staged.queue = any(queues)
                           and workers.id <> %(worker)s::uuid)
            then pg_notify('pgtasks.jobs', staged.queue)::text end
from staged
group by queue

-- name: progress
update pgtasks.jobs
set custom_state = %(state)s::text, custom_meta = %(meta)s::text
where task_id = %(task_id)s::text
returning id

-- name: purge
-- Waiting jobs only, in bounded batches; what runs, runs on. The body of a chord whose
-- last members are purged is released, to fail by what is missing.
with waiting as materialized (
    select id
    from pgtasks.jobs
    where queue = any(%(queues)s::text[]) and state in ('available', 'scheduled', 'retryable', 'suspended')
    order by id
    limit %(limit)s
    for update skip locked
),
ended as (
    delete from pgtasks.jobs as job
    where job.id = any(array(select id from waiting))
    returning job.id, job.task_id, job.chord
),
-- include: count_down
-- include: release
woken as (
    select pg_notify('pgtasks.jobs', fresh.queue)::text as notified
    from (select distinct queue from released where state = 'available') as fresh
)
select id, null as woken from ended
union all
select null, notified from woken

-- name: recount
-- Chords that no job belongs to any more, and what waits for them: rows were deleted by
-- hand, or their count went astray. Chords that are over. And jobs that wait for a chord
-- that never was, since each of its members had been sent before.
with gone as (
    delete from pgtasks.chords as chord
    where chord.inserted_at < (select clock_timestamp() - make_interval(secs => %(age)s))
      and not exists (select from pgtasks.jobs as member where member.chord = chord.id offset 0)
    returning chord.id
),
counted as (
    select id, 0 as remaining from gone
    union all
    select body.awaits, 0
    from pgtasks.jobs as body
    where body.awaits is not null
      and body.state = 'suspended'
      and coalesce(body.held, 'suspended') = 'suspended'
      and body.inserted_at < (select clock_timestamp() - make_interval(secs => %(age)s))
      and not exists (select from pgtasks.chords as chord where chord.id = body.awaits offset 0)
),
ended as (
    select null::text as task_id, null::text as chord where false
),
-- include: release
woken as (
    select pg_notify('pgtasks.jobs', fresh.queue)::text as notified
    from (select distinct queue from released where state = 'available') as fresh
)
select queue, null as woken from released
union all
select null, notified from woken

-- name: prune
-- For who has no leader at hand: `celery.backend_cleanup`. See pruning.sql for the plugin. The
-- clock is asked in a subquery, as above.
with old as materialized (
    select task_id
    from pgtasks.finished_jobs
    where finished_at < (select clock_timestamp() - make_interval(secs => %(age)s))
    limit %(limit)s
    for update skip locked
)
delete from pgtasks.finished_jobs as job
where job.task_id = any(array(select task_id from old))
returning job.id

-- name: count
select queue, state::text, count(*),
       -- Not of the difference: before 17 there is none of infinite times.
       extract(epoch from clock_timestamp())::float8 - extract(epoch from min(scheduled_at))::float8
from pgtasks.jobs
group by queue, state
order by queue, state
