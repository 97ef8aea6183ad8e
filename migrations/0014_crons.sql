--! needs 14
-- Entries of the schedules: who sends which, since when, and what was said about it.
--
-- An entry of a program's beat_schedule has its row from the first leader that has it in its
-- code; what it does stands there, and here what has become of it. An entry that was made by
-- app.crons.add() stands here alone.

create table pgtasks.crons (
    id              bigint generated always as identity primary key,
    app             text not null default '',
    name            text not null,
    source          text not null check (source in ('code', 'table')),
    task            text not null default '',
    schedule        text not null default '',
    timezone        text,
    by_hours        boolean not null default true,
    args            text not null default '[]',
    kwargs          text not null default '{}',
    options         text not null default '{}',
    catch_up        text not null default 'last' check (catch_up in ('skip', 'last', 'all')),
    overlap         text not null default 'allow' check (overlap in ('allow', 'skip', 'queue')),
    jitter          float8 not null default 0 check (jitter >= 0),
    deadline        float8 check (deadline > 0),
    identity        text,
    office          text,
    last_tick       timestamptz not null default clock_timestamp(),
    last_task_id    text,
    runs            bigint not null default 0,
    error           text,
    paused_at       timestamptz,
    paused_by       text,
    revision        bigint not null default 1,
    inserted_at     timestamptz not null default clock_timestamp(),
    updated_at      timestamptz not null default clock_timestamp(),
    unique (app, name)
) with (fillfactor = 70, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.05);

comment on table pgtasks.crons is 'Periodic tasks: entries of programs and those made by hand, and what has become of them.';
comment on column pgtasks.crons.app is 'Name of the application that sends it.';
comment on column pgtasks.crons.name is 'Name of the entry.';
comment on column pgtasks.crons.source is 'code: it stands in a program; table: it stands here.';
comment on column pgtasks.crons.schedule is 'When: of entries in the table a line of cron, or @every and seconds; of others for people.';
comment on column pgtasks.crons.by_hours is 'The schedule tells hours, and not how long after the last run.';
comment on column pgtasks.crons.identity is 'What an entry of a program does and when: it is known by it when its name changes.';
comment on column pgtasks.crons.office is 'Whose leader sends it: one of pgtasks.leaders; null for entries in the table.';
comment on column pgtasks.crons.last_tick is 'The last moment that was dealt with; the next is counted from here.';
comment on column pgtasks.crons.last_task_id is 'Task id of the job that was sent last.';
comment on column pgtasks.crons.runs is 'How many ticks were sent.';
comment on column pgtasks.crons.error is 'Why it could not be sent the last time; null if it could.';
comment on column pgtasks.crons.paused_at is 'Since when it is not sent; null if it is.';
comment on column pgtasks.crons.revision is 'Counts changes by hand and by deploys, for leaders to notice.';

-- Nobody has written here before. A job is known by its task id, which it has before it is
-- inserted: the tick and its job commit together.
drop table pgtasks.cron_ticks;

create table pgtasks.cron_ticks (
    entry           text not null,
    -- When it was due, by the schedule, not when it was sent.
    tick            timestamptz not null,
    task_id         text,
    inserted_at     timestamptz not null default clock_timestamp(),
    primary key (entry, tick)
);

-- By which the old ones are found, among those of entries that are sent every second.
create index cron_ticks_tick on pgtasks.cron_ticks (tick);

comment on table pgtasks.cron_ticks is 'Periodic tasks: each entry once for each moment it was due.';
comment on column pgtasks.cron_ticks.entry is 'Name of the entry, behind that of the application if it has one.';
comment on column pgtasks.cron_ticks.task_id is 'Task id of the job that was sent for it, which may be pruned by now; null if none was.';
