--! needs 14
-- Queues that are paused and scaled, and limits that hold for the whole fleet.
--
-- What people said about a queue is a row, so that a worker that starts tomorrow obeys it.
--
-- A limit is a rule (`limits`); what it is kept for is a gate (`gates`): one for each value
-- of its key, or a single one. A job with limits goes through all of its gates when it is
-- claimed, and the claim notes its places (`places`) and counts them in the gates, which it
-- has locked. Jobs that found a gate full wait in a line of their own, where no claim walks
-- over them: `parked` is the gate's name.

create table pgtasks.queues (
    queue           text not null,
    node            text not null default '',
    -- Null says nothing.
    paused          boolean,
    -- A pause of many queues or nodes does not hold for these: a queue's name, a node's
    -- behind U+001F, or both.
    but             text[] not null default '{}',
    paused_at       timestamptz,
    paused_by       text,
    served          boolean,
    worker_limit    integer check (worker_limit >= 0),
    -- It has a row in limits: claims go through its gate.
    limited         boolean not null default false,
    primary key (queue, node)
);

comment on table pgtasks.queues is 'What people have said about queues.';
comment on column pgtasks.queues.queue is 'Name of the queue; * is all of them.';
comment on column pgtasks.queues.node is 'Name of the worker it is said to; empty: the fleet.';
comment on column pgtasks.queues.paused is 'No job of it is claimed.';
comment on column pgtasks.queues.but is 'For what of it the pause does not hold.';
comment on column pgtasks.queues.served is 'Workers serve it beside what they were started with, or no longer.';
comment on column pgtasks.queues.worker_limit is 'How many of its jobs may run in one worker at a time.';
comment on column pgtasks.queues.limited is 'There is a limit for the whole fleet, queue:<name> in limits.';

create table pgtasks.limits (
    name            text primary key,
    concurrency     integer check (concurrency >= 0),
    rate            integer check (rate > 0),
    period          double precision check (period > 0),
    -- Said at run time: what the code says does not replace it.
    by_hand         boolean not null default false,
    check ((rate is null) = (period is null))
);

comment on table pgtasks.limits is 'Limits that hold for the whole fleet.';
comment on column pgtasks.limits.name is 'concurrency:<task>, rate:<task> or queue:<queue>.';
comment on column pgtasks.limits.concurrency is 'Jobs at a time, for each key.';
comment on column pgtasks.limits.rate is 'Jobs that may start within any period, for each key.';
comment on column pgtasks.limits.period is 'In seconds.';

create table pgtasks.gates (
    -- The limit's name, and behind the sign U+001F the key.
    name            text primary key,
    limit_name      text not null,
    running         integer not null default 0,
    -- Starts within the last period: when, in seconds since the epoch, and how many.
    spent_at        double precision[] not null default '{}',
    spent           integer[] not null default '{}',
    -- Where jobs wait in its line, or have waited.
    queues          text[] not null default '{}',
    -- When its rate lets somebody through again.
    free_at         timestamptz,
    used_at         timestamptz not null default clock_timestamp()
) with (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

comment on table pgtasks.gates is 'Limits in use, one row for each key: what goes through now.';
comment on column pgtasks.gates.running is 'The number of rows in places with this gate.';

create table pgtasks.places (
    job_id          bigint not null,
    gate            text not null,
    -- Of the claim: a place is free when the job is no longer held under it.
    token           uuid not null,
    primary key (job_id, gate, token)
) with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

comment on table pgtasks.places is 'Which running jobs hold a place behind which gate.';

alter table pgtasks.jobs
    -- Names of the gates that it must go through.
    add column limits text[],
    -- Null: it has no limits. Else '?' for a job that may be tried, the name of the gate
    -- in whose line it waits, and '' while it does not wait for a gate.
    add column parked text;

create index jobs_trying on pgtasks.jobs (queue, priority, scheduled_at, id)
    where parked is not null and (state = 'available' or (state = 'suspended' and parked = '?'));
create index jobs_parked on pgtasks.jobs (parked, queue, priority, scheduled_at, id)
    where state = 'suspended' and length(parked) > 1;
