-- Unique jobs: who has a key, whose turn it is, and who waits for a turn.
--
-- Keys stand beside the jobs, not in them. An insert takes a key; whether its holder still
-- keeps others out is read from the state of the holder's own row when the next insert
-- asks. So no claim, no acknowledgement and no rescue knows of keys: none becomes dearer,
-- waits for somebody's open transaction, or can violate anything (R5).

create table pgtasks.unique_keys (
    key             text primary key,
    task_id         text not null,
    -- The holder before, if its key was free: whoever takes it over must have seen the one
    -- that has it now, or somebody else was faster.
    follows         text,
    -- Until when the holder may keep others out after its end. Null: not at all.
    until           timestamptz,
    taken_at        timestamptz not null default clock_timestamp()
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

comment on table pgtasks.unique_keys is 'Unique jobs: who took each key last.';
comment on column pgtasks.unique_keys.key is 'Hash of what makes a job the same as another.';
comment on column pgtasks.unique_keys.task_id is
    'The job that took it; its state says whether it keeps others out.';

create table pgtasks.turns (
    key             text primary key,
    job_id          bigint not null,
    -- The holder has its turn as long as its row executes under this claim (R3).
    claim_token     uuid not null,
    follows         uuid
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

comment on table pgtasks.turns is 'Jobs of which one runs at a time: which one does.';

create table pgtasks.parked_jobs (
    key             text not null,
    priority        smallint not null,
    job_id          bigint not null,
    primary key (key, priority, job_id)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

comment on table pgtasks.parked_jobs is 'Jobs of which one runs at a time: who waits for a turn.';

-- The column tells people which key a job was sent with. Two may have the same: the period
-- of one is over, or it was retried by hand.
drop index pgtasks.jobs_unique;
