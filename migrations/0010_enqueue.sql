--! needs 14
-- Jobs from SQL: for triggers, for psql, for programs in other languages.
--
-- The checks are those of `apply_async`, and so is the way in which workers are woken where
-- a job is inserted in somebody's own transaction. It runs with the rights of whoever owns
-- the tables, so that a role needs no more than the right to call it; what it calls stands in
-- pg_catalog, whatever the caller's search_path says.
create function pgtasks.enqueue(
    task            text,
    args            jsonb default '[]',
    kwargs          jsonb default '{}',
    queue           text default 'celery',
    priority        integer default 0,
    countdown       double precision default null,
    eta             timestamptz default null,
    expires         timestamptz default null,
    task_id         text default null,
    max_attempts    integer default null,
    meta            jsonb default '{}',
    tags            text[] default '{}',
    headers         jsonb default null
) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- What is null has not been said.
    given_args jsonb := coalesce(args, '[]');
    given_kwargs jsonb := coalesce(kwargs, '{}');
    given_meta jsonb := coalesce(meta, '{}');
    given_tags text[] := coalesce(tags, '{}');
    given_queue text := coalesce(queue, 'celery');
    given_priority integer := coalesce(priority, 0);
    given_id text := nullif(task_id, '');
    own_headers jsonb;
    due timestamptz := clock_timestamp();
    wrong text;
    remedy text;
begin
    if coalesce(task, '') = '' then
        wrong := 'A task needs a name, and ' || coalesce(quote_literal(task), 'null') || ' is none.';
        remedy := 'Its name is that of module and function, or what @app.task(name=…) says: proj.tasks.send.';
    elsif octet_length(task) > 255 then
        wrong := format('The name of a task may take 255 bytes at most, and %s… takes %s.', left(task, 60), octet_length(task));
    elsif octet_length(given_id) > 255 then
        wrong := format('A task_id may take 255 bytes at most, and %s… takes %s.', left(given_id, 60), octet_length(given_id));
    elsif octet_length(given_queue) > 128 then
        wrong := format('The name of a queue may take 128 bytes at most, and %s… takes %s.', left(given_queue, 60), octet_length(given_queue));
    elsif btrim(given_queue, E' \t\n\r\f\v') = '' then
        wrong := format('queue = %L: the name of a queue must not be blank.', given_queue);
    elsif jsonb_typeof(given_args) <> 'array' then
        wrong := format('args must be a JSON array, not %s: %s', jsonb_typeof(given_args), left(given_args::text, 60));
        remedy := 'Write jsonb_build_array(42), or ''[42]''.';
    elsif jsonb_typeof(given_kwargs) <> 'object' then
        wrong := format('kwargs must be a JSON object, not %s: %s', jsonb_typeof(given_kwargs), left(given_kwargs::text, 60));
        remedy := 'Write jsonb_build_object(''id'', 42), or ''{"id": 42}''.';
    elsif octet_length(given_args::text) + octet_length(given_kwargs::text) > 16777216 then
        wrong := format('A call of %s takes %s bytes, more than 16 MB.', task, octet_length(given_args::text) + octet_length(given_kwargs::text));
        remedy := 'Put the data where the task can read it, and send where that is.';
    elsif given_priority not between -32767 and 32767 then
        wrong := format('priority = %s is out of range.', given_priority);
        remedy := 'Use 0 to 9; 0 runs first.';
    elsif countdown in ('NaN', 'Infinity', '-Infinity') then
        wrong := format('countdown = %s: it must be a finite number of seconds.', countdown);
    elsif abs(countdown) > 250000000000 or countdown / 31556952 + extract(year from due)::float8 > 9998 then
        wrong := format('countdown = %s is out of range: it leads to a year beyond 9998.', countdown);
        remedy := 'It is in seconds, not in milliseconds.';
    elsif not isfinite(eta) or extract(year from eta) not between 2 and 9998 then
        wrong := format('eta = %s is out of range: years 2 to 9998 can be used.', eta);
    elsif not isfinite(expires) or extract(year from expires) not between 2 and 9998 then
        wrong := format('expires = %s is out of range: years 2 to 9998 can be used.', expires);
    elsif max_attempts < 1 then
        wrong := format('max_attempts = %s is out of range: it must be 1 or more.', max_attempts);
    elsif jsonb_typeof(given_meta) <> 'object' then
        wrong := format('meta must be a JSON object, not %s: %s', jsonb_typeof(given_meta), left(given_meta::text, 60));
    elsif array_position(given_tags, null) is not null then
        wrong := format('tags = %L: they must be texts, not null.', given_tags);
    elsif jsonb_typeof(headers) not in ('object', 'null') then
        wrong := format('headers must be a JSON object, not %s: %s', jsonb_typeof(headers), left(headers::text, 60));
    end if;
    if wrong is not null then
        raise exception using errcode = 'invalid_parameter_value', message = wrong,
            hint = coalesce(remedy, 'See the page "Enqueue from SQL" of the documentation of pgtasks.');
    end if;

    if given_priority not between 0 and 255 then
        raise warning 'priority = % is out of range and becomes %: use 0 to 9.',
            given_priority, greatest(0, least(255, given_priority));
        given_priority := greatest(0, least(255, given_priority));
    end if;
    if coalesce(countdown, 0) <> 0 then
        due := due + make_interval(secs => greatest(countdown, 0));
    elsif eta is not null then
        due := eta;
    end if;
    if given_id is null then
        -- As ours are: version 7, which begins with the time, so that an index on them grows
        -- at its end.
        given_id := encode(
            set_bit(set_bit(
                overlay(uuid_send(gen_random_uuid())
                        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                        from 1 for 6),
                52, 1), 53, 1), 'hex')::uuid::text;
    end if;
    if jsonb_typeof(headers) = 'object' then
        -- Those that are Celery's own say nothing here.
        own_headers := headers - array[
            'lang', 'task', 'id', 'shadow', 'eta', 'expires', 'group', 'group_index', 'retries',
            'timelimit', 'root_id', 'parent_id', 'argsrepr', 'kwargsrepr', 'origin',
            'ignore_result', 'replaced_task_nesting', 'stamped_headers', 'stamps'];
        own_headers := case when own_headers <> '{}' then jsonb_build_object('headers', own_headers) end;
    end if;

    insert into pgtasks.jobs (
        task, task_id, queue, priority, args, kwargs, scheduled_at, expires_at, max_attempts,
        meta, tags, headers, origin, state
    )
    values (
        enqueue.task, given_id, given_queue, given_priority::smallint, given_args::text, given_kwargs::text,
        due, enqueue.expires, enqueue.max_attempts, given_meta, given_tags, own_headers::text,
        'sql' || pg_backend_pid() || '@' || session_user,
        (case when due > clock_timestamp() then 'scheduled' else 'available' end)::pgtasks.job_state
    )
    on conflict do nothing;

    -- Whoever sleeps is woken by the commit, however late that comes. Queue '' means that a
    -- job is due in a moment.
    if found and due <= clock_timestamp() then
        perform pg_notify('pgtasks.jobs', given_queue);
    elsif found and due < clock_timestamp() + interval '5 seconds' then
        perform pg_notify('pgtasks.jobs', '');
    end if;
    return given_id;
end
$$;
comment on function pgtasks.enqueue is
    'Inserts a job and returns its task_id; a task_id that an unfinished job has already is left to that one.';
-- Whoever may call it may have any task run with any arguments.
revoke all on function pgtasks.enqueue from public;
