-- What is seen of webhooks beside their events.

-- When a source's webhooks were last verified and refused. Written every few seconds for the sources that had any.
create table webhook_activity (
    source_id uuid primary key references source (id) on delete cascade,
    last_verified_at timestamptz,
    last_refused_at timestamptz,
    n_refused bigint not null default 0,
    n_refused_since_verified bigint not null default 0
) with (fillfactor = 50);

-- When a secret last signed a webhook of its source.
create table secret_activity (
    source_id uuid not null references source (id) on delete cascade,
    -- Part of a hash of the secret: enough to tell a source's secrets apart.
    secret_id bigint not null,
    last_verified_at timestamptz not null,
    primary key (source_id, secret_id)
) with (fillfactor = 50);

-- Webhooks that were refused because of their signature: the last few of each source, for a day.
create table refused_webhook (
    id bigint generated always as identity primary key,
    source_id uuid not null references source (id) on delete cascade,
    received_at timestamptz not null,
    -- The headers that sign, or look as if: a JSON list of names and values.
    headers text not null,
    -- The first 2 KB of the body, and how long it was.
    body bytea not null,
    n_body_bytes bigint not null,
    -- What is probably wrong: a name for programs, and words for people.
    fault text not null,
    explanation text not null
);
create index refused_webhook_source_id_idx on refused_webhook (source_id, id);
