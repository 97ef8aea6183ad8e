-- Remote control: commands to workers, and their replies.
--
-- Rows, not notifications, carry the words: anyone who can connect may notify, and a
-- payload ends at 8,000 bytes. Unlogged: whoever sent a command before a crash of the
-- server asks again, and no write-ahead log is spent on pings.

create unlogged table pgtasks.commands (
    id              bigint generated always as identity primary key,
    inserted_at     timestamptz not null default clock_timestamp(),
    expires_at      timestamptz not null,
    -- Under which replies are looked for; null when nobody waits for them.
    reply_to        uuid,
    command         text not null,
    arguments       text not null,
    -- Names of workers; null means all of them.
    destination     text[],
    sender          text not null
);

comment on table pgtasks.commands is 'Remote control: what workers were told lately.';

create unlogged table pgtasks.replies (
    id              bigint generated always as identity primary key,
    expires_at      timestamptz not null,
    reply_to        uuid not null,
    worker          uuid not null,
    name            text not null,
    reply           text not null
);

create index replies_to on pgtasks.replies (reply_to);

comment on table pgtasks.replies is 'Remote control: what workers answered lately.';
