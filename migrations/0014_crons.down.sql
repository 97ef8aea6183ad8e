drop table pgtasks.crons;

drop table pgtasks.cron_ticks;

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
