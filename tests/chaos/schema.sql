-- The witnesses of a chaos run: what the tasks say, and every change of a job's row.

create table public.ledger (
    seq     bigint generated always as identity,
    task_id text not null,
    run     uuid not null,
    event   text not null,
    pid     int not null,
    at      timestamptz not null default clock_timestamp(),
    primary key (run, event)
);
create index ledger_task on public.ledger (task_id);

create table public.history (
    seq        bigint generated always as identity,
    id         bigint not null,
    place      text not null,
    old_state  text,
    new_state  text,
    old_token  uuid,
    new_token  uuid,
    old_worker uuid,
    lost       int,
    abandoned  boolean,
    at         timestamptz not null default clock_timestamp()
);
create index history_job on public.history (id);

create function public.witness() returns trigger language plpgsql as $$
begin
    insert into public.history (id, place, old_state, new_state, old_token, new_token, old_worker, lost, abandoned)
    values (
        coalesce(new.id, old.id), tg_table_name, old.state, new.state, old.claim_token,
        new.claim_token, old.worker, new.lost - coalesce(old.lost, 0), old.abandoned
    );
    return null;
end
$$;

create trigger witness after insert or update or delete on pgtasks.jobs
    for each row execute function public.witness();
create trigger witness after insert or update or delete on pgtasks.finished_jobs
    for each row execute function public.witness();
