-- fragment: fence
-- First in everything that only a leader may do: the renewal of its term, in the same
-- statement (R21). It returns nothing where the term is over, be it that the leader was
-- stopped or cut off meanwhile; what follows it then does nothing. The lock on the row makes
-- a successor wait for the end of the statement. A term whose time is over and that nobody
-- has followed goes on. The holder counts as well: a failover may repeat a term.
leader as materialized (
    update pgtasks.leaders
    set expires_at = greatest(expires_at, clock_timestamp() + make_interval(secs => %(lease)s::float8))
    where office = %(office)s::text and term = %(term)s::bigint and holder = %(holder)s::uuid
    returning term
)

-- name: stand
-- Be elected where nobody leads. Looked for before it is tried: an upsert that changes
-- nothing locks the row all the same, and writes that down.
with elected as (
    insert into pgtasks.leaders as leader (office, term, holder, node, expires_at)
    select %(office)s::text, 1, %(holder)s::uuid, %(node)s::text,
           clock_timestamp() + make_interval(secs => %(lease)s::float8)
    where not exists (select from pgtasks.leaders
                      where office = %(office)s::text and expires_at > clock_timestamp())
    on conflict (office) do update
    set term = leader.term + 1, holder = excluded.holder, node = excluded.node,
        since = clock_timestamp(), expires_at = excluded.expires_at
    where leader.expires_at <= clock_timestamp()
    returning term, node, expires_at, true as leads
),
sitting as (
    select term, node, expires_at, false as leads
    from pgtasks.leaders
    where office = %(office)s::text and not exists (select from elected)
)
select term, node, extract(epoch from expires_at)::float8 - extract(epoch from clock_timestamp())::float8, leads
from (select * from elected union all select * from sitting) as answer

-- name: renew
with
-- include: fence
select term from leader

-- name: resign
-- Its time is over now, and whoever waits for it is told. Nobody holds it any more: else what
-- the former leader has still under way would prolong it.
with gone as (
    update pgtasks.leaders
    set expires_at = least(expires_at, clock_timestamp()),
        holder = '00000000-0000-0000-0000-000000000000'
    where office = %(office)s::text and term = %(term)s::bigint and holder = %(holder)s::uuid
    returning office
)
select pg_notify('pgtasks.leaders', office)::text from gone

-- name: sitting
select office, term, holder::text, node, extract(epoch from since)::float8,
       extract(epoch from clock_timestamp())::float8 - extract(epoch from since)::float8,
       expires_at > clock_timestamp()
from pgtasks.leaders
order by office
