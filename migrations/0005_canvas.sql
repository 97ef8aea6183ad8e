--! needs 14
-- Work-flows: chords that count their members, and jobs that wait for a chord.
--
-- The body of a chord is a row from the beginning, suspended until the last member of the
-- header has ended. How many have not is a count in the chord's row, kept by the very
-- statements that insert and end jobs: `remaining` is the number of rows in jobs with this
-- chord. A row of its own, since only a row can be locked: two members that end at the same
-- moment would each see the other one, and nobody would release the body.

create table pgtasks.chords (
    id              text primary key,
    remaining       integer not null,
    inserted_at     timestamptz not null default clock_timestamp()
);

comment on table pgtasks.chords is 'Chords under way: how many of their members have not ended.';
comment on column pgtasks.chords.id is 'The group id of the members.';
comment on column pgtasks.chords.remaining is 'The number of rows in jobs with this chord.';

create table pgtasks.saved_groups (
    id              text primary key,
    members         text not null,
    saved_at        timestamptz not null default clock_timestamp()
);

comment on table pgtasks.saved_groups is 'Results of groups, as GroupResult.save() kept them.';
comment on column pgtasks.saved_groups.members is 'JSON: the result and those of its members, as a tuple.';

alter table pgtasks.jobs
    -- The chord in which the end of this job counts, or the end of what follows it.
    add column chord text,
    -- The chord for whose members this suspended job waits.
    add column awaits text,
    -- Of a suspended job, in seconds after its release: when it is due, when it expires.
    add column delay double precision,
    add column expires_in double precision;

create index jobs_chord on pgtasks.jobs (chord) where chord is not null;
create index jobs_awaits on pgtasks.jobs (awaits) where awaits is not null;

alter table pgtasks.finished_jobs add column chord text;

-- The results of a chord's members are its body's arguments.
create index finished_jobs_members on pgtasks.finished_jobs (chord, group_index)
    where chord is not null;

create or replace view pgtasks.all_jobs as
    select id, task_id, task, queue, state, priority, attempt, retries, max_attempts,
           crashes, lost, inserted_at, scheduled_at, attempted_at,
           null::timestamptz as finished_at, expires_at, worker,
           pgtasks.try_json(args) as args, pgtasks.try_json(kwargs) as kwargs,
           custom_state as status, pgtasks.try_json(custom_meta) as result,
           null::text as traceback, errors, meta, tags, root_id, parent_id, group_id, origin,
           group_index, awaits
    from pgtasks.jobs
    union all
    select id, task_id, task, queue, state, priority, attempt, retries, max_attempts,
           crashes, lost, inserted_at, scheduled_at, attempted_at,
           finished_at, expires_at, worker,
           pgtasks.try_json(args), pgtasks.try_json(kwargs),
           status, pgtasks.try_json(result),
           traceback, errors, meta, tags, root_id, parent_id, group_id, origin,
           group_index, null
    from pgtasks.finished_jobs;

comment on column pgtasks.all_jobs.group_id is 'The group or chord that it is a member of.';
comment on column pgtasks.all_jobs.group_index is 'Its place in that group.';
comment on column pgtasks.all_jobs.awaits is 'While suspended: the group for whose end it waits.';
