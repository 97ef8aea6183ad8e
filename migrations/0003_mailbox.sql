-- Remote control: commands to workers, and their replies.
--
-- Rows, not notifications, carry the words: anyone who can connect may notify, and a
-- payload ends at 8,000 bytes. Unlogged: whoever sent a command before a crash of the
-- server asks again, and no write-ahead log is spent on pings.

create unlogged table pgtasks.commands (
    id              bigint generated always as identity primary key,
    inserted_at     timestamptz not null default clock_timestamp(),
    expires_at      timestamptz not null,
    -- Made by the sender: a command that is sent again after a lost answer is still one,
    -- and replies are looked for under it.
    key             uuid not null unique,
    wants_reply     boolean not null,
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
    -- The key of the command.
    key             uuid not null,
    worker          uuid not null,
    name            text not null,
    reply           text not null
);

create index replies_key on pgtasks.replies (key);

comment on table pgtasks.replies is 'Remote control: what workers answered lately.';
