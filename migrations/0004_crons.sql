--! needs 14
-- Ticks of periodic tasks: which entry was sent for which moment.
--
-- Beat inserts the tick and its job in one statement, so that a tick is sent once for the
-- whole fleet, however many beats run (R23). There are as many rows as sent ticks; who
-- prunes finished jobs prunes these.

create table pgtasks.cron_ticks (
    entry           text not null,
    -- When it was due, by the schedule, not when it was sent.
    tick            timestamptz not null,
    job_id          bigint,
    inserted_at     timestamptz not null default clock_timestamp(),
    primary key (entry, tick)
);

comment on table pgtasks.cron_ticks is 'Periodic tasks: each entry once for each moment it was due.';
comment on column pgtasks.cron_ticks.entry is 'Name of the entry in the schedule.';
comment on column pgtasks.cron_ticks.job_id is 'The job that was inserted for it; it may be pruned by now.';
