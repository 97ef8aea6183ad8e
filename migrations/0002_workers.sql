-- Workers: who claims, until when it is believed alive, and whether it is asleep.
--
-- No foreign key leads here from jobs: the row of a worker may go before its jobs
-- are rescued, and share locks on a heartbeat row would make multixacts (R15).

create table pgtasks.workers (
    id              uuid primary key,
    name            text not null,
    hostname        text not null,
    pid             integer not null,
    -- Which kernel and process namespace pid belongs to, and when the process began:
    -- a reused pid is not the same process (R18).
    machine         text not null,
    process_started double precision not null,
    -- Where the worker notes which jobs it has begun, readable on its own machine.
    begun_file      text,
    started_at      timestamptz not null default clock_timestamp(),
    beat            bigint not null default 0,
    lease           double precision not null,
    expires_at      timestamptz not null,
    dead_at         timestamptz,
    stopped_at      timestamptz,
    asleep          boolean not null default false,
    queues          text[] not null,
    pool            text not null,
    concurrency     integer not null,
    version         text not null,
    info            jsonb not null default '{}'
) with (fillfactor = 50, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0);

comment on table pgtasks.workers is 'One row for each start of a worker (an incarnation).';
comment on column pgtasks.workers.asleep is 'It waits for a notification: an insert on its queues must send one.';
