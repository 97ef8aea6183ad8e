-- name: tell
-- Nothing is written, and nobody woken, unless somebody listens. Commits that notify wait
-- for each other, but for no other commits, and this one waits for no disk. In somebody
-- else's transaction, which may stay open, it does not ring: those who listen look anyway.
with told as (
    insert into pgtasks.events (bundle)
    select %(bundle)s::text
    where exists (
        select from pgtasks.event_receivers where expires_at > clock_timestamp()
    )
    returning id
)
select case when %(rings)s::boolean then pg_notify('pgtasks.events', '')::text end
from told

-- name: listened
select exists (
    select from pgtasks.event_receivers where expires_at > clock_timestamp()
)

-- name: join
-- The first time behind the last number that anybody has taken, later where it was: also
-- after a crash of the server, which has emptied the table.
with joined as (
    insert into pgtasks.event_receivers (id, expires_at, position, name)
    select %(receiver)s::uuid,
           clock_timestamp() + make_interval(secs => %(lifetime)s::float8),
           coalesce(
               %(position)s::bigint,
               case when is_called then last_value else last_value - 1 end
           ),
           %(name)s::text
    from pgtasks.event_ids
    on conflict (id) do update
    set expires_at = excluded.expires_at,
        position = excluded.position
    returning position
)
select position,
       case when %(word)s::text is not null
            then pg_notify('pgtasks.event_receivers', %(word)s::text)::text end
from joined

-- name: wake
select pg_notify('pgtasks.event_receivers', %(word)s::text)::text

-- name: leave
delete from pgtasks.event_receivers where id = %(receiver)s::uuid returning id

-- name: read
-- Numbers are taken in another order than transactions commit, so a reader asks again for
-- those that it has seen left out.
select id, extract(epoch from clock_timestamp() - inserted_at)::float8, bundle
from (
    select id, inserted_at, bundle
    from pgtasks.events
    where id = any(%(missed)s::bigint[])
    union all
    select id, inserted_at, bundle
    from pgtasks.events
    where id > %(mark)s::bigint
) as unread
order by id
limit %(limit)s

-- name: prune
-- What all who listen have read, what is too old, and who does not listen any more.
with gone as (
    delete from pgtasks.event_receivers
    where expires_at < clock_timestamp() - make_interval(secs => %(age)s::float8)
),
everybody as materialized (
    select min(position) as position
    from pgtasks.event_receivers
    where expires_at > clock_timestamp()
),
unwanted as materialized (
    select event.id
    from pgtasks.events as event
    where event.id <= (select position from everybody)
       or event.inserted_at < clock_timestamp() - make_interval(secs => %(age)s::float8)
    order by event.id
    limit 1000
    for update skip locked
)
delete from pgtasks.events as event
using unwanted
where event.id = unwanted.id
returning event.id
